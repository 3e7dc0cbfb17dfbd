//! Resumable uploads: what has arrived of each session, until it is complete.
//!
//! A session never forgets its result: a client that lost the reply asks again and gets the same object.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::error::{Error, Kind, Result};
use super::objects::Insert;
use super::{Storage, Version};

/// Chunks before the last are kept in multiples of this, as Cloud Storage does.
const QUANTUM: usize = 256 * 1024;

#[derive(Default)]
pub(super) struct Uploads {
    sessions: HashMap<String, Session>,
    opened: u64,
}

struct Session {
    /// Object to insert at the end; its body is empty until then.
    insert: Option<Insert>,
    received: BytesMut,
    result: Option<Arc<Version>>,
}

/// A parsed `Content-Range` of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// `bytes */*` or `bytes */N`: how far did it get? Completes it where N bytes are there.
    Query { total: Option<u64> },
    /// `bytes A-B/N`, `bytes A-B/*`, `bytes A-*/*` (the last runs to the end of the upload).
    Data { start: u64, last: bool, total: Option<u64> },
}

impl Chunk {
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let (range, total) = header.strip_prefix("bytes ")?.split_once('/')?;
        let total = if total == "*" { None } else { Some(total.parse().ok()?) };
        if range == "*" {
            return Some(Self::Query { total });
        }
        let (start, end) = range.split_once('-')?;
        let start = start.parse().ok()?;
        let last = match end {
            "*" => true,
            end => {
                let end: u64 = end.parse().ok()?;
                total.is_some_and(|total| end.checked_add(1) == Some(total))
            }
        };
        Some(Self::Data { start, last, total })
    }
}

/// State of a session.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Number of bytes that are kept.
    Partial(usize),
    Complete(Arc<Version>),
}

impl Storage {
    /// Opens a session and answers its id.
    pub(crate) fn open_upload(&self, insert: Insert) -> Result<String> {
        let mut state = self.lock();
        self.may_write(&state, &insert.bucket, &insert.name)?;
        let current = state.bucket(&insert.bucket)?.live(&insert.name);
        insert.conditions.check_write(current.as_deref())?;
        state.uploads.opened += 1;
        let id = format!("upload-{}", state.uploads.opened);
        let session = Session { insert: Some(insert), received: BytesMut::new(), result: None };
        state.uploads.sessions.insert(id.clone(), session);
        Ok(id)
    }

    /// Takes the bytes of a chunk. `whole` is false when the connection broke: then what came is kept, as a
    /// part.
    pub(crate) fn continue_upload(
        &self,
        id: &str,
        chunk: Chunk,
        data: &Bytes,
        whole: bool,
    ) -> Result<Progress> {
        let insert = {
            let mut state = self.lock();
            let session = state.uploads.sessions.get_mut(id).ok_or_else(no_session)?;
            if let Some(result) = &session.result {
                return Ok(Progress::Complete(result.clone()));
            }
            let complete = session.take_chunk(chunk, data, whole)?;
            if !complete {
                return Ok(Progress::Partial(session.received.len()));
            }
            let mut insert = session.insert.take().ok_or_else(no_session)?;
            insert.body = session.received.split().freeze();
            insert
        };
        let inserted = self.insert_object(insert);
        let mut state = self.lock();
        match inserted {
            Ok(version) => {
                if let Some(session) = state.uploads.sessions.get_mut(id) {
                    session.result = Some(version.clone());
                }
                Ok(Progress::Complete(version))
            }
            Err(error) => {
                state.uploads.sessions.remove(id);
                Err(error)
            }
        }
    }

    /// Adds what a header of a later chunk says of the checksums.
    pub(crate) fn expect_upload_hash(&self, id: &str, header: &str) -> Result<()> {
        let mut state = self.lock();
        let session = state.uploads.sessions.get_mut(id).ok_or_else(no_session)?;
        match &mut session.insert {
            Some(insert) => insert.expected.add_header(header),
            None => Ok(()),
        }
    }

    pub(crate) fn cancel_upload(&self, id: &str) -> Result<()> {
        self.lock().uploads.sessions.remove(id).map(drop).ok_or_else(no_session)
    }
}

fn no_session() -> Error {
    Error::new(Kind::NotFound, "Upload session not found.")
}

impl Session {
    /// Appends what is new of a chunk and says whether the upload is complete.
    fn take_chunk(&mut self, chunk: Chunk, data: &[u8], whole: bool) -> Result<bool> {
        let (start, last, total) = match chunk {
            Chunk::Query { total } => return Ok(total == Some(self.received.len() as u64)),
            Chunk::Data { start, last, total } => (start as usize, last, total),
        };
        let kept = self.received.len();
        if start > kept {
            let message =
                format!("Invalid request. The chunk starts at byte {start}, but only {kept} are kept.");
            return Err(Error::invalid(message));
        }
        let fresh = data.get(kept - start..).unwrap_or_default();
        let complete = last && whole;
        if complete && total.is_some_and(|total| total != (kept + fresh.len()) as u64) {
            return Err(Error::invalid("Invalid request. The length differs from the Content-Range header."));
        }
        let end = kept + fresh.len();
        let end = if complete { end } else { (end / QUANTUM * QUANTUM).max(kept) };
        self.received.extend_from_slice(&fresh[..end - kept]);
        Ok(complete)
    }
}
