//! Objects of Cloud Storage. Every call is tried again for a bounded time; a read that breaks goes on where it
//! broke.

use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use google_cloud_gax::paginator::ItemPaginator as _;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_storage::client::{Storage, StorageControl};
use google_cloud_storage::model::Object;
use google_cloud_storage::model_ext::ReadRange;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::errors::TooLarge;
use crate::backoff;
use crate::files::job::{Input, InputChanged};
use crate::gcp::calls::in_time;
use crate::gcp::clients;
use crate::gcp::storage::{self, TRANSFER_TIMEOUT, bucket_resource};

/// Parts of an object that are read ahead.
const READ_AHEAD: usize = 4;
/// Time limit of an upload of a whole shard.
const UPLOAD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(600);

#[derive(Debug, Clone)]
pub struct Bucket {
    storage: Storage,
    control: StorageControl,
    runtime: Handle,
}

/// The outcome of one attempt.
enum Attempt<T> {
    Done(T),
    /// Another attempt would fail in the same way.
    Failed(anyhow::Error),
    Again(anyhow::Error),
}

impl Bucket {
    /// To be called on the async runtime.
    pub async fn connect() -> anyhow::Result<Self> {
        let (storage, control) = (clients::storage().await?, clients::storage_control().await?);
        Ok(Self { storage, control, runtime: Handle::current() })
    }

    /// Blocks until an attempt has an outcome, or all have failed.
    fn attempt<T, F: Future<Output = Attempt<T>>>(
        &self,
        what: impl Fn() -> String,
        call: impl Fn() -> F,
    ) -> anyhow::Result<T> {
        self.runtime.block_on(async {
            let mut delays = backoff::object();
            loop {
                let error = match call().await {
                    Attempt::Done(value) => return Ok(value),
                    Attempt::Failed(error) => return Err(error).with_context(what),
                    Attempt::Again(error) => error,
                };
                let Some(delay) = delays.next() else { return Err(error).with_context(what) };
                tracing::debug!(what = what(), error = format!("{error:#}"), "trying again");
                tokio::time::sleep(delay).await;
            }
        })
    }

    /// Objects whose names begin with `prefix`.
    fn list(&self, bucket: &str, prefix: &str, delimiter: &str) -> anyhow::Result<Vec<Object>> {
        let call = || async {
            let list = self.control.list_objects().set_parent(bucket_resource(bucket));
            let mut objects = list.set_prefix(prefix).set_delimiter(delimiter).by_item();
            let mut found = Vec::new();
            loop {
                match in_time(objects.next()).await {
                    Ok(Some(Ok(object))) => found.push(object),
                    Ok(None) => return Attempt::Done(found),
                    Ok(Some(Err(error))) => return classify(error),
                    Err(error) => return Attempt::Again(error),
                }
            }
        };
        self.attempt(|| format!("cannot list gs://{bucket}/{prefix}"), call)
    }

    pub(super) fn expand(&self, bucket: &str, name: &str) -> anyhow::Result<Vec<Input>> {
        let fixed = name.find(['*', '?', '[']).unwrap_or(name.len());
        let pattern = glob::Pattern::new(name)
            .with_context(|| format!("expected an address with wildcards, got gs://{bucket}/{name}"))?;
        let is_folder = name.is_empty() || name.ends_with('/');
        let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
        let delimiter = if fixed == name.len() { "/" } else { "" };
        let objects = self.list(bucket, &name[..fixed], delimiter)?;
        let is_meant = |object: &Object| match is_folder {
            true => !object.name.ends_with('/'),
            false => pattern.matches_with(&object.name, options),
        };
        Ok(objects.into_iter().filter(is_meant).map(|object| input(bucket, &object)).collect())
    }

    pub(super) fn list_folder(&self, bucket: &str, folder: &str) -> anyhow::Result<Vec<(String, u64)>> {
        let prefix = format!("{}/", folder.trim_end_matches('/'));
        let objects = self.list(bucket, &prefix, "/")?;
        let named = |object: Object| {
            let name = object.name.strip_prefix(&prefix)?.to_owned();
            Some((name, u64::try_from(object.size).unwrap_or(0)))
        };
        Ok(objects.into_iter().filter_map(named).collect())
    }

    pub(super) fn stat(&self, bucket: &str, name: &str) -> anyhow::Result<Option<Input>> {
        let call = || async {
            let get = self.control.get_object().set_bucket(bucket_resource(bucket)).set_object(name);
            match in_time(get.send()).await {
                Ok(Ok(object)) => Attempt::Done(Some(input(bucket, &object))),
                Ok(Err(error)) if is_missing(&error) => Attempt::Done(None),
                Ok(Err(error)) => classify(error),
                Err(error) => Attempt::Again(error),
            }
        };
        self.attempt(|| format!("cannot find gs://{bucket}/{name}"), call)
    }

    pub(super) fn open(
        &self,
        bucket: &str,
        name: &str,
        input: &Input,
        start: u64,
        end: u64,
    ) -> Box<dyn Read + Send> {
        let (parts, arriving) = mpsc::channel(READ_AHEAD);
        let reading = Reading {
            storage: self.storage.clone(),
            bucket: bucket.to_owned(),
            name: name.to_owned(),
            generation: input.generation,
            at: start,
            end,
        };
        self.runtime.spawn(reading.run(parts));
        Box::new(Arriving { arriving, part: Bytes::new() })
    }

    pub(super) fn read(&self, bucket: &str, name: &str, most: u64) -> anyhow::Result<Option<Vec<u8>>> {
        self.read_range(bucket, name, ReadRange::all(), most)
    }

    pub(super) fn tail(&self, bucket: &str, name: &str, most: u64) -> anyhow::Result<Vec<u8>> {
        let read = self.read_range(bucket, name, ReadRange::tail(most), u64::MAX)?;
        read.with_context(|| format!("gs://{bucket}/{name} does not exist"))
    }

    /// None if the object does not exist. One of more than `most` bytes is [`TooLarge`].
    fn read_range(
        &self,
        bucket: &str,
        name: &str,
        range: ReadRange,
        most: u64,
    ) -> anyhow::Result<Option<Vec<u8>>> {
        let call = || async {
            let mut response = match storage::open(&self.storage, bucket, name, None, range.clone()).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) if is_missing(&error) => return Attempt::Done(None),
                Ok(Err(error)) => return classify(error),
                Err(error) => return Attempt::Again(error),
            };
            let size = u64::try_from(response.object().size).unwrap_or(u64::MAX);
            if size > most {
                return Attempt::Failed(
                    TooLarge { address: format!("gs://{bucket}/{name}"), size, most }.into(),
                );
            }
            let mut content = Vec::new();
            let all = async {
                while let Some(part) = response.next().await {
                    content.extend_from_slice(&part?);
                }
                anyhow::Ok(())
            };
            match tokio::time::timeout(TRANSFER_TIMEOUT, all).await {
                Ok(Ok(())) => Attempt::Done(Some(content)),
                Ok(Err(error)) => Attempt::Again(error),
                Err(_) => Attempt::Again(anyhow!("not read in {} seconds", TRANSFER_TIMEOUT.as_secs())),
            }
        };
        self.attempt(|| format!("cannot read gs://{bucket}/{name}"), call)
    }

    pub(super) fn create(&self, bucket: &str, name: &str, content: &[u8]) -> anyhow::Result<bool> {
        let content = Bytes::copy_from_slice(content);
        let call = || async {
            let write = self
                .storage
                .write_object(bucket_resource(bucket), name, content.clone())
                .set_if_generation_match(0_i64)
                .with_retry_policy(NeverRetry)
                .send_buffered();
            written(tokio::time::timeout(TRANSFER_TIMEOUT, write).await)
        };
        self.attempt(|| format!("cannot write gs://{bucket}/{name}"), call)
    }

    pub(super) fn upload(&self, bucket: &str, name: &str, path: &Path) -> anyhow::Result<bool> {
        let call = || async {
            let file = match tokio::fs::File::open(path).await {
                Ok(file) => file,
                Err(error) => return Attempt::Failed(error.into()),
            };
            let write = self
                .storage
                .write_object(bucket_resource(bucket), name, file)
                .set_if_generation_match(0_i64)
                .with_retry_policy(NeverRetry)
                .send_buffered();
            written(tokio::time::timeout(UPLOAD_TIMEOUT, write).await)
        };
        self.attempt(|| format!("cannot write gs://{bucket}/{name}"), call)
    }

    pub(super) fn delete(&self, bucket: &str, name: &str) -> anyhow::Result<()> {
        let call = || async {
            let delete = self.control.delete_object().set_bucket(bucket_resource(bucket)).set_object(name);
            match in_time(delete.send()).await {
                Ok(Ok(())) => Attempt::Done(()),
                Ok(Err(error)) if is_missing(&error) => Attempt::Done(()),
                Ok(Err(error)) => classify(error),
                Err(error) => Attempt::Again(error),
            }
        };
        self.attempt(|| format!("cannot delete gs://{bucket}/{name}"), call)
    }
}

fn input(bucket: &str, object: &Object) -> Input {
    let address = format!("gs://{bucket}/{}", object.name);
    Input { address, size: u64::try_from(object.size).unwrap_or(0), generation: object.generation }
}

type Error = google_cloud_storage::Error;

fn is_missing(error: &Error) -> bool {
    error.http_status_code() == Some(404) || clients::code(error) == Some("NOT_FOUND")
}

/// Missing rights and wrong names stay; all else may pass.
fn classify<T>(error: Error) -> Attempt<T> {
    let is_final = matches!(error.http_status_code(), Some(400 | 401 | 403 | 404))
        || matches!(clients::code(&error), Some("PERMISSION_DENIED" | "INVALID_ARGUMENT" | "NOT_FOUND"));
    if is_final { Attempt::Failed(error.into()) } else { Attempt::Again(error.into()) }
}

/// False where the object exists. An attempt that succeeded may have lost its reply, so that the next one finds
/// the object: that is the same.
fn written(ended: Result<Result<Object, Error>, tokio::time::error::Elapsed>) -> Attempt<bool> {
    match ended {
        Ok(Ok(_)) => Attempt::Done(true),
        Ok(Err(error)) if error.http_status_code() == Some(412) => Attempt::Done(false),
        Ok(Err(error)) => classify(error),
        Err(_) => Attempt::Again(anyhow!("not written in time")),
    }
}

/// A part of an object that is read ahead, in a task of its own.
struct Reading {
    storage: Storage,
    bucket: String,
    name: String,
    generation: i64,
    at: u64,
    end: u64,
}

impl Reading {
    /// Ends when all was read, when no attempt succeeds, or when nobody reads any more.
    async fn run(mut self, parts: mpsc::Sender<io::Result<Bytes>>) {
        let mut delays = backoff::object();
        while self.at < self.end {
            let before = self.at;
            let error = match self.read_on(&parts).await {
                Attempt::Done(()) => return,
                Attempt::Failed(error) => {
                    // Keeps its own type, which the reader looks for.
                    let error =
                        error.downcast::<InputChanged>().map_or_else(io::Error::other, io::Error::other);
                    let _ = parts.send(Err(error)).await;
                    return;
                }
                Attempt::Again(error) => error,
            };
            if self.at > before {
                delays = backoff::object();
            }
            let Some(delay) = delays.next() else {
                let place = format!("cannot read gs://{}/{}", self.bucket, self.name);
                let _ = parts.send(Err(io::Error::other(format!("{place}: {error:#}")))).await;
                return;
            };
            tokio::time::sleep(delay).await;
        }
    }

    async fn read_on(&mut self, parts: &mpsc::Sender<io::Result<Bytes>>) -> Attempt<()> {
        let range = ReadRange::segment(self.at, self.end - self.at);
        let generation = Some(self.generation);
        let opened = storage::open(&self.storage, &self.bucket, &self.name, generation, range).await;
        let mut response = match opened {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if is_missing(&error) => {
                let Self { bucket, name, generation, .. } = self;
                let message = format!(
                    "gs://{bucket}/{name} was replaced or deleted after the job was planned (generation {generation})"
                );
                return Attempt::Failed(InputChanged(message).into());
            }
            Ok(Err(error)) => return classify(error),
            Err(error) => return Attempt::Again(error),
        };
        loop {
            let part = match tokio::time::timeout(TRANSFER_TIMEOUT, response.next()).await {
                Ok(Some(Ok(part))) => part,
                Ok(Some(Err(error))) => return Attempt::Again(error.into()),
                Ok(None) if self.at < self.end => return Attempt::Again(anyhow!("the object ended early")),
                Ok(None) => return Attempt::Done(()),
                Err(_) => return Attempt::Again(anyhow!("nothing came in {TRANSFER_TIMEOUT:?}")),
            };
            // A server that ignores the range must not shift what follows.
            let wanted = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(part.len());
            self.at += wanted as u64;
            if parts.send(Ok(part.slice(..wanted))).await.is_err() {
                return Attempt::Done(());
            }
        }
    }
}

/// The parts of an object, as they come.
struct Arriving {
    arriving: mpsc::Receiver<io::Result<Bytes>>,
    part: Bytes,
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.arriving.blocking_recv() {
                Some(part) => self.part = part?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.part.len());
        buffer[..length].copy_from_slice(&self.part.split_to(length));
        Ok(length)
    }
}
