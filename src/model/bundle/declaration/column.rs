//! The `columns` part of a `model.yaml`, as data.

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::json_number;

/// A named field of a row.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name in requests.
    pub name: String,
    /// The input `[rows, columns]` or `[rows]` that it is part of. Several columns fill one input in the
    /// order of their declaration. Not needed for a model with one input.
    #[serde(default)]
    pub input: Option<String>,
    /// The allowed strings. The model gets their position in this list, from 0 on.
    #[serde(default)]
    pub categories: Option<Vec<String>>,
    /// The model's value for a string that is not in `categories`. Default: such a row is refused.
    #[serde(default, serialize_with = "json_number::serialize_option")]
    pub unknown: Option<f64>,
    /// The value for a row that omits the field, or has `null` or an empty cell: a number, `NaN` for floats,
    /// or a string for strings and categories. Default: such a row is refused.
    #[serde(default)]
    pub missing: Option<Missing>,
}

/// A field, or only its name.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum ColumnOrName {
    Name(String),
    Column(Column),
}

impl<'de> Deserialize<'de> for ColumnOrName {
    /// Chooses by the type of the value. serde's untagged types try each variant instead, which hides
    /// mistakes inside a column.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Found;

        impl<'de> Visitor<'de> for Found {
            type Value = ColumnOrName;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a column's name (a number in quotes), or its `name` and more")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<ColumnOrName, E> {
                Ok(ColumnOrName::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ColumnOrName, A::Error> {
                Column::deserialize(MapAccessDeserializer::new(map)).map(ColumnOrName::Column)
            }
        }

        deserializer.deserialize_any(Found)
    }
}

pub(super) fn columns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Column>, D::Error> {
    let all = Vec::<ColumnOrName>::deserialize(deserializer)?;
    let column = |column| match column {
        ColumnOrName::Name(name) => {
            Column { name, input: None, categories: None, unknown: None, missing: None }
        }
        ColumnOrName::Column(column) => column,
    };
    Ok(all.into_iter().map(column).collect())
}

/// The value of a field that a row omits.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number or a string")]
pub enum Missing {
    #[serde(serialize_with = "json_number::serialize")]
    Number(f64),
    String(String),
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::String(text) => write!(f, "{text:?}"),
        }
    }
}
