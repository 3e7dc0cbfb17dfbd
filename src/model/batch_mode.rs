//! The way in which a model takes rows: any number at once, a fixed number, or one request at a time.

use crate::model::onnx::graph_io::RowKind;
use crate::tensor::signature::{Dim, TensorSpec, ValueKind};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchMode {
    /// The first dimension of every input and output counts rows, and any number of them fits.
    Any,
    /// The first dimension counts rows and has this length: shorter calls are padded, longer ones are split.
    Fixed(usize),
    /// Only the inputs have it, so the outputs of several rows cannot be separated. The rows of a list run
    /// one by one; whole tensors run as they are.
    PerRow,
    /// Neither inputs nor outputs have it.
    Unbatched,
}

/// The bundle's declaration of the first dimension.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum BatchDimension {
    /// Requests share a call only if the shapes allow it, the names of the first dimensions do not contradict
    /// each other, and calls with made-up rows at load (or the samples) show that each row gives what it
    /// gives alone. Otherwise each request runs alone, and the log, `/info` and `predictd inspect` say why.
    /// The numbers of an input with one dimension (`[4]`, `[length]`) are one vector if their count is fixed,
    /// or if the calls show that they change each other's outputs.
    #[default]
    Auto,
    /// The first dimension counts rows, and each row's result depends on that row alone: requests share
    /// calls.
    Rows,
    /// The first dimension does not count rows: each request runs alone.
    None,
}

impl BatchMode {
    /// The mode that the shapes allow. A trial decides where they leave it open ([`super::sharing`]).
    ///
    /// # Errors
    /// A sentence when the shapes contradict the declaration.
    pub(crate) fn of(
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
        row_kinds: &[RowKind],
        declared: BatchDimension,
    ) -> Result<Self, String> {
        if declared == BatchDimension::None {
            return Ok(Self::Unbatched);
        }
        let is_free = |spec: &TensorSpec| match spec.shape.first() {
            Some(dim) => matches!(dim, Dim::Any(_)),
            None => spec.kind == ValueKind::OpenRank && declared == BatchDimension::Rows,
        };
        let outputs_fit = |fits: &dyn Fn(Option<&Dim>) -> bool| {
            outputs.iter().zip(row_kinds).all(|(spec, kind)| match kind {
                RowKind::Tensor => fits(spec.shape.first()),
                RowKind::Maps => true,
                RowKind::Inseparable => false,
            })
        };
        if !inputs.is_empty() && inputs.iter().all(is_free) {
            // The shape of an output that declares none is known once the model runs.
            let counts_rows = outputs_fit(&|dim| dim.is_none_or(|dim| dim.fixed().is_none()));
            return Ok(if counts_rows || declared == BatchDimension::Rows {
                Self::Any
            } else {
                Self::PerRow
            });
        }
        let length = inputs.first().and_then(|spec| spec.shape.first()?.fixed()).filter(|length| *length > 0);
        if let Some(length) = length {
            let same = |dim: Option<&Dim>| dim == Some(&Dim::Fixed(length));
            let inputs_fit = inputs.iter().all(|spec| same(spec.shape.first()));
            let outputs_fit = outputs_fit(&same);
            let is_vector = inputs.iter().all(|spec| spec.shape.len() == 1);
            let counts_rows = outputs_fit && !(is_vector && length > 1);
            if inputs_fit && length == 1 && !outputs_fit && !is_vector {
                return Ok(Self::PerRow);
            }
            if inputs_fit && (counts_rows || declared == BatchDimension::Rows) {
                return Ok(Self::Fixed(length));
            }
        }
        if declared == BatchDimension::Rows {
            let shapes: Vec<String> =
                inputs.iter().map(|spec| format!("{} {}", spec.name, spec.describe())).collect();
            return Err(format!(
                "batching.dimension is \"rows\", but the inputs' first dimensions are not all free or all of \
                 one length: {}",
                shapes.join(", ")
            ));
        }
        Ok(Self::Unbatched)
    }

    /// True when the first dimension of every input and output counts rows.
    pub fn counts_rows(self) -> bool {
        matches!(self, Self::Any | Self::Fixed(_))
    }

    /// Adds the dimension that counts rows to inputs whose rank the model leaves open.
    pub fn add_to(self, inputs: &mut [TensorSpec]) {
        let has_none = |spec: &&mut TensorSpec| spec.kind == ValueKind::OpenRank && spec.shape.is_empty();
        if self == Self::Any {
            inputs.iter_mut().filter(has_none).for_each(|spec| spec.shape.push(Dim::Any("rows".to_owned())));
        }
    }

    /// An input or output as requests see it: any number of rows fits.
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
        let spec =
            |shape: &&[i64]| TensorSpec::tensor("x", ElementType::F32, shape.iter().map(dim).collect());
        shapes.iter().map(spec).collect()
    }

    #[test]
    fn the_shapes_decide() {
        use BatchDimension::{Auto, None, Rows};
        for (inputs, outputs, kind, declared, expected) in [
            (&[&[-1, 3][..]][..], &[&[-1][..]][..], RowKind::Tensor, Auto, Some(BatchMode::Any)),
            (&[&[-1, 3]], &[&[-1]], RowKind::Tensor, None, Some(BatchMode::Unbatched)),
            (&[&[-1, 3]], &[&[7]], RowKind::Tensor, Auto, Some(BatchMode::PerRow)),
            (&[&[-1, 3]], &[&[7]], RowKind::Tensor, Rows, Some(BatchMode::Any)),
            (&[&[-1, 3]], &[&[]], RowKind::Tensor, Auto, Some(BatchMode::Any)),
            (&[&[-1, 3]], &[&[-1]], RowKind::Inseparable, Auto, Some(BatchMode::PerRow)),
            (&[&[4, 3]], &[&[4, 2]], RowKind::Tensor, Auto, Some(BatchMode::Fixed(4))),
            (&[&[4, 3]], &[&[-1, -1]], RowKind::Maps, Auto, Some(BatchMode::Fixed(4))),
            (&[&[4, 3]], &[&[-1, -1]], RowKind::Tensor, Auto, Some(BatchMode::Unbatched)),
            (&[&[4]], &[&[4]], RowKind::Tensor, Auto, Some(BatchMode::Unbatched)),
            (&[&[4]], &[&[4]], RowKind::Tensor, Rows, Some(BatchMode::Fixed(4))),
            (&[&[1]], &[&[1]], RowKind::Tensor, Auto, Some(BatchMode::Fixed(1))),
            (&[&[1]], &[&[3]], RowKind::Tensor, Auto, Some(BatchMode::Unbatched)),
            (&[&[1, 3]], &[&[1, 2]], RowKind::Tensor, Auto, Some(BatchMode::Fixed(1))),
            (&[&[1, 3]], &[&[-1, -1]], RowKind::Maps, Auto, Some(BatchMode::Fixed(1))),
            (&[&[1, 3]], &[&[-1, 4]], RowKind::Tensor, Auto, Some(BatchMode::PerRow)),
            (&[&[1, 3]], &[&[-1, 4]], RowKind::Tensor, Rows, Some(BatchMode::PerRow)),
            (&[&[1, 3]], &[&[-1, 4]], RowKind::Tensor, None, Some(BatchMode::Unbatched)),
            (&[&[3, 32, 32]], &[&[10]], RowKind::Tensor, Auto, Some(BatchMode::Unbatched)),
            (&[&[4, 3], &[5]], &[&[4]], RowKind::Tensor, Auto, Some(BatchMode::Unbatched)),
            (&[&[4, 3], &[5]], &[&[4]], RowKind::Tensor, Rows, Option::None),
            (&[&[]], &[&[]], RowKind::Tensor, Auto, Some(BatchMode::Unbatched)),
            (&[], &[&[3]], RowKind::Tensor, Auto, Some(BatchMode::Unbatched)),
        ] {
            let mode = BatchMode::of(&specs(inputs), &specs(outputs), &[kind], declared);
            assert_eq!(mode.ok(), expected, "{inputs:?} -> {outputs:?}, {declared:?}");
        }
    }
}
