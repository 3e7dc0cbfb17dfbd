//! The `columns` part of `model.yaml`, validated against the model: assembles inputs from the named fields of
//! requests.

use std::collections::HashMap;

use super::declaration::{self, Missing};
use super::mlflow::TableSignature;
use crate::error::Rejection;
use crate::names::with_article;
use crate::tensor::signature::{ColumnRules, Dim, TensorSpec};
use crate::tensor::{ElementType, Elements, Tensor};

#[derive(Debug)]
pub(crate) struct Columns {
    /// The inputs of requests: first the fields, then the model's inputs that have no columns.
    pub(crate) requested: Vec<TensorSpec>,
    /// The fields that a row may omit, with the values that they then have.
    missing: Vec<(usize, Elements)>,
    /// The fields of floats that a row must not omit.
    never_missing: Vec<usize>,
    /// The source of each of the model's inputs.
    sources: Vec<InputSource>,
}

#[derive(Debug)]
enum InputSource {
    /// A tensor of the request, unchanged.
    Whole(usize),
    /// These fields, as the elements of a row.
    Fields { fields: Vec<Field>, element: ElementType, shape: Vec<usize> },
}

#[derive(Debug)]
struct Field {
    /// The position of its tensor in the request.
    requested: usize,
    categories: Option<Categories>,
}

#[derive(Debug)]
struct Categories {
    /// The name of the column.
    name: String,
    positions: HashMap<String, Elements>,
    /// The value for strings without a position.
    unknown: Option<Elements>,
}

impl Columns {
    /// Validates the declaration and adds every problem to `problems`.
    pub(crate) fn new(
        declared: &[declaration::Column],
        inputs: &[TensorSpec],
        problems: &mut Vec<String>,
    ) -> Self {
        let mut columns = Self {
            requested: Vec::new(),
            missing: Vec::new(),
            never_missing: Vec::new(),
            sources: Vec::new(),
        };
        let mut of_input: Vec<Vec<Field>> = inputs.iter().map(|_| Vec::new()).collect();
        for (number, column) in declared.iter().enumerate() {
            let mut problem = |text: String| problems.push(format!("columns[{number}]: {text}"));
            let input = match (&column.input, inputs) {
                (Some(name), _) => inputs.iter().position(|input| input.name == *name),
                (None, [_]) => Some(0),
                (None, _) => None,
            };
            let Some(input) = input else {
                let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
                problem(format!("input: expected one of {names:?}, got {:?}", column.input));
                continue;
            };
            if columns.requested.iter().any(|known| known.name == column.name) {
                problem(format!("name: expected each column once, got {:?} twice", column.name));
            }
            let model_element = inputs[input].element;
            let element = if column.categories.is_some() { ElementType::String } else { model_element };
            let requested = columns.requested.len();
            if column.missing.is_none() && element.is_float() {
                columns.never_missing.push(requested);
            }
            if let Some(missing) = &column.missing {
                match missing_value(missing, element) {
                    Some(value) => columns.missing.push((requested, value)),
                    None => problem(format!(
                        "missing: expected {}, got {missing}",
                        with_article(&element.to_string())
                    )),
                }
            }
            let categories = column.categories.as_ref().and_then(|known| {
                check_categories(column, known, &mut problem);
                let categories = Categories::of(column, known, model_element);
                if categories.is_none() {
                    problem(format!(
                        "categories: their positions do not fit the input's type {model_element}"
                    ));
                }
                categories
            });
            if column.unknown.is_some() && column.categories.is_none() {
                problem("unknown: expected categories beside it, got none".to_owned());
            }
            let shape = vec![Dim::Any("rows".to_owned())];
            columns.requested.push(TensorSpec::tensor(&column.name, element, shape));
            of_input[input].push(Field { requested, categories });
        }
        for (input, fields) in inputs.iter().zip(of_input) {
            columns.add_input(input, fields, problems);
        }
        columns
    }

    /// The part of the signature that the columns make.
    pub(crate) fn table(&self) -> TableSignature {
        let column_rules =
            ColumnRules { never_missing: self.never_missing.clone(), ..ColumnRules::default() };
        TableSignature { columns: None, column_rules, missing: self.missing.clone() }
    }

    /// The name of the column that makes this element of a row of an input.
    pub(crate) fn name(&self, input: usize, element: usize) -> Option<&String> {
        match self.sources.get(input)? {
            InputSource::Whole(_) => None,
            InputSource::Fields { fields, .. } => Some(&self.requested[fields.get(element)?.requested].name),
        }
    }

    fn add_input(&mut self, input: &TensorSpec, fields: Vec<Field>, problems: &mut Vec<String>) {
        if fields.is_empty() {
            self.sources.push(InputSource::Whole(self.requested.len()));
            let mut spec = input.clone();
            if let Some(first) = spec.shape.first_mut() {
                *first = Dim::Any("rows".to_owned());
            }
            self.requested.push(spec);
            return;
        }
        let shape = match &input.shape[..] {
            [_] if fields.len() == 1 => Some(vec![]),
            [_, Dim::Fixed(width)] if *width == fields.len() => Some(vec![*width]),
            [_, Dim::Any(_)] => Some(vec![fields.len()]),
            _ => None,
        };
        match shape {
            Some(shape) => self.sources.push(InputSource::Fields { fields, element: input.element, shape }),
            None => problems.push(format!(
                "columns: expected as many as the input {:?} takes ({}), got {}",
                input.name,
                input.describe(),
                fields.len()
            )),
        }
    }

    /// Replaces the tensors of a request of `rows` rows by the model's.
    ///
    /// # Errors
    /// The first string that is no category.
    pub(crate) fn assemble(&self, given: &mut Vec<Option<Tensor>>, rows: usize) -> Result<(), Rejection> {
        let mut tensors = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            tensors.push(match source {
                InputSource::Whole(index) => given[*index].take(),
                InputSource::Fields { fields, element, shape } => {
                    let mut elements = Elements::with_capacity(*element, rows * fields.len());
                    for row in 0..rows {
                        for field in fields {
                            let Some(column) = &given[field.requested] else {
                                unreachable!("a column is never optional")
                            };
                            field.append(&column.elements, row, &mut elements)?;
                        }
                    }
                    Some(Tensor { shape: [&[rows], &shape[..]].concat(), elements })
                }
            });
        }
        *given = tensors;
        Ok(())
    }
}

/// The value of a missing field; `None` if the type has no such value.
fn missing_value(missing: &Missing, element: ElementType) -> Option<Elements> {
    match missing {
        Missing::String(text) if element.is_float() && is_nan(text) => Elements::of_number(element, f64::NAN),
        Missing::String(text) if element == ElementType::String => Some(Elements::String(vec![text.clone()])),
        Missing::Number(value) => Elements::of_number(element, *value),
        Missing::String(_) => None,
    }
}

/// True for YAML's spelling of NaN and for that of requests.
fn is_nan(text: &str) -> bool {
    text.strip_prefix('.').unwrap_or(text).eq_ignore_ascii_case("nan")
}

fn check_categories(column: &declaration::Column, known: &[String], problem: &mut impl FnMut(String)) {
    if known.is_empty() {
        problem("categories: expected at least one, got none".to_owned());
    }
    for (at, name) in known.iter().enumerate() {
        if known[..at].contains(name) {
            problem(format!("categories: expected each once, got {name:?} twice"));
        }
    }
    if let (Some(Missing::String(name)), None) = (&column.missing, column.unknown)
        && !known.contains(name)
    {
        problem(format!("missing: expected one of the categories, got {name:?}; or declare `unknown`"));
    }
}

impl Categories {
    /// `None` if the input's type cannot hold a position or the value for unknown categories.
    fn of(column: &declaration::Column, known: &[String], element: ElementType) -> Option<Self> {
        let value = |number: f64| Elements::of_number(element, number);
        let position = |(at, name): (usize, &String)| Some((name.clone(), value(at as f64)?));
        let positions = known.iter().enumerate().map(position).collect::<Option<_>>()?;
        let unknown = match column.unknown {
            Some(number) => Some(value(number)?),
            None => None,
        };
        Some(Self { name: column.name.clone(), positions, unknown })
    }
}

impl Field {
    fn append(&self, given: &Elements, row: usize, out: &mut Elements) -> Result<(), Rejection> {
        let Some(categories) = &self.categories else {
            out.extend_from(given, row..row + 1);
            return Ok(());
        };
        let Elements::String(texts) = given else { unreachable!("categories are requested as strings") };
        let text = &texts[row];
        let Some(value) = categories.positions.get(text).or(categories.unknown.as_ref()) else {
            let mut known: Vec<&str> = categories.positions.keys().map(String::as_str).collect();
            known.sort_unstable();
            known.truncate(20);
            return Err(Rejection::invalid(format!(
                "[{row}][{:?}]: expected one of {known:?}, got {text:.100?}",
                categories.name
            )));
        };
        out.extend_from_view(value.view());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bundle::declaration::Declaration;

    fn columns(yaml: &str) -> Result<Columns, String> {
        let rows = Dim::Any("N".to_owned());
        let shape = vec![rows, Dim::Fixed(2)];
        let input = TensorSpec::tensor("x", ElementType::F32, shape);
        let mut problems = Vec::new();
        let columns = Columns::new(&Declaration::parse(yaml)?.columns, &[input], &mut problems);
        if problems.is_empty() { Ok(columns) } else { Err(problems.join("; ")) }
    }

    #[test]
    fn a_missing_float_may_be_nan_in_every_spelling() {
        for nan in [".nan", ".NaN", "NaN", "nan", "\"NaN\"", "'.nan'"] {
            let columns = columns(&format!("columns: [{{name: a, missing: {nan}}}, {{name: b}}]")).unwrap();
            let [(0, Elements::F32(values))] = &columns.missing[..] else { panic!("{columns:?}") };
            assert!(values[0].is_nan(), "{nan}");
            assert_eq!(columns.never_missing, [1]);
        }
        let text = columns("columns: [{name: a, missing: none}, {name: b}]").unwrap_err();
        assert_eq!(text, "columns[0]: missing: expected a float32, got \"none\"");
    }

    #[test]
    fn a_missing_value_is_a_category_unless_unknown_ones_have_a_value() {
        let yaml = "columns: [{name: a, categories: [r, s], missing: q}, {name: b}]";
        let text = columns(yaml).unwrap_err();
        assert_eq!(
            text,
            "columns[0]: missing: expected one of the categories, got \"q\"; or declare `unknown`"
        );
        assert!(columns(&yaml.replace("missing: q", "missing: q, unknown: 9")).is_ok());
        assert!(columns(&yaml.replace("missing: q", "missing: s")).is_ok());
    }
}
