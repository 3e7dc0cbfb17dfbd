//! How a model takes rows: many at once, a fixed number at a time, or one request at a time.

use crate::signature::{Dim, Kind, TensorSpec};

/// The rule of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// The first dimension of every input and output counts rows, as many as are wanted.
    Any,
    /// It counts rows and is always this long: shorter calls are filled up, longer ones are cut into several.
    Fixed(usize),
    /// Only the inputs have it, so that the outputs of several rows cannot be told apart: the rows of a list run one by one,
    /// whole tensors as they are.
    Single,
    /// There is no such dimension.
    One,
}

/// What a bundle says of it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Declared {
    /// As the shapes tell: a free first dimension everywhere counts rows, and so does one of the same fixed length everywhere, where a
    /// few calls at load show that no row changes another one's outputs and each gives the same in any place. Numbers that are
    /// all that an input has (`[4]`, `[length]`) are a vector where the length is fixed, or where the calls show that they change
    /// each other.
    #[default]
    Auto,
    /// The first dimension counts rows.
    Rows,
    /// It does not: one request at a time.
    None,
}

impl Rows {
    /// What the shapes alone allow; what they leave open is for a trial. `outputs_count_rows` says for each output whether its
    /// kind and shape can tell rows apart when their number is free.
    ///
    /// # Errors
    /// A sentence when the shapes contradict the declaration.
    pub fn of(
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
        outputs_count_rows: bool,
        declared: Declared,
    ) -> Result<Self, String> {
        if declared == Declared::None {
            return Ok(Self::One);
        }
        let firsts = || inputs.iter().map(|spec| spec.shape.first());
        let is_free = |spec: &TensorSpec| match spec.shape.first() {
            Some(dim) => matches!(dim, Dim::Any(_)),
            None => spec.kind == Kind::OpenRank && declared == Declared::Rows,
        };
        let free = !inputs.is_empty() && inputs.iter().all(is_free);
        if free && (outputs_count_rows || declared == Declared::Rows) {
            return Ok(Self::Any);
        }
        if free {
            return Ok(Self::Single);
        }
        let fixed = match firsts().next().flatten() {
            Some(Dim::Fixed(length)) if *length > 0 => Some(*length),
            _ => None,
        };
        if let Some(length) = fixed {
            let same = |dim: Option<&Dim>| dim == Some(&Dim::Fixed(length));
            let outputs_fit = outputs.iter().all(|spec| same(spec.shape.first()));
            let is_vector = length > 1 && inputs.iter().all(|spec| spec.shape.len() == 1);
            if firsts().all(same) && (outputs_fit && !is_vector || declared == Declared::Rows) {
                return Ok(Self::Fixed(length));
            }
        }
        if declared == Declared::Rows {
            let shapes: Vec<String> =
                inputs.iter().map(|spec| format!("{} {}", spec.name, spec.describe())).collect();
            return Err(format!(
                "batching.dimension is \"rows\", but the inputs' first dimensions are not all free or all of one length: {}",
                shapes.join(", ")
            ));
        }
        Ok(Self::One)
    }

    /// Gives inputs whose rank the model leaves open the dimension that counts rows, where there is one.
    pub fn add_to(self, inputs: &mut [TensorSpec]) {
        let has_none = |spec: &&mut TensorSpec| spec.kind == Kind::OpenRank && spec.shape.is_empty();
        if self == Self::Any {
            inputs.iter_mut().filter(has_none).for_each(|spec| spec.shape.push(Dim::Any("rows".to_owned())));
        }
    }

    /// An input or output as requests see it: the number of rows is free.
    pub fn as_requested(self, spec: &TensorSpec) -> TensorSpec {
        let mut spec = spec.clone();
        if let (Self::Fixed(_), Some(first)) = (self, spec.shape.first_mut()) {
            *first = Dim::Any("rows".to_owned());
        }
        spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::ElementType;

    fn specs(shapes: &[&[i64]]) -> Vec<TensorSpec> {
        let dim = |n: &i64| usize::try_from(*n).map_or_else(|_| Dim::Any(String::new()), Dim::Fixed);
        let spec = |shape: &&[i64]| TensorSpec {
            name: "x".to_owned(),
            element: ElementType::F32,
            shape: shape.iter().map(dim).collect(),
            kind: Kind::Tensor,
        };
        shapes.iter().map(spec).collect()
    }

    #[test]
    fn the_shapes_tell() {
        use Declared::{Auto, None, Rows as Declare};
        for (inputs, outputs, count, declared, expected) in [
            (&[&[-1, 3][..]][..], &[&[-1][..]][..], true, Auto, Some(Rows::Any)),
            (&[&[-1, 3]], &[&[-1]], true, None, Some(Rows::One)),
            (&[&[-1, 3]], &[&[7]], false, Auto, Some(Rows::Single)),
            (&[&[-1, 3]], &[&[7]], false, Declare, Some(Rows::Any)),
            (&[&[4, 3]], &[&[4, 2]], false, Auto, Some(Rows::Fixed(4))),
            (&[&[4]], &[&[4]], false, Auto, Some(Rows::One)),
            (&[&[4]], &[&[4]], false, Declare, Some(Rows::Fixed(4))),
            (&[&[1]], &[&[1]], false, Auto, Some(Rows::Fixed(1))),
            (&[&[1, 3]], &[&[1, 2]], false, Auto, Some(Rows::Fixed(1))),
            (&[&[3, 32, 32]], &[&[10]], false, Auto, Some(Rows::One)),
            (&[&[4, 3], &[5]], &[&[4]], false, Auto, Some(Rows::One)),
            (&[&[4, 3], &[5]], &[&[4]], false, Declare, Option::None),
            (&[&[]], &[&[]], false, Auto, Some(Rows::One)),
            (&[], &[&[3]], false, Auto, Some(Rows::One)),
        ] {
            let rows = Rows::of(&specs(inputs), &specs(outputs), count, declared);
            assert_eq!(rows.ok(), expected, "{inputs:?} -> {outputs:?}, {declared:?}");
        }
    }
}
