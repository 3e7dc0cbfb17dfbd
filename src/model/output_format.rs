//! The `output` part of `model.yaml`, validated against the model: the outputs that a response shows, their
//! names and their form.

use std::path::Path;

use super::activation;
use super::batch_mode::BatchMode;
use super::bundle::declaration::{Activation, OutputDeclaration};
use crate::tensor::signature::{Dim, TensorSpec};
use crate::tensor::{ElementType, Elements, Output, Show, View};

/// The outputs of a response; empty: the model's own, unchanged.
#[derive(Debug, Default)]
pub(crate) struct OutputFormat(Vec<FormattedOutput>);

#[derive(Debug)]
struct FormattedOutput {
    /// The position among the model's outputs.
    from: usize,
    name: String,
    activation: Activation,
    labels: Option<Vec<String>>,
    /// The largest number of scores, and the lowest one shown.
    ranking: Option<(usize, f64)>,
    /// True when the declared shape has one whole number a row, which the labels name.
    names_classes: bool,
}

impl OutputFormat {
    /// Validates the declaration and adds every problem to `problems`.
    pub(crate) fn new(
        declared: &[OutputDeclaration],
        outputs: &[TensorSpec],
        mode: BatchMode,
        folder: &Path,
        problems: &mut Vec<String>,
    ) -> Self {
        let counts_rows = mode.counts_rows();
        let mut all = Vec::new();
        for (number, shown) in declared.iter().enumerate() {
            let mut problem = |text: String| problems.push(format!("output[{number}]: {text}"));
            let Some(from) = outputs.iter().position(|output| output.name == shown.from) else {
                let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
                problem(format!("from: expected one of the outputs {names:?}, got {:?}", shown.from));
                continue;
            };
            let spec = &outputs[from];
            all.push(FormattedOutput::check(shown, from, spec, counts_rows, folder, problem));
        }
        for (number, formatted) in all.iter().enumerate() {
            if all[..number].iter().any(|earlier| earlier.name == formatted.name) {
                problems.push(format!("output: expected each name once, got {:?} twice", formatted.name));
            }
        }
        Self(all)
    }

    /// The outputs as a response shows them.
    pub(crate) fn specs(&self, outputs: &[TensorSpec]) -> Vec<TensorSpec> {
        if self.0.is_empty() {
            return outputs.to_vec();
        }
        self.0
            .iter()
            .map(|formatted| {
                let mut spec = outputs[formatted.from].clone();
                spec.name.clone_from(&formatted.name);
                if formatted.names_classes {
                    spec.element = ElementType::String;
                } else if formatted.activation != Activation::None {
                    spec.element = activation::element(spec.element);
                }
                spec
            })
            .collect()
    }

    /// Lends the outputs as a response shows them. `has_rows`: their first dimension counts independent rows.
    ///
    /// # Errors
    /// A sentence when the labels do not fit the innermost dimension or a class, or when a row has one value
    /// where several are needed.
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
        for formatted in &self.0 {
            let output = &outputs[formatted.from];
            let row = row(output);
            computed.push(match formatted.classes(output, &row) {
                Some(labels) => Some(class_names(&formatted.name, output.elements, labels)?),
                None => {
                    activation::apply(formatted.activation, output.elements, row.last().copied().unwrap_or(1))
                }
            });
        }
        let mut shown = Vec::with_capacity(self.0.len());
        for (formatted, computed) in self.0.iter().zip(&computed) {
            let output = outputs[formatted.from];
            if let Show::Missing = output.show {
                shown.push(Output { name: &formatted.name, ..output });
                continue;
            }
            let changes = formatted.activation != Activation::None
                || formatted.labels.is_some()
                || formatted.ranking.is_some();
            if let Show::Sequence(_) | Show::PerRow(_) = output.show
                && changes
            {
                return Err(format!(
                    "output {:?}: expected one tensor to which activation, labels and ranking apply, got \
                     several",
                    formatted.name
                ));
            }
            let row = row(&output);
            let elements = computed.as_ref().map_or(output.elements, Elements::view);
            if formatted.classes(&output, &row).is_some() {
                shown.push(Output { name: &formatted.name, elements, ..output });
                continue;
            }
            let softens = formatted.activation == Activation::Softmax;
            if row.is_empty() && (softens || formatted.labels.is_some() || formatted.ranking.is_some()) {
                return Err(format!(
                    "output {:?}: softmax, labels, top and threshold need several scores, got one value of \
                     type {}",
                    formatted.name,
                    output.elements.element()
                ));
            }
            let width = row.last().copied().unwrap_or(1);
            if let Some(labels) = &formatted.labels
                && labels.len() != width
            {
                return Err(format!(
                    "output {:?}: expected {} values, one a label, got {width}",
                    formatted.name,
                    labels.len()
                ));
            }
            let names = match (&formatted.labels, output.show) {
                (Some(labels), _) => Some(labels.as_slice()),
                (None, Show::Named(names)) => Some(names),
                _ => None,
            };
            let show = match (formatted.ranking, names) {
                (Some((top, threshold)), labels) => Show::Ranked { labels, top, threshold },
                (None, Some(names)) => Show::Named(names),
                (None, None) => output.show,
            };
            shown.push(Output { name: &formatted.name, elements, show, ..output });
        }
        Ok(use_outputs(&shown))
    }
}

impl FormattedOutput {
    /// Validates the declaration of the model's output `spec` and gives every problem to `problem`.
    fn check(
        declared: &OutputDeclaration,
        from: usize,
        spec: &TensorSpec,
        counts_rows: bool,
        folder: &Path,
        mut problem: impl FnMut(String),
    ) -> Self {
        // The shape of one row. `None` for an output without dimensions, whose shape the model may not
        // declare.
        let row = if counts_rows { spec.shape.get(1..) } else { Some(&spec.shape[..]) };
        let is_one_value = counts_rows && row.is_some_and(<[Dim]>::is_empty);
        let shown = format!("{:?} ({})", spec.name, spec.describe());
        if declared.activation != Activation::None && !spec.element.is_float() {
            problem(format!("activation: expected an output of floats, got {shown}"));
        }
        let labels = declared.labels.as_ref().and_then(|labels| match labels.names(folder) {
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
        let is_ranked = declared.top.is_some() || declared.threshold.is_some();
        let is_softmax = declared.activation == Activation::Softmax;
        if is_one_value && is_softmax {
            problem(format!("activation: a softmax needs several scores a row, {shown} has one value a row"));
        }
        if is_ranked && (is_one_value || names_classes && !spec.shape.is_empty()) {
            problem(format!("top and threshold: expected several scores a row, {shown} has one value a row"));
        }
        if spec.element == ElementType::String && labels.is_some() {
            problem(format!("labels: expected an output of numbers, got {shown}"));
        } else if is_one_value && labels.is_some() && !names_classes {
            problem(format!(
                "labels: expected several scores a row, or a class's position as a whole number, {shown} has \
                 one value a row"
            ));
        }
        if let (Some(labels), Some(Dim::Fixed(width))) = (&labels, row.unwrap_or_default().last())
            && labels.len() != *width
            && !names_classes
        {
            let is_blank = labels.last().is_some_and(String::is_empty);
            let end = if is_blank { "; the last one is an empty line" } else { "" };
            let got = labels.len();
            problem(format!("labels: expected {width}, one for each score of {shown}, got {got}{end}"));
        }
        if let (Some(labels), false) = (&labels, is_ranked) {
            let mut seen = std::collections::HashSet::new();
            if let Some(label) = labels.iter().find(|label| !seen.insert(*label)) {
                problem(format!(
                    "labels: expected each once, since they are the keys of an object, got {label:?} twice"
                ));
            }
        }
        if declared.top == Some(0) {
            problem("top: expected 1 or more, got 0".to_owned());
        }
        if is_ranked && matches!(spec.element, ElementType::String) {
            problem(format!("top and threshold: expected an output of numbers, got {}", spec.describe()));
        }
        Self {
            from,
            name: declared.name.clone().unwrap_or_else(|| declared.from.clone()),
            activation: declared.activation,
            labels,
            ranking: is_ranked.then(|| {
                (declared.top.unwrap_or(usize::MAX), declared.threshold.unwrap_or(f64::NEG_INFINITY))
            }),
            names_classes,
        }
    }

    /// The labels, if the output has one whole number a row: the position of a class.
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
    // Positions are exact as float64: no list has 2^53 labels.
    let name = |class: f64| {
        let label = (class >= 0.0).then(|| labels.get(class as usize)).flatten();
        let most = labels.len().saturating_sub(1);
        label
            .cloned()
            .ok_or_else(|| format!("output {output:?}: expected a class from 0 to {most}, got {class}"))
    };
    classes.to_f64().into_iter().map(name).collect::<Result<_, _>>().map(Elements::String)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bundle::declaration::Declaration;

    fn output_format(
        yaml: &str,
        element: ElementType,
        shape: &[i64],
        rows: BatchMode,
    ) -> (OutputFormat, String) {
        let dim = |n: &i64| usize::try_from(*n).map_or_else(|_| Dim::Any("n".to_owned()), Dim::Fixed);
        let shape = shape.iter().map(dim).collect();
        let spec = TensorSpec::tensor("y", element, shape);
        let declaration = Declaration::parse(&format!("output: [{{from: y, {yaml}}}]")).unwrap();
        let mut problems = Vec::new();
        let output_format =
            OutputFormat::new(&declaration.output, &[spec], rows, Path::new(""), &mut problems);
        (output_format, problems.join("; "))
    }

    #[test]
    fn declarations_for_several_scores_are_refused_for_one_value_a_row() {
        use ElementType::{F32, I64, String};
        let cat = "labels: [cat, dog, cow]";
        for (yaml, element, shape, rows, says) in [
            ("activation: softmax", F32, &[-1][..], BatchMode::Any, "a softmax needs several scores a row"),
            ("activation: softmax", F32, &[4], BatchMode::Fixed(4), "a softmax needs several scores a row"),
            ("top: 1", F32, &[-1], BatchMode::Any, "top and threshold: expected several scores"),
            ("threshold: 0.5", I64, &[-1], BatchMode::Any, "top and threshold: expected several scores"),
            (cat, F32, &[-1], BatchMode::Any, "labels: expected several scores a row"),
            (cat, String, &[-1], BatchMode::Any, "labels: expected an output of numbers"),
            (cat, String, &[-1, 3], BatchMode::Any, "labels: expected an output of numbers"),
            ("labels: [cat, dog, cow], top: 1", I64, &[-1, 1], BatchMode::Any, "top and threshold"),
            (cat, F32, &[-1, 1], BatchMode::Any, "labels: expected 1, one for each score"),
            (cat, I64, &[-1, 2], BatchMode::Any, "labels: expected 2"),
            (
                "labels: [cat, dog, \"\"]",
                F32,
                &[-1, 2],
                BatchMode::Any,
                "got 3; the last one is an empty line",
            ),
            // Valid declarations.
            ("activation: sigmoid", F32, &[-1], BatchMode::Any, ""),
            (cat, I64, &[-1], BatchMode::Any, ""),
            (cat, I64, &[-1, 1], BatchMode::Any, ""),
            (cat, I64, &[4], BatchMode::Fixed(4), ""),
            (cat, F32, &[-1, 3], BatchMode::Any, ""),
            (cat, F32, &[3], BatchMode::Unbatched, ""),
            ("activation: softmax, top: 1", F32, &[3], BatchMode::Unbatched, ""),
        ] {
            let (_, problems) = output_format(yaml, element, shape, rows);
            assert!(problems.contains(says) && says.is_empty() == problems.is_empty(), "{yaml}: {problems}");
        }
    }

    fn apply(
        output_format: &OutputFormat,
        shape: &[usize],
        elements: View<'_>,
        has_rows: bool,
    ) -> Result<(Elements, Vec<usize>), String> {
        let output = [Output { name: "y", shape, elements, show: Show::Values }];
        output_format
            .apply(&output, has_rows, |shown| (shown[0].elements.to_elements(), shown[0].shape.to_vec()))
    }

    #[test]
    fn labels_name_the_classes_of_whole_numbers() {
        let labels = "labels: [cat, dog, cow]";
        let (classes, _) = output_format(labels, ElementType::I64, &[-1, 1], BatchMode::Any);
        for shape in [&[2][..], &[2, 1]] {
            let named = apply(&classes, shape, View::I64(&[2, 0]), true).unwrap();
            assert_eq!(named, (Elements::String(vec!["cow".to_owned(), "cat".to_owned()]), shape.to_vec()));
        }
        for class in [-1, 3] {
            let error = apply(&classes, &[2], View::I64(&[0, class]), true).unwrap_err();
            assert!(error.contains(&format!("expected a class from 0 to 2, got {class}")), "{error}");
        }
        // The model does not declare the shape.
        let (softmax, problems) = output_format("activation: softmax", ElementType::F32, &[], BatchMode::Any);
        assert_eq!(problems, "");
        let error = apply(&softmax, &[2], View::F32(&[0.5, 1.0]), true).unwrap_err();
        assert!(error.contains("need several scores"), "{error}");
        let (own, _) = apply(&softmax, &[2], View::F32(&[0.5, 0.5]), false).unwrap();
        assert_eq!(own, Elements::F32(vec![0.5, 0.5]));
    }
}
