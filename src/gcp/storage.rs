//! Objects of Cloud Storage: opening one, and writing one with a bounded number of attempts.
//!
//! The retries of Google's client are off: they have no end and, for reads, no pause. Callers retry by
//! [`crate::backoff`].

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_storage::Error;
use google_cloud_storage::client::Storage;
use google_cloud_storage::model_ext::ReadRange;
use google_cloud_storage::read_object::ReadObjectResponse;
use google_cloud_storage::read_resume_policy::NeverResume;

use super::calls::in_time;
use crate::backoff;

/// Time limit of one transfer of a whole object, 64 MiB at most.
pub const TRANSFER_TIMEOUT: Duration = Duration::from_secs(60);

/// A bucket's name as calls take it.
pub fn bucket_resource(bucket: &str) -> String {
    format!("projects/_/buckets/{bucket}")
}

/// Opens an object in one attempt, at its newest generation where none is given.
///
/// # Errors
/// No answer came in time (the outer error), or Cloud Storage refused (the inner one).
pub async fn open(
    storage: &Storage,
    bucket: &str,
    name: &str,
    generation: Option<i64>,
    range: ReadRange,
) -> anyhow::Result<Result<ReadObjectResponse, Error>> {
    let mut read = storage
        .read_object(bucket_resource(bucket), name)
        .set_read_range(range)
        .with_retry_policy(NeverRetry)
        .with_read_resume_policy(NeverResume);
    if let Some(generation) = generation {
        read = read.set_generation(generation);
    }
    in_time(read.send()).await
}

/// Metadata of an object.
#[derive(Debug)]
pub struct ObjectMetadata<'a> {
    pub content_type: &'a str,
    pub content_encoding: Option<&'a str>,
    pub custom: Vec<(&'a str, &'a str)>,
}

/// Writes an object, or replaces it.
///
/// # Errors
/// Every attempt failed.
pub async fn write(
    storage: &Storage,
    bucket: &str,
    name: &str,
    bytes: Bytes,
    metadata: &ObjectMetadata<'_>,
) -> anyhow::Result<()> {
    let mut delays = backoff::object();
    loop {
        let mut write = storage
            .write_object(bucket_resource(bucket), name, bytes.clone())
            .set_content_type(metadata.content_type)
            .set_metadata(metadata.custom.iter().copied())
            .with_retry_policy(NeverRetry);
        if let Some(encoding) = metadata.content_encoding {
            write = write.set_content_encoding(encoding);
        }
        let error = match tokio::time::timeout(TRANSFER_TIMEOUT, write.send_buffered()).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error.into(),
            Err(_) => anyhow!("not written in {} seconds", TRANSFER_TIMEOUT.as_secs()),
        };
        let Some(delay) = delays.next() else {
            return Err(error).with_context(|| format!("cannot write gs://{bucket}/{name}"));
        };
        tokio::time::sleep(delay).await;
    }
}
