//! One sample request, and the shell command that sends it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::model::Model;

/// A request for `predictd predict`, and for Pub/Sub.
#[derive(Debug, serde::Serialize)]
pub struct Sample {
    pub protocol: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<&'static str, String>,
    #[serde(flatten)]
    pub body: Body,
    /// The shell command that sends it to the model.
    pub command: String,
}

#[derive(Debug, serde::Serialize)]
pub enum Body {
    #[serde(rename = "body")]
    Text(String),
    #[serde(rename = "body_base64", serialize_with = "base64")]
    Bytes(Vec<u8>),
}

fn base64<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

impl Body {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl Sample {
    pub fn new(
        model: &Model,
        protocol: &'static str,
        attributes: &[(&'static str, String)],
        body: Body,
    ) -> Self {
        let mut command = match &body {
            Body::Text(text) => format!("printf %s {}", quoted(text)),
            Body::Bytes(bytes) => format!("printf %s {} | base64 -d", STANDARD.encode(bytes)),
        };
        command += &format!(" | predictd predict --model {}", quoted(&model.from));
        for (key, value) in attributes {
            command += &match *key {
                "content-type" => format!(" --content-type {}", quoted(value)),
                key => format!(" --attribute {}", quoted(&format!("{key}={value}"))),
            };
        }
        Self { protocol, attributes: attributes.iter().cloned().collect(), body, command }
    }
}

/// Quotes one word for a shell.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,+@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole() {
        for (text, word) in
            [("models/wine/2", "models/wine/2"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''")]
        {
            assert_eq!(quoted(text), word);
        }
    }
}
