//! Numbers of a declaration as JSON, in which `predictd inspect` shows them.

use serde::{Serialize, Serializer};

/// Writes non-finite numbers as strings, since JSON has no such numbers.
pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { value.serialize(serializer) } else { value.to_string().serialize(serializer) }
}

pub(super) fn serialize_option<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serialize(value, serializer),
        None => serializer.serialize_none(),
    }
}
