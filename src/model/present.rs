//! The `output` part of `model.yaml`: which outputs a response shows, under which names, and how.

use std::path::Path;

use half::{bf16, f16};

use super::declaration::{Activation, Shown};
use crate::tensor::{Dim, ElementType, Elements, Output, Show, TensorSpec, View};

/// The declaration, held against the model's outputs.
#[derive(Debug, Default)]
pub(crate) struct Present(Vec<Presented>);

#[derive(Debug)]
struct Presented {
    /// The position among the model's outputs.
    from: usize,
    name: String,
    activation: Activation,
    labels: Option<Vec<String>>,
    /// How many of the best at most, from which score on.
    ranking: Option<(usize, f64)>,
}

impl Present {
    /// Adds every problem that it finds to `problems`.
    pub(super) fn new(
        declared: &[Shown],
        outputs: &[TensorSpec],
        folder: &Path,
        problems: &mut Vec<String>,
    ) -> Self {
        let mut all = Vec::new();
        for (number, shown) in declared.iter().enumerate() {
            let mut problem = |text: String| problems.push(format!("output[{number}]: {text}"));
            let Some(from) = outputs.iter().position(|output| output.name == shown.from) else {
                let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
                problem(format!("from: expected one of the outputs {names:?}, got {:?}", shown.from));
                continue;
            };
            let spec = &outputs[from];
            let is_float = matches!(
                spec.element,
                ElementType::F16 | ElementType::BF16 | ElementType::F32 | ElementType::F64
            );
            if shown.activation != Activation::None && !is_float {
                problem(format!(
                    "activation: expected an output of floats, got {:?} ({})",
                    spec.name,
                    spec.describe()
                ));
            }
            let labels = shown.labels.as_ref().and_then(|labels| match labels.read(folder) {
                Ok(labels) => Some(labels),
                Err(text) => {
                    problem(text);
                    None
                }
            });
            if let (Some(labels), Some(Dim::Fixed(width))) = (&labels, spec.shape.last())
                && labels.len() != *width
            {
                problem(format!(
                    "labels: expected {width}, one for each score of {:?} ({}), got {}",
                    spec.name,
                    spec.describe(),
                    labels.len()
                ));
            }
            if let (Some(labels), false) = (&labels, shown.top.is_some() || shown.threshold.is_some()) {
                let mut seen = std::collections::HashSet::new();
                if let Some(label) = labels.iter().find(|label| !seen.insert(*label)) {
                    problem(format!(
                        "labels: expected each once, since they are the keys of an object, got {label:?} twice"
                    ));
                }
            }
            if shown.top == Some(0) {
                problem("top: expected 1 or more, got 0".to_owned());
            }
            let ranked = shown.top.is_some() || shown.threshold.is_some();
            if ranked && matches!(spec.element, ElementType::Text) {
                problem(format!("top and threshold: expected an output of numbers, got {}", spec.describe()));
            }
            all.push(Presented {
                from,
                name: shown.name.clone().unwrap_or_else(|| shown.from.clone()),
                activation: shown.activation,
                labels,
                ranking: ranked
                    .then(|| (shown.top.unwrap_or(usize::MAX), shown.threshold.unwrap_or(f64::NEG_INFINITY))),
            });
        }
        for (number, presented) in all.iter().enumerate() {
            if all[..number].iter().any(|earlier| earlier.name == presented.name) {
                problems.push(format!("output: expected each name once, got {:?} twice", presented.name));
            }
        }
        Self(all)
    }

    /// The outputs as a response shows them; the model's own without a declaration.
    pub(super) fn specs(&self, outputs: &[TensorSpec]) -> Vec<TensorSpec> {
        if self.0.is_empty() {
            return outputs.to_vec();
        }
        self.0
            .iter()
            .map(|presented| {
                let mut spec = outputs[presented.from].clone();
                spec.name.clone_from(&presented.name);
                if presented.activation != Activation::None {
                    spec.element = activated(spec.element);
                }
                spec
            })
            .collect()
    }

    /// Lends the outputs as they are shown.
    ///
    /// # Errors
    /// A sentence when an output's innermost dimension is not as long as its list of labels.
    pub(crate) fn apply<T>(
        &self,
        outputs: &[Output<'_>],
        use_outputs: impl FnOnce(&[Output<'_>]) -> T,
    ) -> Result<T, String> {
        if self.0.is_empty() {
            return Ok(use_outputs(outputs));
        }
        let computed: Vec<Option<Elements>> = self
            .0
            .iter()
            .map(|presented| {
                let output = &outputs[presented.from];
                let width = output.shape.last().copied().unwrap_or(1);
                activate(presented.activation, output.elements, width)
            })
            .collect();
        let mut shown = Vec::with_capacity(self.0.len());
        for (presented, computed) in self.0.iter().zip(&computed) {
            let output = outputs[presented.from];
            if let Show::Missing = output.show {
                shown.push(Output { name: &presented.name, ..output });
                continue;
            }
            let changes = presented.activation != Activation::None
                || presented.labels.is_some()
                || presented.ranking.is_some();
            if let Show::Sequence(_) | Show::PerRow(_) = output.show
                && changes
            {
                return Err(format!(
                    "output {:?}: expected one tensor to which activation, labels and ranking apply, got several",
                    presented.name
                ));
            }
            let width = output.shape.last().copied().unwrap_or(1);
            if let Some(labels) = &presented.labels
                && labels.len() != width
            {
                return Err(format!(
                    "output {:?}: expected {} values, one a label, got {width}",
                    presented.name,
                    labels.len()
                ));
            }
            let names = match (&presented.labels, output.show) {
                (Some(labels), _) => Some(labels.as_slice()),
                (None, Show::Named(names)) => Some(names),
                _ => None,
            };
            let show = match (presented.ranking, names) {
                (Some((top, threshold)), labels) => Show::Ranked { labels, top, threshold },
                (None, Some(names)) => Show::Named(names),
                (None, None) => output.show,
            };
            let elements = computed.as_ref().map_or(output.elements, Elements::view);
            shown.push(Output { name: &presented.name, elements, show, ..output });
        }
        Ok(use_outputs(&shown))
    }
}

/// Half floats are computed and shown as float32.
fn activated(element: ElementType) -> ElementType {
    match element {
        ElementType::F64 => ElementType::F64,
        _ => ElementType::F32,
    }
}

fn activate(activation: Activation, scores: View<'_>, width: usize) -> Option<Elements> {
    if activation == Activation::None {
        return None;
    }
    macro_rules! computed {
        ($scores:expr, $variant:ident, $float:ty, $convert:expr) => {{
            let mut all: Vec<$float> = $scores.iter().map($convert).collect();
            match activation {
                Activation::Softmax => {
                    for row in all.chunks_mut(width.max(1)) {
                        // Without the largest, so that no exponential overflows.
                        let largest = row.iter().copied().fold(<$float>::NEG_INFINITY, <$float>::max);
                        row.iter_mut().for_each(|score| *score = (*score - largest).exp());
                        let sum: $float = row.iter().sum();
                        row.iter_mut().for_each(|score| *score /= sum);
                    }
                }
                Activation::Sigmoid => {
                    all.iter_mut().for_each(|score| *score = 1.0 / (1.0 + (-*score).exp()))
                }
                Activation::None => {}
            }
            Some(Elements::$variant(all))
        }};
    }
    match scores {
        View::F64(scores) => computed!(scores, F64, f64, |score: &f64| *score),
        View::F32(scores) => computed!(scores, F32, f32, |score: &f32| *score),
        View::F16(scores) => computed!(scores, F32, f32, |score: &f16| score.to_f32()),
        View::BF16(scores) => computed!(scores, F32, f32, |score: &bf16| score.to_f32()),
        // Refused when the bundle was opened.
        _ => None,
    }
}
