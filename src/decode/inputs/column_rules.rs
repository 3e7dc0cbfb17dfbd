//! Columns whose type is narrower than that of their input: MLflow's whole numbers and booleans for a model
//! that takes floats. Values are read as the input's type and checked here once all are there.

use crate::decode::error::{Decoded, quoted, refuse};
use crate::tensor::Tensor;
use crate::tensor::signature::{ColumnRule, ColumnType, Signature};

/// Refuses the first value that its column does not take, with its row counted from 0.
pub(super) fn check_columns(signature: &Signature, tensors: &[Option<Tensor>]) -> Decoded<()> {
    let rules = &signature.column_rules.rules;
    if rules.iter().all(|rule| rule.column_type == ColumnType::Any) {
        return Ok(());
    }
    let place = |row: usize, name: &str| format!("[{row}][{}]", quoted(name));
    if let (Some(names), [Some(tensor)]) = (&signature.columns, tensors) {
        let values = tensor.elements.view().to_f64();
        for (row, values) in values.chunks(names.len().max(1)).enumerate() {
            for ((value, rule), name) in values.iter().zip(rules).zip(names) {
                check_value(*value, *rule).map_err(|error| error.within(&place(row, name)))?;
            }
        }
        return Ok(());
    }
    for ((tensor, rule), spec) in tensors.iter().zip(rules).zip(&signature.inputs) {
        let (Some(tensor), ColumnType::Integer | ColumnType::Long | ColumnType::Boolean) =
            (tensor, rule.column_type)
        else {
            continue;
        };
        for (row, value) in tensor.elements.view().to_f64().into_iter().enumerate() {
            check_value(value, *rule).map_err(|error| error.within(&place(row, &spec.name)))?;
        }
    }
    Ok(())
}

#[inline]
fn check_value(value: f64, rule: ColumnRule) -> Decoded<()> {
    if value.is_nan() && !rule.required {
        return Ok(());
    }
    let (fits, expected) = match rule.column_type {
        ColumnType::Any => return Ok(()),
        ColumnType::Integer => (
            value.fract() == 0.0 && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&value),
            "a whole number of 32 bits, as the signature's type integer says",
        ),
        // 2^63 is no int64, but the greatest int64 rounds to it.
        ColumnType::Long => (
            value.fract() == 0.0 && value.abs() <= 9_223_372_036_854_775_808.0,
            "a whole number, as the signature's type long says",
        ),
        ColumnType::Boolean => {
            (value == 0.0 || value == 1.0, "true or false (or 1 or 0), as the signature's type boolean says")
        }
    };
    if fits { Ok(()) } else { refuse(format!("expected {expected}, got {value}")) }
}
