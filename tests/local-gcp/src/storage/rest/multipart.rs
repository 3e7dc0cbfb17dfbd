//! `multipart/related` bodies (RFC 2387) of uploads: the object resource, the media, and at times a third
//! part with the checksums, which Google's clients send when they know them only at the end.

use bytes::Bytes;
use memchr::memmem;

use super::super::{Error, Result};

/// A part: its content type, if any, and its bytes, shared with the whole body.
#[derive(Debug, PartialEq)]
pub(super) struct Part {
    pub(super) content_type: Option<String>,
    pub(super) body: Bytes,
}

/// Splits a body. Lines may end in CRLF or LF: Python's clients send the latter.
pub(super) fn parse(content_type: &str, body: &Bytes) -> Result<Vec<Part>> {
    let bad = |what: &str| Error::invalid(format!("Malformed multipart body: {what}"));
    let boundary = boundary(content_type).ok_or_else(|| bad("no boundary in the content type"))?;
    let delimiter = format!("--{boundary}");
    let mut at =
        memmem::find(body, delimiter.as_bytes()).ok_or_else(|| bad("the boundary does not occur"))?;
    let delimiter = format!("\n--{boundary}");
    let mut parts = Vec::new();
    loop {
        at += delimiter.len() - usize::from(parts.is_empty()); // the first has no line break before it
        if body[at..].starts_with(b"--") {
            return Ok(parts);
        }
        let line = memmem::find(&body[at..], b"\n").ok_or_else(|| bad("the body ends in a boundary"))?;
        let start = at + line + 1;
        let next =
            memmem::find(&body[start - 1..], delimiter.as_bytes()).ok_or_else(|| bad("a part has no end"))?;
        at = start - 1 + next;
        parts.push(part(body, start, at).ok_or_else(|| bad("a part has no empty line after its headers"))?);
    }
}

fn boundary(content_type: &str) -> Option<&str> {
    let parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.trim().split_once('='));
    let (_, value) = parameters.into_iter().find(|(key, _)| key.eq_ignore_ascii_case("boundary"))?;
    // Google's command line tools quote it with apostrophes.
    Some(value.trim_matches(['"', '\''])).filter(|value| !value.is_empty())
}

/// The part between `start` and the line break at `end`.
fn part(body: &Bytes, start: usize, end: usize) -> Option<Part> {
    let mut content_type = None;
    let mut at = start;
    loop {
        let line_end = at + memmem::find(body.get(at..=end)?, b"\n")?;
        let line = body[at..line_end].strip_suffix(b"\r").unwrap_or(&body[at..line_end]);
        at = line_end + 1;
        if line.is_empty() {
            break;
        }
        let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        if name.eq_ignore_ascii_case("content-type") {
            content_type = Some(value.trim().to_owned());
        }
    }
    if at > end {
        return Some(Part { content_type, body: Bytes::new() });
    }
    let mut part = body.slice(at..end);
    // CRLF before the boundary belongs to it, wherever the headers end their lines so.
    let crlf = at >= 2 && body[at - 2] == b'\r';
    if crlf && part.ends_with(b"\r") {
        part.truncate(part.len() - 1);
    }
    Some(Part { content_type, body: part })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_split_with_either_line_end() {
        for (end, quote) in [("\r\n", "\""), ("\n", "'")] {
            let lines =
                ["--b=", "Content-Type: application/json", "", "{}", "--b=", "", "a\r\n--b\r", "--b=--", ""];
            let body = Bytes::from(lines.join(end));
            let parts = parse(&format!("multipart/related; boundary={quote}b={quote}"), &body).unwrap();
            assert_eq!(parts.len(), 2, "{end:?}");
            assert_eq!(parts[0].content_type.as_deref(), Some("application/json"));
            assert_eq!(parts[0].body, "{}");
            assert_eq!(parts[1], Part { content_type: None, body: Bytes::from_static(b"a\r\n--b\r") });
        }
    }

    #[test]
    fn an_empty_part_and_broken_bodies() {
        let parts =
            parse("multipart/related; boundary=b", &Bytes::from_static(b"--b\r\n\r\n\r\n--b--")).unwrap();
        assert_eq!(parts, [Part { content_type: None, body: Bytes::new() }]);
        for broken in ["", "--b", "--b\r\n", "--b\r\nx", "--b\r\nno header\r\n--b--"] {
            assert!(parse("multipart/related; boundary=b", &Bytes::from(broken)).is_err(), "{broken:?}");
        }
        assert!(parse("multipart/related", &Bytes::from_static(b"--b--")).is_err());
    }
}
