//! The terms of one run: what it is given, how rows go into calls, and why it fails.

use crate::tensor::View;

/// One input of a call: its shape and its elements; `None` for an optional one that the request leaves out.
pub type Input<'a> = Option<(Vec<usize>, View<'a>)>;

/// The way in which the rows of one or more requests become calls of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMode {
    /// All rows together. The first dimension of every output counts them.
    Rows,
    /// One call for each row. The first dimension of every input counts rows.
    EachRow,
    /// One call with the inputs as they are. Outputs are not split into rows.
    Whole,
}

/// The reason why a run has no result.
#[derive(Debug)]
pub enum RunFailure {
    /// ONNX Runtime's message, or ours where the outputs cannot be joined or formatted.
    Failed(String),
    /// The outputs of all calls together have more elements than a response may have.
    TooLarge,
    /// An output has another number of rows than the inputs, so its rows cannot be assigned to requests.
    /// `is_news` is set the first time.
    NotRows { is_news: bool },
}
