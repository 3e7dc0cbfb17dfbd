//! A decoded request, and what its response must look like.

use std::time::Duration;

use crate::error::Rejection;
use crate::tensor::Tensor;

#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The model's inputs, in the model's order; `None` for an optional one that the request leaves out.
    pub inputs: Vec<Option<Tensor>>,
    /// Rows in each input, at least 1. If rows run one by one, each input has this many times the elements of
    /// its shape.
    pub rows: usize,
    /// Each row's own length in each padded dimension, in the signature's order; empty if no output is
    /// unpadded.
    pub lengths: Vec<Vec<usize>>,
    /// Time in which the sender wants the response, by its own clock (v2's `timeout`).
    pub timeout: Option<Duration>,
    pub response: ResponseSpec,
}

impl Request {
    /// Bytes of memory that its inputs use.
    pub fn bytes(&self) -> usize {
        self.inputs.iter().flatten().map(|tensor| tensor.elements.bytes()).sum()
    }

    /// Adds the rows of `other`, for a model whose rows share calls. Returns it where its rows have another
    /// shape.
    pub fn append(&mut self, mut other: Self) -> Option<Self> {
        let has_row_shape = |(own, more): (&Option<Tensor>, &Option<Tensor>)| match (own, more) {
            (Some(own), Some(more)) => own.shape.get(1..) == more.shape.get(1..),
            (own, more) => own.is_none() && more.is_none(),
        };
        if !self.inputs.iter().zip(&other.inputs).all(has_row_shape) {
            return Some(other);
        }
        for (own, more) in self.inputs.iter_mut().flatten().zip(other.inputs.iter_mut().flatten()) {
            own.elements.append(&mut more.elements);
            own.shape[0] += more.shape[0];
        }
        for (own, more) in self.lengths.iter_mut().zip(other.lengths) {
            own.extend(more);
        }
        self.rows += other.rows;
        None
    }
}

/// The response body that a request asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseSpec {
    pub protocol: Protocol,
    pub id: Option<Id>,
}

impl ResponseSpec {
    /// A line for each row of a file.
    pub(super) fn lines() -> Self {
        Self { protocol: Protocol::Lines, id: None }
    }

    /// `{"predictions": …}` without an id, for bodies that are no JSON.
    pub(super) fn rows() -> Self {
        Self { protocol: Protocol::Rows, id: None }
    }
}

/// The protocol of a response, which is that of its request.
#[derive(Debug, Clone, PartialEq)]
pub enum Protocol {
    /// `{"predictions": […]}`: one entry a row.
    Rows,
    /// One entry a row, each ended by a line feed: rows of a file.
    Lines,
    /// `{"outputs": …}`.
    Columns,
    /// `{"predictions": …}` with the outputs of `Columns`, which MLflow's clients look for.
    ColumnsAsPredictions,
    /// Open Inference Protocol v2.
    V2 {
        /// Empty: all outputs.
        outputs: Vec<RequestedOutput>,
        /// Binary data for all outputs that do not say otherwise.
        binary: bool,
    },
}

/// An output that a v2 request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedOutput {
    pub name: String,
    /// Binary data or JSON; `None` if the request does not say it for this output.
    pub binary: Option<bool>,
}

/// The body's `id`, which the response repeats as the same JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    String(String),
    /// A JSON number, in the request's own spelling.
    Number(String),
}

impl Id {
    /// The id without quotes.
    pub fn as_str(&self) -> &str {
        match self {
            Self::String(text) | Self::Number(text) => text,
        }
    }
}

/// The reason to refuse a body, and its `id` if one was found, for the error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub rejection: Rejection,
    pub id: Option<Id>,
}
