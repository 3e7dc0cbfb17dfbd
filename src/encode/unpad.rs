//! Removal of padding from outputs: each row has the length that it would have alone.

use crate::decode::{Protocol, Request};
use crate::tensor::signature::{Signature, Unpad};
use crate::tensor::{Elements, Output, Show, View};

/// Lengths of the rows of one request before padding.
#[derive(Debug)]
pub struct Lengths<'a> {
    /// The padded dimensions, by [`Unpad::padding`].
    pub padded: Vec<Padded<'a>>,
    /// True if the padding is before a row's own elements.
    pub padded_before: bool,
}

/// One padded dimension.
#[derive(Debug)]
pub struct Padded<'a> {
    /// Each row's own length.
    pub own: &'a [usize],
    /// The length of all rows with padding.
    pub length: usize,
}

impl<'a> Lengths<'a> {
    /// The lengths of a decoded request.
    pub fn of(request: &'a Request, signature: &Signature) -> Self {
        let padded = signature.padding.iter().zip(&request.lengths).map(|(padding, own)| {
            let input = request.inputs[padding.input].as_ref();
            let length = input.and_then(|input| input.shape.get(padding.axis)).copied().unwrap_or(0);
            Padded { own, length }
        });
        Self { padded: padded.collect(), padded_before: false }
    }
}

/// Lends `outputs` without padding. They have one row for each length. Rows of [`Protocol::Rows`] and
/// [`Protocol::Lines`] are cut to their own lengths, whole tensors to the length of the longest row.
pub fn lend_unpadded<T>(
    protocol: &Protocol,
    unpads: &[Unpad],
    lengths: &Lengths<'_>,
    outputs: &[Output<'_>],
    use_outputs: impl FnOnce(&[Output<'_>]) -> T,
) -> T {
    if unpads.is_empty() {
        return use_outputs(outputs);
    }
    let cut: Vec<Option<Unpadded>> = outputs
        .iter()
        .enumerate()
        .map(|(position, output)| {
            let own = unpads.iter().filter(|unpad| unpad.output == position);
            Unpadded::of(protocol, lengths, output, own)
        })
        .collect();
    let parts: Vec<Vec<Output<'_>>> = outputs
        .iter()
        .zip(&cut)
        .map(|(output, cut)| cut.as_ref().map_or_else(Vec::new, |cut| cut.parts(output)))
        .collect();
    let lent: Vec<Output<'_>> = outputs
        .iter()
        .zip(&parts)
        .zip(&cut)
        .map(|((output, parts), cut)| match cut {
            None => *output,
            Some(Unpadded { elements, whole: Some(shape), .. }) => {
                Output { shape, elements: elements.view(), ..*output }
            }
            Some(Unpadded { whole: None, .. }) => {
                Output { shape: &[0], elements: View::U8(&[]), show: Show::PerRow(parts), ..*output }
            }
        })
        .collect();
    use_outputs(&lent)
}

/// The rows of one output without padding, side by side.
struct Unpadded {
    elements: Elements,
    /// The shape of each row.
    rows: Vec<Vec<usize>>,
    /// The shape of all rows together; `None` if they differ in length.
    whole: Option<Vec<usize>>,
}

impl Unpadded {
    /// `None` if the output has no padding.
    fn of<'u>(
        protocol: &Protocol,
        lengths: &Lengths<'_>,
        output: &Output<'_>,
        unpads: impl Iterator<Item = &'u Unpad>,
    ) -> Option<Self> {
        if !matches!(output.show, Show::Values | Show::Named(_) | Show::Ranked { .. }) {
            return None;
        }
        let (count, row) = output.shape.split_first()?;
        // A dimension with another length than the padded one has its name by mistake.
        let is_padded = |unpad: &&Unpad| {
            lengths.padded.get(unpad.padding).is_some_and(|padded| {
                row.get(unpad.axis - 1) == Some(&padded.length) && padded.own.len() == *count
            })
        };
        let unpads: Vec<&Unpad> = unpads.filter(is_padded).collect();
        let kept = |number: usize| {
            let mut kept = row.to_vec();
            for unpad in &unpads {
                kept[unpad.axis - 1] = lengths.padded[unpad.padding].own[number];
            }
            kept
        };
        let mut rows: Vec<Vec<usize>> = (0..*count).map(kept).collect();
        if rows.iter().all(|kept| *kept == *row) {
            return None;
        }
        let longest = |axis| rows.iter().map(|kept: &Vec<usize>| kept[axis]).max().unwrap_or(0);
        let whole: Vec<usize> = (0..row.len()).map(longest).collect();
        let is_ragged =
            matches!(protocol, Protocol::Rows | Protocol::Lines) && rows.iter().any(|kept| *kept != whole);
        if !is_ragged {
            rows.fill(whole.clone());
        }
        let width: usize = row.iter().product();
        let mut elements = Elements::with_capacity(output.elements.element(), 0);
        for (number, kept) in rows.iter().enumerate() {
            let own = output.elements.slice(number * width..(number + 1) * width);
            extend_corner(&mut elements, own, row, kept, lengths.padded_before);
        }
        let whole = (!is_ragged).then(|| [&[*count], &whole[..]].concat());
        Some(Self { elements, rows, whole })
    }

    /// One output a row, if they differ in length.
    fn parts<'a>(&'a self, output: &Output<'a>) -> Vec<Output<'a>> {
        if self.whole.is_some() {
            return Vec::new();
        }
        let mut end = 0;
        let part = |shape: &'a Vec<usize>| {
            let begin = end;
            end += shape.iter().product::<usize>();
            Output { shape, elements: self.elements.view().slice(begin..end), ..*output }
        };
        self.rows.iter().map(part).collect()
    }
}

/// Appends the first `kept` of every dimension of `elements`, which have this `shape`; the last ones if
/// `last`.
fn extend_corner(out: &mut Elements, elements: View<'_>, shape: &[usize], kept: &[usize], last: bool) {
    if shape == kept {
        out.extend_from_view(elements);
        return;
    }
    let width: usize = shape[1..].iter().product();
    let begin = if last { shape[0] - kept[0] } else { 0 };
    for index in begin..begin + kept[0] {
        let inner = elements.slice(index * width..(index + 1) * width);
        extend_corner(out, inner, &shape[1..], &kept[1..], last);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::decode::{Limits, decode};
    use crate::encode::{ServedModel, response};
    use crate::tensor::ElementType;
    use crate::tensor::signature::{Dim, PadTo, Padding, TensorSpec, ValueKind};

    /// `ids` of any length, padded to multiples of four, and an output of the same dimension.
    fn echo() -> Signature {
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            element: ElementType::I64,
            shape: ["rows", "tokens"].map(|dim| Dim::Any(dim.to_owned())).to_vec(),
            kind: ValueKind::Tensor,
        };
        let padding =
            vec![Padding { input: 0, axis: 1, value: Elements::I64(vec![0]), to: PadTo::Multiple(4) }];
        let (inputs, outputs) = (vec![spec("ids")], vec![spec("echo")]);
        Signature {
            unpads: Signature::find_unpads(&inputs, &outputs, &padding),
            inputs,
            outputs,
            padding,
            batched: true,
            ..Signature::default()
        }
    }

    fn predict(body: &Value) -> Value {
        let signature = echo();
        let request = decode(body.to_string().as_bytes(), &signature, &Limits::DEFAULT).unwrap();
        let input = request.inputs[0].as_ref().unwrap();
        assert_eq!(input.shape[1] % 4, 0);
        let output =
            Output { name: "echo", shape: &input.shape, elements: input.elements.view(), show: Show::Values };
        let served = ServedModel { model: "m", version: "1", batched: true };
        let (protocol, lengths) = (&request.response.protocol, Lengths::of(&request, &signature));
        let body = lend_unpadded(protocol, &signature.unpads, &lengths, &[output], |outputs| {
            response(&request.response, outputs, &served)
        });
        serde_json::from_slice(&body.unwrap().bytes).unwrap()
    }

    #[test]
    fn only_dimensions_with_the_name_of_a_padded_one_are_unpadded() {
        let Signature { mut inputs, mut outputs, padding, .. } = echo();
        assert_eq!(
            Signature::find_unpads(&inputs, &outputs, &padding),
            [Unpad { output: 0, axis: 1, padding: 0 }]
        );
        outputs[0].shape[1] = Dim::Any("others".to_owned());
        assert_eq!(Signature::find_unpads(&inputs, &outputs, &padding), []);
        // Dimensions without names do not match.
        inputs[0].shape[1] = Dim::Any(String::new());
        outputs[0].shape[1] = Dim::Any(String::new());
        assert_eq!(Signature::find_unpads(&inputs, &outputs, &padding), []);
    }

    proptest! {
        #[test]
        fn rows_come_back_as_long_as_they_were(
            rows in prop::collection::vec(prop::collection::vec(any::<i64>(), 0..9), 1..6),
        ) {
            prop_assert_eq!(&predict(&json!({ "instances": rows }))["predictions"], &json!(rows));
            let longest = rows.iter().map(Vec::len).max().unwrap();
            let whole: Vec<Vec<i64>> = rows.iter().cloned().map(|mut row| {
                row.resize(longest, 0);
                row
            }).collect();
            prop_assert_eq!(&predict(&json!({ "inputs": { "ids": rows } }))["outputs"], &json!(whole));
        }
    }
}
