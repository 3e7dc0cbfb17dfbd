//! Outputs of a model, borrowed from ONNX Runtime or from whoever cut or joined them.

use super::elements::View;

/// One output of one batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Output<'a> {
    pub name: &'a str,
    /// The whole shape, the batch dimension included.
    pub shape: &'a [usize],
    pub elements: View<'a>,
    pub show: Show<'a>,
}

impl Output<'_> {
    /// Number of elements, those of its parts included.
    pub fn count(&self) -> usize {
        let parts = match self.show {
            Show::Sequence(parts) | Show::PerRow(parts) => parts.iter().map(Self::count).sum(),
            _ => 0,
        };
        self.elements.len() + parts
    }
}

/// The form that an output has in a response.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Show<'a> {
    /// Nested lists of values.
    #[default]
    Values,
    /// An object for each innermost list, with these names as keys: a probability by class.
    Named(&'a [String]),
    /// A list of tensors, for ONNX's sequences; the output's own `elements` are empty.
    Sequence(&'a [Output<'a>]),
    /// One output a row, when rows ran one by one.
    PerRow(&'a [Output<'a>]),
    /// `null`: an optional output that the model left out.
    Missing,
    /// For each innermost list a list of `{"label", "score"}`, the best first; of `{"index", "score"}`
    /// without labels.
    Ranked { labels: Option<&'a [String]>, top: usize, threshold: f64 },
}
