//! Models of every kind.

use predictd::tensor::signature::{Dim, PadTo, Padding, Signature, TensorSpec, Unpad, ValueKind};
use predictd::tensor::{ElementType, Elements};

fn input(name: &str, element: ElementType, dims: &[usize]) -> TensorSpec {
    let dim = |n: &usize| if *n == 0 { Dim::Any(String::new()) } else { Dim::Fixed(*n) };
    TensorSpec {
        name: name.to_owned(),
        element,
        shape: dims.iter().map(dim).collect(),
        kind: ValueKind::Tensor,
    }
}

fn composite(kind: ValueKind) -> TensorSpec {
    TensorSpec { kind, ..input("x", ElementType::Composite, &[]) }
}

pub fn signature(which: u8) -> Signature {
    let elements = ElementType::ALL;
    let element = elements[usize::from(which) % elements.len()];
    let inputs = match which % 4 {
        0 => vec![input("x", element, &[0, 3])],
        1 => {
            let kind = if which % 8 == 1 { ValueKind::Optional } else { ValueKind::Tensor };
            vec![input("x", element, &[0]), TensorSpec { kind, ..input("y", ElementType::String, &[0, 1]) }]
        }
        2 => vec![input("ids", ElementType::I64, &[0, 0])],
        _ => vec![match which / 4 % 4 {
            0 => input("x", element, &[2, 2]),
            1 => composite(ValueKind::Map { key: ElementType::String, value: ElementType::F32 }),
            2 => composite(ValueKind::Map { key: ElementType::I64, value: ElementType::String }),
            _ => composite(ValueKind::Sequence { element, shape: Vec::new() }),
        }],
    };
    let padding = Padding { input: 0, axis: 1, value: Elements::I64(vec![0]), to: PadTo::Multiple(4) };
    Signature {
        inputs,
        outputs: vec![input("label", ElementType::I64, &[0])],
        columns: (which % 8 == 0).then(|| ["a", "b", "c"].map(str::to_owned).to_vec()),
        padding: if which % 4 == 2 { vec![padding] } else { Vec::new() },
        unpads: if which % 4 == 2 { vec![Unpad { output: 0, axis: 1, padding: 0 }] } else { Vec::new() },
        defaults: Vec::new(),
        missing: Vec::new(),
        batched: which % 4 != 3,
        column_rules: predictd::tensor::signature::ColumnRules::default(),
        row_by_row: false,
    }
}
