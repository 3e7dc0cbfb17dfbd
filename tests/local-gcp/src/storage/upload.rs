//! Uploads: media, multipart, resumable.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tonic::Status;

use super::{Object, Precondition, Storage, base64_crc32c};

/// A resumable upload under way.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub bucket: String,
    pub metadata: Value,
    pub precondition: Precondition,
    pub received: BytesMut,
}

#[derive(Debug, Default)]
pub(super) struct Uploads {
    sessions: Mutex<HashMap<u64, Session>>,
    last: AtomicU64,
}

/// How a chunk of a resumable upload ended.
pub(super) enum Chunk {
    Complete(Box<Object>),
    /// So many bytes are there.
    More(usize),
}

impl Uploads {
    pub(super) fn begin(&self, session: Session) -> u64 {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(id, session);
        id
    }
}

impl Storage {
    pub(super) fn sessions(&self) -> &Uploads {
        &self.uploads
    }

    /// `range` is the Content-Range: `bytes 0-99/*`, `bytes 0-99/100`, `bytes */100` or none at all.
    pub(super) fn chunk(&self, id: u64, range: Option<&str>, body: &[u8]) -> Result<Chunk, Status> {
        let mut sessions = self.uploads.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(&id).ok_or_else(|| Status::not_found("No such upload."))?;
        let invalid = || Status::invalid_argument(format!("Invalid Content-Range: {range:?}"));
        let (span, total) = match range {
            None => (Some(0), Some(body.len())),
            Some(range) => {
                let (span, total) =
                    range.strip_prefix("bytes ").and_then(|r| r.split_once('/')).ok_or_else(invalid)?;
                let start = match span.split_once('-') {
                    Some((start, _)) => Some(start.parse::<usize>().map_err(|_| invalid())?),
                    None => None,
                };
                let total = if total == "*" { None } else { Some(total.parse().map_err(|_| invalid())?) };
                (start, total)
            }
        };
        if let Some(start) = span {
            // A chunk that was sent again continues where the first one ended.
            let known = session.received.len().checked_sub(start).ok_or_else(invalid)?;
            session.received.extend_from_slice(body.get(known..).unwrap_or_default());
        }
        if total != Some(session.received.len()) {
            return Ok(Chunk::More(session.received.len()));
        }
        let Session { bucket, metadata, precondition, received } = sessions.remove(&id).unwrap_or_default();
        drop(sessions);
        let object = self.insert_described(&bucket, &metadata, received.freeze(), None, precondition)?;
        Ok(Chunk::Complete(Box::new(object)))
    }

    /// Inserts an object as its JSON metadata describes it, after its checksum was compared.
    pub(super) fn insert_described(
        &self,
        bucket: &str,
        metadata: &Value,
        data: Bytes,
        content_type: Option<&str>,
        precondition: Precondition,
    ) -> Result<Object, Status> {
        let name =
            metadata["name"].as_str().ok_or_else(|| Status::invalid_argument("Required parameter: name"))?;
        let actual = base64_crc32c(crc32c::crc32c(&data));
        if let Some(claimed) = metadata["crc32c"].as_str()
            && claimed != actual
        {
            return Err(Status::invalid_argument(format!(
                "Provided CRC32C \"{claimed}\" doesn't match calculated CRC32C \"{actual}\"."
            )));
        }
        let content_type =
            metadata["contentType"].as_str().or(content_type).unwrap_or("application/octet-stream");
        let custom = metadata["metadata"].as_object().map_or_else(HashMap::new, |all| {
            all.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
        });
        self.insert(bucket, name, data, content_type, custom, precondition)
    }
}

/// The two parts of a `multipart/related` body: JSON metadata, then the media with its content type.
pub(super) fn multipart(content_type: &str, body: &Bytes) -> Result<(Value, Bytes, Option<String>), Status> {
    let broken = || Status::invalid_argument("Malformed multipart body.");
    let boundary = content_type
        .split(';')
        .find_map(|part| part.trim().strip_prefix("boundary="))
        .map(|boundary| format!("--{}", boundary.trim_matches(['"', '\''])))
        .ok_or_else(broken)?;
    let mut parts = Vec::new();
    let mut at = find(body, boundary.as_bytes(), 0).ok_or_else(broken)?;
    while let Some(next) = find(body, boundary.as_bytes(), at + boundary.len()) {
        let start = at + boundary.len();
        let (headers_end, gap) = [("\r\n\r\n", 4), ("\n\n", 2)]
            .into_iter()
            .filter_map(|(blank, gap)| Some((find(body, blank.as_bytes(), start)?, gap)))
            .min()
            .ok_or_else(broken)?;
        let content = headers_end + gap;
        // The line break before a boundary belongs to the boundary.
        let end = if body[..next].ends_with(b"\r\n") { next - 2 } else { next - 1 };
        let headers = String::from_utf8_lossy(&body[start..headers_end]).into_owned();
        parts.push((headers, body.slice(content..end.max(content))));
        at = next;
    }
    // Google's clients may send checksums they computed meanwhile as a third part.
    let mut parts = parts.into_iter();
    let ((_, metadata), (headers, media)) = parts.next().zip(parts.next()).ok_or_else(broken)?;
    let content_type = headers.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case("content-type").then(|| value.trim().to_owned())
    });
    let metadata = serde_json::from_slice(&metadata)
        .map_err(|error| Status::invalid_argument(format!("metadata: {error}")))?;
    Ok((metadata, media, content_type))
}

fn find(body: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    body.get(from..)?.windows(needle.len()).position(|window| window == needle).map(|at| at + from)
}
