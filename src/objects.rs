//! Objects that requests refer to: checks where they lie, and reads them within the budget of bytes.
//!
//! Cloud Storage is asked for nothing outside of the allowed buckets. No byte of an object is read before the
//! budget has room for all of it, and none of an object that is too large. A failed read is retried for a
//! bounded time.

use std::collections::HashMap;

use google_cloud_storage::client::Storage;
use google_cloud_storage::model_ext::ReadRange;
use google_cloud_storage::read_object::ReadObjectResponse;
use tokio_util::sync::CancellationToken;

use crate::backoff;
use crate::config::{Config, Location};
use crate::decode::reference::{Object, Reference};
use crate::decode::{Limits, envelope};
use crate::engine::budget::{Budget, Room};
use crate::error::{Code, Rejection};
use crate::gcp::clients;
use crate::gcp::storage::{self, TRANSFER_TIMEOUT};
use crate::headers::Headers;

/// The bytes of an object, with attributes like those of a message.
#[derive(Debug)]
pub struct Fetched {
    pub attributes: HashMap<String, String>,
    pub body: Vec<u8>,
    /// Bytes that it takes while it is in flight, its decompressed body included.
    pub weight: usize,
    pub room: Room,
}

/// An object that could not be read.
#[derive(Debug)]
pub enum Failed {
    /// The request is wrong.
    Rejected(Rejection),
    /// Cloud Storage failed or cannot be reached; the request may be fine.
    Unavailable(String),
}

/// The places that requests may refer to; none by default.
#[derive(Debug, Default)]
pub struct Objects {
    allowed: Vec<Location>,
    /// The place of the worker's own results. A notification of one is no request: its result would be the
    /// next request, without end.
    written: Option<Location>,
    /// `None` where nothing is allowed.
    storage: Option<Storage>,
}

impl Objects {
    pub async fn connect(config: &Config) -> anyhow::Result<Self> {
        let allowed = config.requests.allowed_buckets.clone();
        let storage = if allowed.is_empty() { None } else { Some(clients::storage().await?) };
        Ok(Self { allowed, written: config.responses.bucket.clone(), storage })
    }

    /// Checks that a request may refer to an object, without a call.
    ///
    /// # Errors
    /// `INPUT_FORBIDDEN`.
    pub fn check(&self, object: &Object) -> Result<(), Rejection> {
        let lies_in = |place: &Location| place.holds(&object.bucket, &object.name);
        if object.is_announced && self.written.as_ref().is_some_and(lies_in) {
            let message = format!(
                "expected an object outside of `responses.bucket`, got {object}; send the notifications of \
                 that bucket to another topic"
            );
            return Err(Rejection::new(Code::InputForbidden, message));
        }
        if self.allowed.iter().any(lies_in) { Ok(()) } else { Err(object.forbidden()) }
    }

    /// Reads an object that passed [`Self::check`]; retries until `stop`.
    pub async fn read(
        &self,
        object: &Object,
        reference: &Reference,
        limits: &Limits,
        budget: &Budget,
        stop: &CancellationToken,
    ) -> Result<Fetched, Failed> {
        let Some(storage) = &self.storage else { return Err(Failed::Rejected(object.forbidden())) };
        let read = Read { storage, object, reference, limits, budget };
        let mut delays = backoff::object();
        loop {
            match read.once().await {
                Err(Failed::Unavailable(why)) => {
                    let delay = delays.next().filter(|_| !stop.is_cancelled());
                    let Some(delay) = delay else { return Err(Failed::Unavailable(why)) };
                    tracing::debug!(%object, why, "cannot read an object, trying again");
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        () = stop.cancelled() => return Err(Failed::Unavailable(why)),
                    }
                }
                read => return read,
            }
        }
    }
}

struct Read<'a> {
    storage: &'a Storage,
    object: &'a Object,
    reference: &'a Reference,
    limits: &'a Limits,
    budget: &'a Budget,
}

impl Read<'_> {
    async fn once(&self) -> Result<Fetched, Failed> {
        let response = self.open(self.object.generation, ReadRange::all()).await?;
        let about = response.object();
        let (size, most) = (usize::try_from(about.size).unwrap_or(usize::MAX), self.limits.max_body_bytes);
        if size > most {
            let message =
                format!("expected an object of at most {most} bytes, got {size} in {}", self.object);
            return Err(Failed::Rejected(Rejection::new(Code::InputTooLarge, message)));
        }
        let attributes = self.reference.attributes(&about.content_type, &about.content_encoding);
        let decompressed = if envelope::is_compressed(Headers(&attributes)) && size >= 4 {
            // The last four bytes of gzip are the decompressed size.
            let end = self.open(Some(about.generation), ReadRange::tail(4)).await?;
            let end = self.collect(end, 4).await?;
            u32::from_le_bytes([end[0], end[1], end[2], end[3]]) as usize
        } else {
            0
        };
        let weight = size + Some(decompressed).filter(|decompressed| *decompressed <= most).unwrap_or(0);
        let (_fetching, room) = self.budget.take_to_fetch(weight).await;
        let body = self.collect(response, size).await?;
        Ok(Fetched { attributes, body, weight, room })
    }

    async fn open(&self, generation: Option<i64>, range: ReadRange) -> Result<ReadObjectResponse, Failed> {
        let Object { bucket, name, .. } = self.object;
        match storage::open(self.storage, bucket, name, generation, range).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.classify(&error)),
            Err(error) => Err(Failed::Unavailable(format!("cannot reach Cloud Storage: {error}"))),
        }
    }

    async fn collect(&self, mut response: ReadObjectResponse, size: usize) -> Result<Vec<u8>, Failed> {
        let mut bytes = Vec::with_capacity(size);
        let all = async {
            while let Some(chunk) = response.next().await {
                let chunk = chunk.map_err(|error| Failed::Unavailable(error.to_string()))?;
                if bytes.len() + chunk.len() > size {
                    return Err(Failed::Unavailable(format!("more than the {size} bytes announced came")));
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(())
        };
        let ended = tokio::time::timeout(TRANSFER_TIMEOUT, all).await;
        ended.unwrap_or_else(|_| {
            Err(Failed::Unavailable(format!("not read in {} seconds", TRANSFER_TIMEOUT.as_secs())))
        })?;
        if bytes.len() != size {
            return Err(Failed::Unavailable(format!("{} of {size} bytes came", bytes.len())));
        }
        Ok(bytes)
    }

    /// Rejects the request only for a missing object or a bad name. Missing rights, for example, are for the
    /// operator to grant.
    fn classify(&self, error: &google_cloud_storage::Error) -> Failed {
        match error.http_status_code() {
            Some(404) => Failed::Rejected(self.object.missing()),
            Some(400) => Failed::Rejected(Rejection::invalid(format!(
                "expected the name of an object, got {}: {error}",
                self.object
            ))),
            _ => Failed::Unavailable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(bucket: &str, name: &str, is_announced: bool) -> Object {
        Object { bucket: bucket.to_owned(), name: name.to_owned(), generation: None, is_announced }
    }

    #[test]
    fn only_what_is_allowed_passes() {
        let places = |texts: &[&str]| texts.iter().map(|text| Location::parse(text).unwrap()).collect();
        let objects = Objects {
            allowed: places(&["images", "tables/in"]),
            written: Location::parse("images/results"),
            storage: None,
        };
        for (bucket, name, is_announced, allowed) in [
            ("images", "a.jpg", true, true),
            ("tables", "in/a.csv", false, true),
            ("tables", "inner/a.csv", false, false),
            ("other", "a", false, false),
            ("images", "results/17", true, false),
            ("images", "results/17", false, true),
            ("images", "results-2/17", true, true),
        ] {
            let checked = objects.check(&object(bucket, name, is_announced));
            assert_eq!(checked.is_ok(), allowed, "{bucket}/{name}");
        }
        let nothing = Objects { allowed: Vec::new(), written: None, storage: None };
        assert_eq!(nothing.check(&object("images", "a", false)).unwrap_err().code, Code::InputForbidden);
    }
}
