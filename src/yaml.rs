//! Reads YAML 1.2, for configurations and bundles: `yes`, `no`, `y` and `on` are strings. Errors are written
//! for the author of the file.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, MessageFormatter, NonFiniteFloatPolicy, UserMessageFormatter};

/// Reads one document.
///
/// # Errors
/// A sentence that says what was expected, with the lines around the place.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        // JSON values have no NaN or infinity. As strings they are kept, and fields of floats parse them.
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.render_with_formatter(&Messages))
}

struct Messages;

impl MessageFormatter for Messages {
    fn format_message<'a>(&self, error: &'a Error) -> Cow<'a, str> {
        match error {
            Error::WithSnippet { error, .. } => self.format_message(error),
            Error::InvalidScalar { ty, .. } => match *ty {
                "u8" | "u16" | "u32" | "u64" | "u128" => "expected a whole number, 0 or more".into(),
                "i8" | "i16" | "i32" | "i64" | "i128" => "expected a whole number".into(),
                _ => format!("expected a {ty}").into(),
            },
            Error::DuplicateMappingKey { key: Some(key), .. } => {
                format!("expected each key once, got `{key}` twice").into()
            }
            Error::MultipleDocuments { .. } => "expected one YAML document, got several".into(),
            _ => UserMessageFormatter.format_message(error),
        }
    }
}
