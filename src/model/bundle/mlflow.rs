//! MLflow's pandas signature, validated against the model's inputs: the columns of a row, their order and
//! their types.

use crate::names::with_article;
use crate::tensor::signature::{ColumnRule, ColumnRules, ColumnType, Dim, TensorSpec, ValueKind};
use crate::tensor::{ElementType, Elements};

/// A column that `MLmodel` declares.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    /// `double`, `long`, `string` and so on.
    pub kind: String,
    pub required: bool,
}

/// The part of a model's signature that columns make.
#[derive(Debug, Default)]
pub(crate) struct TableSignature {
    /// The columns of the only input `[rows, columns]`; `None` if each column is an input of its own.
    pub(crate) columns: Option<Vec<String>>,
    pub(crate) column_rules: ColumnRules,
    /// The inputs that a row may omit, with the values that they then have.
    pub(crate) missing: Vec<(usize, Elements)>,
}

impl TableSignature {
    /// Validates the columns and adds every problem to `problems`.
    pub(crate) fn new(columns: &[Column], inputs: &[TensorSpec], problems: &mut Vec<String>) -> Self {
        let mut problem = |text: String| problems.push(format!("the signature in \"MLmodel\": {text}"));
        for (number, column) in columns.iter().enumerate() {
            if columns[..number].iter().any(|earlier| earlier.name == column.name) {
                problem(format!("expected each column once, got {:?} twice", column.name));
            }
        }
        // Each column may be the name of an input.
        let place = |column: &Column| inputs.iter().position(|input| input.name == column.name);
        if let Some(places) = columns.iter().map(place).collect::<Option<Vec<usize>>>() {
            return Self::of_inputs(columns, &places, inputs, problem);
        }
        let input = match inputs {
            [input] if input.shape.len() == 2 => input,
            _ => {
                problems.push(
                    "the bundle names columns, but the model has not one input [rows, columns]".to_owned(),
                );
                return Self::default();
            }
        };
        if let Dim::Fixed(width) = input.shape[1]
            && width != columns.len()
        {
            problems.push(format!("the bundle names {} columns, the model takes {width}", columns.len()));
            return Self::default();
        }
        let rules = columns.iter().map(|column| column.rule(input, &mut problem)).collect();
        Self {
            columns: Some(columns.iter().map(|column| column.name.clone()).collect()),
            column_rules: ColumnRules { rules, ignores_unknown: true, ..ColumnRules::default() },
            missing: Vec::new(),
        }
    }

    fn of_inputs(
        columns: &[Column],
        places: &[usize],
        inputs: &[TensorSpec],
        mut problem: impl FnMut(String),
    ) -> Self {
        let mut rules = vec![ColumnRule { column_type: ColumnType::Any, required: true }; inputs.len()];
        let mut missing = Vec::new();
        for (column, place) in columns.iter().zip(places) {
            let input = &inputs[*place];
            if input.kind != ValueKind::Tensor || input.shape.is_empty() {
                continue;
            }
            rules[*place] = column.rule(input, &mut problem);
            if let (false, Some(nan)) = (column.required, nan(input.element)) {
                missing.push((*place, nan));
            }
        }
        let mut order = places.to_vec();
        order.extend((0..inputs.len()).filter(|place| !places.contains(place)));
        if order.is_sorted() {
            order.clear();
        }
        Self {
            columns: None,
            column_rules: ColumnRules { order, rules, ignores_unknown: true, ..ColumnRules::default() },
            missing,
        }
    }
}

fn nan(element: ElementType) -> Option<Elements> {
    element.is_float().then(|| Elements::of_number(element, f64::NAN)).flatten()
}

impl Column {
    fn rule(&self, input: &TensorSpec, problem: &mut impl FnMut(String)) -> ColumnRule {
        let element = input.element;
        let kind = self.restriction(element).unwrap_or_else(|| {
            problem(format!(
                "column {:?}: expected a type for the input {:?} ({}), got {}",
                self.name,
                input.name,
                input.describe(),
                self.kind
            ));
            ColumnType::Any
        });
        if !self.required && !element.is_float() {
            problem(format!(
                "column {:?}: a row may omit it (required: false), but {} has no missing value; declare \
                 `columns` with `missing` in \"model.yaml\", or require the column",
                self.name,
                with_article(&element.to_string())
            ));
        }
        ColumnRule { column_type: kind, required: self.required }
    }

    /// The restriction of the input's type by the column's; `None` if they do not go together. MLflow's
    /// nested types restrict nothing.
    fn restriction(&self, element: ElementType) -> Option<ColumnType> {
        let is_text = matches!(element, ElementType::String | ElementType::Bytes | ElementType::Composite);
        match &*self.kind {
            "string" | "binary" | "datetime" => is_text.then_some(ColumnType::Any),
            "boolean" if element == ElementType::Bool => Some(ColumnType::Any),
            "boolean" => (!is_text).then_some(ColumnType::Boolean),
            "integer" | "long" if is_text || element == ElementType::Bool => None,
            "integer" => Some(ColumnType::Integer),
            "long" if element.is_float() => Some(ColumnType::Long),
            "long" => Some(ColumnType::Any),
            "float" | "double" => element.is_float().then_some(ColumnType::Any),
            _ => Some(ColumnType::Any),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, element: ElementType, width: Option<usize>) -> TensorSpec {
        let rows = Dim::Any("N".to_owned());
        let shape = std::iter::once(rows).chain(width.map(Dim::Fixed)).collect();
        TensorSpec::tensor(name, element, shape)
    }

    fn table(columns: &str, inputs: &[TensorSpec]) -> Result<TableSignature, String> {
        let columns = crate::model::bundle::mlmodel::columns(columns).unwrap().unwrap();
        let mut problems = Vec::new();
        let table = TableSignature::new(&columns, inputs, &mut problems);
        if problems.is_empty() { Ok(table) } else { Err(problems.join("; ")) }
    }

    #[test]
    fn columns_that_are_inputs_keep_the_signatures_order() {
        let inputs = [input("a", ElementType::F32, Some(1)), input("b", ElementType::String, Some(1))];
        let found = table(
            r#"[{"type": "string", "name": "b"}, {"type": "long", "name": "a", "required": false}]"#,
            &inputs,
        )
        .unwrap();
        assert_eq!(found.columns, None);
        assert_eq!(found.column_rules.order, [1, 0]);
        assert_eq!(
            found.column_rules.rules[0],
            ColumnRule { column_type: ColumnType::Long, required: false }
        );
        assert_eq!(found.missing[0].0, 0);
        let same =
            table(r#"[{"type": "float", "name": "a"}, {"type": "string", "name": "b"}]"#, &inputs).unwrap();
        assert!(same.column_rules.order.is_empty(), "the model's own order is no other one");
    }

    #[test]
    fn incompatible_types_are_named() {
        let floats = [input("x", ElementType::F32, Some(2))];
        let whole = [input("x", ElementType::I64, Some(2))];
        let says = |columns: &str, inputs: &[TensorSpec]| table(columns, inputs).unwrap_err();
        let text = says(r#"[{"type": "string", "name": "a"}, {"type": "boolean", "name": "b"}]"#, &floats);
        assert_eq!(
            text,
            "the signature in \"MLmodel\": column \"a\": expected a type for the input \"x\" (float32[N, \
             2]), got string"
        );
        let text = says(r#"[{"type": "long", "name": "a"}, {"type": "double", "name": "b"}]"#, &whole);
        assert!(text.contains("column \"b\": expected a type for the input \"x\" (int64[N, 2]), got double"));
        let optional = r#"[{"type": "long", "name": "a", "required": false}, {"type": "long", "name": "b"}]"#;
        assert!(says(optional, &whole).contains("column \"a\": a row may omit it"));
        assert!(table(optional, &floats).unwrap().column_rules.is_optional(0));
        let twice = says(r#"[{"type": "long", "name": "a"}, {"type": "long", "name": "a"}]"#, &whole);
        assert!(twice.contains("expected each column once, got \"a\" twice"));
        let three = says(r#"[{"type": "float", "name": "a"}]"#, &floats);
        assert_eq!(three, "the bundle names 1 columns, the model takes 2");
    }
}
