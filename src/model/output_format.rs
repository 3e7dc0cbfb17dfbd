//! The `output` part of `model.yaml`: which outputs a response shows, under which names, and how.

use std::path::Path;

use half::{bf16, f16};

use crate::model::batch_mode::Rows;
use crate::model::bundle::declaration::{Activation, Shown};
use crate::tensor::signature::{Dim, TensorSpec};
use crate::tensor::{ElementType, Elements, Output, Show, View};

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
    /// Whether the labels name the whole numbers that are the elements, as far as the shape is declared.
    names_classes: bool,
}

impl Present {
    /// Adds every problem that it finds to `problems`.
    pub(crate) fn new(
        declared: &[Shown],
        outputs: &[TensorSpec],
        rows: Rows,
        folder: &Path,
        problems: &mut Vec<String>,
    ) -> Self {
        let counts_rows = matches!(rows, Rows::Any | Rows::Fixed(_));
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
            // What one row has. An output without dimensions may also be one whose shape the model does not tell.
            let row = if counts_rows { spec.shape.get(1..) } else { Some(&spec.shape[..]) };
            let is_one_value = counts_rows && row.is_some_and(<[Dim]>::is_empty);
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
            let names_classes = labels.as_ref().is_some_and(|labels| {
                is_whole(spec.element)
                    && match row {
                        Some([]) => true,
                        Some([Dim::Fixed(1)]) => labels.len() > 1,
                        _ => false,
                    }
            });
            let ranked = shown.top.is_some() || shown.threshold.is_some();
            let is_softmax = shown.activation == Activation::Softmax;
            let about = || format!("{:?} ({})", spec.name, spec.describe());
            if is_one_value && is_softmax {
                problem(format!(
                    "activation: a softmax needs several scores a row, {} has one value a row",
                    about()
                ));
            }
            if ranked && (is_one_value || names_classes && !spec.shape.is_empty()) {
                problem(format!(
                    "top and threshold: expected several scores a row, {} has one value a row",
                    about()
                ));
            }
            if spec.element == ElementType::String && labels.is_some() {
                problem(format!("labels: expected an output of numbers, got {}", about()));
            } else if is_one_value && labels.is_some() && !names_classes {
                problem(format!(
                    "labels: expected several scores a row, or a class's position as a whole number, {} has one value a row",
                    about()
                ));
            }
            if let (Some(labels), Some(Dim::Fixed(width))) = (&labels, row.unwrap_or_default().last())
                && labels.len() != *width
                && !names_classes
            {
                let is_blank = labels.last().is_some_and(String::is_empty);
                problem(format!(
                    "labels: expected {width}, one for each score of {:?} ({}), got {}{}",
                    spec.name,
                    spec.describe(),
                    labels.len(),
                    if is_blank { "; the last one is an empty line" } else { "" }
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
            if ranked && matches!(spec.element, ElementType::String) {
                problem(format!("top and threshold: expected an output of numbers, got {}", spec.describe()));
            }
            all.push(Presented {
                from,
                name: shown.name.clone().unwrap_or_else(|| shown.from.clone()),
                activation: shown.activation,
                labels,
                ranking: ranked
                    .then(|| (shown.top.unwrap_or(usize::MAX), shown.threshold.unwrap_or(f64::NEG_INFINITY))),
                names_classes,
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
    pub(crate) fn specs(&self, outputs: &[TensorSpec]) -> Vec<TensorSpec> {
        if self.0.is_empty() {
            return outputs.to_vec();
        }
        self.0
            .iter()
            .map(|presented| {
                let mut spec = outputs[presented.from].clone();
                spec.name.clone_from(&presented.name);
                if presented.names_classes {
                    spec.element = ElementType::String;
                } else if presented.activation != Activation::None {
                    spec.element = activated(spec.element);
                }
                spec
            })
            .collect()
    }

    /// Lends the outputs as they are shown. `has_rows`: their first dimension counts rows, which have nothing to do with each other.
    ///
    /// # Errors
    /// A sentence when an output's innermost dimension is not as long as its list of labels, no label has the number of a class, or
    /// a row has one value where several are needed.
    pub(crate) fn apply<T>(
        &self,
        outputs: &[Output<'_>],
        has_rows: bool,
        use_outputs: impl FnOnce(&[Output<'_>]) -> T,
    ) -> Result<T, String> {
        if self.0.is_empty() {
            return Ok(use_outputs(outputs));
        }
        let row = |output: &Output<'_>| -> Vec<usize> {
            let inner = if has_rows { output.shape.get(1..) } else { Some(output.shape) };
            inner.unwrap_or_default().to_vec()
        };
        let mut computed: Vec<Option<Elements>> = Vec::with_capacity(self.0.len());
        for presented in &self.0 {
            let output = &outputs[presented.from];
            let row = row(output);
            computed.push(match presented.classes(output, &row) {
                Some(labels) => Some(class_names(&presented.name, output.elements, labels)?),
                None => activate(presented.activation, output.elements, row.last().copied().unwrap_or(1)),
            });
        }
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
            let row = row(&output);
            let elements = computed.as_ref().map_or(output.elements, Elements::view);
            if presented.classes(&output, &row).is_some() {
                shown.push(Output { name: &presented.name, elements, ..output });
                continue;
            }
            let softens = presented.activation == Activation::Softmax;
            if row.is_empty() && (softens || presented.labels.is_some() || presented.ranking.is_some()) {
                return Err(format!(
                    "output {:?}: softmax, labels, top and threshold need several scores, got one value of type {}",
                    presented.name,
                    output.elements.element()
                ));
            }
            let width = row.last().copied().unwrap_or(1);
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
            shown.push(Output { name: &presented.name, elements, show, ..output });
        }
        Ok(use_outputs(&shown))
    }
}

impl Presented {
    /// The labels, where they name the classes whose numbers are the output's elements: one whole number a row.
    fn classes(&self, output: &Output<'_>, row: &[usize]) -> Option<&[String]> {
        let labels = self.labels.as_deref()?;
        let is_one = row.is_empty() || *row == [1] && labels.len() > 1;
        let are_values = matches!(output.show, Show::Values) && self.ranking.is_none();
        (is_one && are_values && is_whole(output.elements.element())).then_some(labels)
    }
}

fn is_whole(element: ElementType) -> bool {
    use ElementType::{I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(element, I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64)
}

/// The label of each class.
fn class_names(output: &str, classes: View<'_>, labels: &[String]) -> Result<Elements, String> {
    // No list of labels is so long that its positions are not exact.
    let name = |class: f64| {
        let label = (class >= 0.0).then(|| labels.get(class as usize)).flatten();
        let most = labels.len().saturating_sub(1);
        label
            .cloned()
            .ok_or_else(|| format!("output {output:?}: expected a class from 0 to {most}, got {class}"))
    };
    classes.to_f64().into_iter().map(name).collect::<Result<_, _>>().map(Elements::String)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bundle::declaration::Declaration;
    use crate::tensor::signature::ValueKind;

    fn present(yaml: &str, element: ElementType, shape: &[i64], rows: Rows) -> (Present, String) {
        let dim = |n: &i64| usize::try_from(*n).map_or_else(|_| Dim::Any("n".to_owned()), Dim::Fixed);
        let shape = shape.iter().map(dim).collect();
        let spec = TensorSpec { name: "y".to_owned(), element, shape, kind: ValueKind::Tensor };
        let declaration = Declaration::parse(&format!("output: [{{from: y, {yaml}}}]")).unwrap();
        let mut problems = Vec::new();
        let present = Present::new(&declaration.output, &[spec], rows, Path::new(""), &mut problems);
        (present, problems.join("; "))
    }

    #[test]
    fn what_needs_several_scores_is_refused_for_one_value_a_row() {
        use ElementType::{F32, I64};
        let cat = "labels: [cat, dog, cow]";
        for (yaml, element, shape, rows, says) in [
            ("activation: softmax", F32, &[-1][..], Rows::Any, "a softmax needs several scores a row"),
            ("activation: softmax", F32, &[4], Rows::Fixed(4), "a softmax needs several scores a row"),
            ("top: 1", F32, &[-1], Rows::Any, "top and threshold: expected several scores"),
            ("threshold: 0.5", I64, &[-1], Rows::Any, "top and threshold: expected several scores"),
            (cat, F32, &[-1], Rows::Any, "labels: expected several scores a row"),
            (cat, ElementType::String, &[-1], Rows::Any, "labels: expected an output of numbers"),
            (cat, ElementType::String, &[-1, 3], Rows::Any, "labels: expected an output of numbers"),
            ("labels: [cat, dog, cow], top: 1", I64, &[-1, 1], Rows::Any, "top and threshold"),
            (cat, F32, &[-1, 1], Rows::Any, "labels: expected 1, one for each score"),
            (cat, I64, &[-1, 2], Rows::Any, "labels: expected 2"),
            ("labels: [cat, dog, \"\"]", F32, &[-1, 2], Rows::Any, "got 3; the last one is an empty line"),
            // What means something.
            ("activation: sigmoid", F32, &[-1], Rows::Any, ""),
            (cat, I64, &[-1], Rows::Any, ""),
            (cat, I64, &[-1, 1], Rows::Any, ""),
            (cat, I64, &[4], Rows::Fixed(4), ""),
            (cat, F32, &[-1, 3], Rows::Any, ""),
            (cat, F32, &[3], Rows::One, ""),
            ("activation: softmax, top: 1", F32, &[3], Rows::One, ""),
        ] {
            let (_, problems) = present(yaml, element, shape, rows);
            assert!(problems.contains(says) && says.is_empty() == problems.is_empty(), "{yaml}: {problems}");
        }
    }

    fn apply(
        present: &Present,
        shape: &[usize],
        elements: View<'_>,
        has_rows: bool,
    ) -> Result<(Elements, Vec<usize>), String> {
        let output = [Output { name: "y", shape, elements, show: Show::Values }];
        present.apply(&output, has_rows, |shown| {
            let mut own = Elements::with_capacity(shown[0].elements.element(), 0);
            own.extend_from_view(shown[0].elements);
            (own, shown[0].shape.to_vec())
        })
    }

    #[test]
    fn labels_name_the_classes_of_whole_numbers() {
        let labels = "labels: [cat, dog, cow]";
        let (classes, _) = present(labels, ElementType::I64, &[-1, 1], Rows::Any);
        for shape in [&[2][..], &[2, 1]] {
            let named = apply(&classes, shape, View::I64(&[2, 0]), true).unwrap();
            assert_eq!(named, (Elements::String(vec!["cow".to_owned(), "cat".to_owned()]), shape.to_vec()));
        }
        for class in [-1, 3] {
            let error = apply(&classes, &[2], View::I64(&[0, class]), true).unwrap_err();
            assert!(error.contains(&format!("expected a class from 0 to 2, got {class}")), "{error}");
        }
        // The shape that the model does not declare.
        let (softmax, problems) = present("activation: softmax", ElementType::F32, &[], Rows::Any);
        assert_eq!(problems, "");
        let error = apply(&softmax, &[2], View::F32(&[0.5, 1.0]), true).unwrap_err();
        assert!(error.contains("need several scores"), "{error}");
        let (own, _) = apply(&softmax, &[2], View::F32(&[0.5, 0.5]), false).unwrap();
        assert_eq!(own, Elements::F32(vec![0.5, 0.5]));
    }
}
