//! The one place that decides how a body is read: its kind, from the content type or from its first bytes.
//!
//! | `content-type` | read as |
//! |---|---|
//! | `application/json`, `text/json`, `…+json` | JSON; with `inference-header-content-length`, v2 with its binary extension |
//! | `text/csv`, `application/csv` | a table; `header=present` or `header=absent` says if its first line names the columns |
//! | `application/octet-stream`, `binary/octet-stream` | raw rows; with `inference-header-content-length`, v2 with its binary extension |
//! | `image/jpeg`, `image/png`, `image/webp` | one image |
//! | `text/plain` | one text |
//! | none | v2 with its binary extension if `inference-header-content-length` is set, else JSON if `{` or `[` comes first, else an image if it begins like one |
//!
//! Types, subtypes and parameter names are compared without regard to case; unknown parameters are ignored.
//! `charset` may only be UTF-8, or US-ASCII, which is a subset. [`super::envelope`] takes the data out of
//! CloudEvents first; its kind is then decided by its own content type. A body that could be of two kinds is
//! refused, with a hint what to set.

use super::error::{DecodeError, Decoded, quoted, refuse};

/// The kind of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// Rows, columns, pandas or Open Inference Protocol v2.
    Json,
    /// Open Inference Protocol v2: `json_length` bytes of JSON, then the tensors' data.
    V2Binary { json_length: usize },
    /// Comma-separated values. `header`: the first line names the columns; `None` if the request does not say
    /// it.
    Csv { header: Option<bool> },
    /// Little-endian rows of the model's one input.
    Raw,
    /// One image.
    Image,
    /// One text.
    Text,
}

/// Supported content types, for messages that refuse another one.
const SUPPORTED: &str = "application/json, text/csv, text/plain, image/jpeg, image/png, image/webp, \
     application/octet-stream or application/cloudevents+json";

/// `type/subtype; name=value; …` (RFC 9110, section 8.3.1).
pub(super) struct MediaType<'a> {
    /// In lower case, without parameters.
    pub(super) essence: String,
    parameters: &'a str,
}

impl<'a> MediaType<'a> {
    pub(super) fn parse(value: &'a str) -> Self {
        let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
        let mut essence = essence.trim().to_ascii_lowercase();
        // The name that S3's clients use.
        if essence == "binary/octet-stream" {
            essence.replace_range(..6, "application");
        }
        Self { essence, parameters }
    }

    pub(super) fn is_json(&self) -> bool {
        matches!(&*self.essence, "application/json" | "text/json") || self.essence.ends_with("+json")
    }

    /// The value of a parameter, without quotes around it.
    fn parameter(&self, name: &str) -> Option<&'a str> {
        let mut pairs = self.parameters.split(';').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(key, _)| key.trim().eq_ignore_ascii_case(name))?;
        Some(value.trim().trim_matches('"'))
    }

    fn check_charset(&self) -> Decoded<()> {
        let charset = self.parameter("charset").unwrap_or("utf-8");
        if ["utf-8", "utf8", "us-ascii"].iter().any(|one| charset.eq_ignore_ascii_case(one)) {
            return Ok(());
        }
        let got = quoted(charset);
        Err(DecodeError::unsupported_type(format!(
            "expected charset=utf-8 in the content-type, got {got}; send UTF-8"
        )))
    }
}

/// Decides the kind of `body`; `json_length` is the header `inference-header-content-length`.
pub(super) fn body_kind(
    content_type: Option<&str>,
    json_length: Option<&str>,
    body: &[u8],
) -> Decoded<BodyKind> {
    let declared = content_type.map(MediaType::parse).filter(|media| !media.essence.is_empty());
    let binary = || json_length.map(|length| v2_binary(length, body.len())).transpose();
    let Some(media) = declared else {
        return binary()?.map_or_else(|| sniff(body), Ok);
    };
    let only_v2 = |kind: BodyKind| match json_length {
        None => Ok(kind),
        Some(_) => refuse(format!(
            "expected inference-header-content-length with content-type application/octet-stream or \
             application/json, got {}; set only one of the two",
            quoted(&media.essence)
        )),
    };
    match &*media.essence {
        "application/octet-stream" => Ok(binary()?.unwrap_or(BodyKind::Raw)),
        "text/csv" | "application/csv" => {
            media.check_charset()?;
            let header = match media.parameter("header") {
                None => None,
                Some(value) if value.eq_ignore_ascii_case("present") => Some(true),
                Some(value) if value.eq_ignore_ascii_case("absent") => Some(false),
                Some(value) => {
                    let got = quoted(value);
                    return refuse(format!(
                        "expected header=present or header=absent in the content-type, got {got}"
                    ));
                }
            };
            only_v2(BodyKind::Csv { header })
        }
        "image/jpeg" | "image/jpg" | "image/png" | "image/webp" => only_v2(BodyKind::Image),
        "text/plain" => {
            media.check_charset()?;
            only_v2(BodyKind::Text)
        }
        _ if media.is_json() => {
            media.check_charset()?;
            Ok(binary()?.unwrap_or(BodyKind::Json))
        }
        _ => {
            let got = quoted(&media.essence);
            Err(DecodeError::unsupported_type(format!(
                "content-type {got} is not supported; send one of {SUPPORTED}"
            )))
        }
    }
}

fn v2_binary(length: &str, body: usize) -> Decoded<BodyKind> {
    match length.parse() {
        Ok(json_length) if json_length <= body => Ok(BodyKind::V2Binary { json_length }),
        Ok(_) => refuse(format!(
            "expected inference-header-content-length of at most {body}, the bytes of the body, got {length}"
        )),
        Err(_) => refuse(format!(
            "expected inference-header-content-length in bytes, a whole number, got {}",
            quoted(length)
        )),
    }
}

/// The kind of a body without a content type. Only JSON and images can be recognized; anything else could be
/// a table, raw numbers or text.
fn sniff(body: &[u8]) -> Decoded<BodyKind> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    match body.iter().find(|byte| !b" \n\t\r".contains(byte)) {
        // The JSON decoder refuses an empty body with the best message.
        None | Some(b'{' | b'[') => Ok(BodyKind::Json),
        Some(_) if is_image(body) => Ok(BodyKind::Image),
        Some(_) if body.starts_with(b"\x1f\x8b") => {
            refuse("the body looks like gzip; set content-encoding to gzip if it is")
        }
        Some(_) => refuse(format!(
            "expected JSON, which begins with `{{` or `[`, for no content-type is set; if the body is \
             something else, set content-type to one of {SUPPORTED}"
        )),
    }
}

/// True if a body begins like a JPEG, PNG or WebP file.
fn is_image(body: &[u8]) -> bool {
    body.starts_with(b"\xff\xd8\xff")
        || body.starts_with(b"\x89PNG\r\n\x1a\n")
        || (body.starts_with(b"RIFF") && body.get(8..12) == Some(b"WEBP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_content_type_has_one_meaning() {
        let csv = |header| BodyKind::Csv { header };
        let v2 = BodyKind::V2Binary { json_length: 2 };
        for (content_type, length, body, expected) in [
            (None, None, "", BodyKind::Json),
            (Some(""), None, " \n", BodyKind::Json),
            (None, None, "\u{feff} [1]", BodyKind::Json),
            (None, None, "{}", BodyKind::Json),
            (None, Some("2"), "{}\0", v2),
            (Some("application/json"), None, "x", BodyKind::Json),
            (Some(" Application/JSON ; charset=\"UTF-8\"; q=1"), None, "x", BodyKind::Json),
            (Some("application/vnd.example+json"), None, "x", BodyKind::Json),
            (Some("text/json"), None, "x", BodyKind::Json),
            (Some("application/json"), Some("2"), "{}\0", v2),
            (Some("application/octet-stream"), None, "{}", BodyKind::Raw),
            (Some("APPLICATION/octet-stream"), Some("2"), "{}", v2),
            (Some("binary/octet-stream"), None, "{}", BodyKind::Raw),
            (Some("Binary/Octet-Stream; x=y"), Some("2"), "{}", v2),
            (Some("text/csv"), None, "{", csv(None)),
            (Some("application/csv; charset=us-ascii"), None, "1", csv(None)),
            (Some("text/csv;HEADER=Present"), None, "1", csv(Some(true))),
            (Some("text/csv; charset=utf-8; header=\"absent\""), None, "1", csv(Some(false))),
        ] {
            let got = body_kind(content_type, length, body.as_bytes());
            assert_eq!(
                got.unwrap_or_else(|error| panic!("{error:?}")),
                expected,
                "{content_type:?} {body:?}"
            );
        }
    }

    #[test]
    fn what_could_be_several_things_is_refused_with_what_to_set() {
        let listed = "application/json, text/csv, text/plain, image/jpeg, image/png, image/webp, application/octet-stream or application/cloudevents+json";
        let unknown = format!(
            "expected JSON, which begins with `{{` or `[`, for no content-type is set; if the body is \
             something else, set content-type to one of {listed}"
        );
        for (content_type, length, body, expected) in [
            (None, None, &b"1,2,3"[..], unknown.as_str()),
            (None, None, b"\0\0\x80?", unknown.as_str()),
            (None, None, b"\x1f\x8b\x08", "the body looks like gzip; set content-encoding to gzip if it is"),
            (
                Some("image/tiff; q=1"),
                None,
                b"",
                "content-type \"image/tiff\" is not supported; send one of application/json, text/csv, \
                 text/plain, image/jpeg, image/png, image/webp, application/octet-stream or \
                 application/cloudevents+json",
            ),
            (
                Some("text/csv; charset=latin-1"),
                None,
                b"",
                "expected charset=utf-8 in the content-type, got \"latin-1\"; send UTF-8",
            ),
            (
                Some("application/json;charset=utf-16"),
                None,
                b"",
                "expected charset=utf-8 in the content-type, got \"utf-16\"; send UTF-8",
            ),
            (
                Some("text/csv; header=yes"),
                None,
                b"",
                "expected header=present or header=absent in the content-type, got \"yes\"",
            ),
            (
                Some("text/csv"),
                Some("2"),
                b"{}",
                "expected inference-header-content-length with content-type application/octet-stream or application/json, \
                 got \"text/csv\"; set only one of the two",
            ),
            (
                None,
                Some("x"),
                b"{}",
                "expected inference-header-content-length in bytes, a whole number, got \"x\"",
            ),
            (
                Some("application/octet-stream"),
                Some("3"),
                b"{}",
                "expected inference-header-content-length of at most 2, the bytes of the body, got 3",
            ),
        ] {
            let error = body_kind(content_type, length, body).expect_err("two meanings");
            assert_eq!(error.into_rejection().message, expected);
        }
    }
}
