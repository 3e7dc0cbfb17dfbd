//! Downloads one object at one generation to the local disk. A read that breaks is resumed; one that stalls
//! is aborted.
//!
//! The attempts are limited, and size and checksum are validated against the listing. A generation that is
//! gone is not replaced by another one: the caller lists again.

use std::io::SeekFrom;
use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use google_cloud_storage::client::Storage;
use google_cloud_storage::model_ext::ReadRange;
use tokio::fs;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::listing::ListedFile;
use crate::backoff::{self, DOWNLOAD_ATTEMPTS};
use crate::gcp::storage;

/// A read that receives no byte for this time has stalled. Short, since resuming costs only one request.
const STALL: Duration = Duration::from_secs(10);

/// An object at the listed generation.
pub(crate) struct Object<'a> {
    pub(crate) storage: &'a Storage,
    pub(crate) bucket: &'a str,
    pub(crate) name: String,
    pub(crate) file: &'a ListedFile,
}

/// The reason why a read ended early.
enum ReadError {
    /// Another read may succeed.
    Transient(anyhow::Error),
    Permanent(anyhow::Error),
}

/// The part of the object received so far.
struct Received {
    out: fs::File,
    size: u64,
    crc: u32,
}

impl Object<'_> {
    /// Writes the object to `path`. `progress` gets the number of bytes of each part received; bytes that are
    /// received twice count twice.
    ///
    /// # Errors
    /// The generation is gone or forbidden, all attempts failed, or the disk cannot be written. A partial
    /// file is left at `path`.
    pub(crate) async fn download(&self, path: &Path, progress: &impl Fn(u64)) -> anyhow::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).await?;
        }
        let mut received = Received { out: fs::File::create(path).await?, size: 0, crc: 0 };
        let mut delays = backoff::download();
        loop {
            let error = match self.resume(&mut received, progress).await {
                Ok(()) => return Ok(()),
                Err(ReadError::Permanent(error)) => return Err(error),
                Err(ReadError::Transient(error)) => error,
            };
            let Some(delay) = delays.next() else {
                return Err(error.context(format!("gave up after {DOWNLOAD_ATTEMPTS} attempts")));
            };
            tracing::warn!(
                object = format!("gs://{}/{}", self.bucket, self.name),
                error = format!("{error:#}"),
                received = received.size,
                of = self.file.size,
                "a download broke, resuming it"
            );
            tokio::time::sleep(delay).await;
        }
    }

    /// Reads the rest of the object and validates it.
    async fn resume(&self, received: &mut Received, progress: &impl Fn(u64)) -> Result<(), ReadError> {
        let file = self.file;
        if received.size < file.size {
            self.read_rest(received, progress).await?;
        }
        received.out.flush().await.map_err(on_disk)?;
        if received.size < file.size {
            let short = anyhow!("received {} bytes, {} were listed", received.size, file.size);
            return Err(ReadError::Transient(short));
        }
        match file.crc32c {
            Some(listed) if listed != received.crc => {
                let crc = received.crc;
                received.restart().await.map_err(on_disk)?;
                Err(ReadError::Transient(anyhow!("its crc32c is {crc:08x}, {listed:08x} was listed")))
            }
            _ => Ok(()),
        }
    }

    async fn read_rest(&self, received: &mut Received, progress: &impl Fn(u64)) -> Result<(), ReadError> {
        let range = ReadRange::offset(received.size);
        let generation = Some(self.file.generation);
        let opened = storage::open(self.storage, self.bucket, &self.name, generation, range).await;
        let mut response = opened.map_err(ReadError::Transient)?.map_err(server_error)?;
        while let Some(chunk) = timeout(STALL, response.next()).await.map_err(stalled)? {
            let chunk = chunk.map_err(server_error)?;
            received.size += chunk.len() as u64;
            if received.size > self.file.size {
                let listed = self.file.size;
                return Err(ReadError::Permanent(anyhow!(
                    "it is larger than the {listed} bytes that were listed"
                )));
            }
            received.crc = crc32c::crc32c_append(received.crc, &chunk);
            received.out.write_all(&chunk).await.map_err(on_disk)?;
            progress(chunk.len() as u64);
        }
        Ok(())
    }
}

impl Received {
    async fn restart(&mut self) -> std::io::Result<()> {
        self.out.set_len(0).await?;
        self.out.seek(SeekFrom::Start(0)).await?;
        (self.size, self.crc) = (0, 0);
        Ok(())
    }
}

fn on_disk(error: std::io::Error) -> ReadError {
    ReadError::Permanent(anyhow::Error::from(error).context("cannot write it to the disk"))
}

fn stalled(_: tokio::time::error::Elapsed) -> ReadError {
    ReadError::Transient(anyhow!("received nothing for {} seconds", STALL.as_secs()))
}

/// The server's errors about the request itself are permanent: a retry cannot succeed.
fn server_error(error: google_cloud_storage::Error) -> ReadError {
    use google_cloud_gax::error::rpc::Code;
    let permanent = [
        Code::NotFound,
        Code::PermissionDenied,
        Code::Unauthenticated,
        Code::InvalidArgument,
        Code::FailedPrecondition,
        Code::OutOfRange,
    ];
    let is_permanent = error.http_status_code().is_some_and(|code| matches!(code, 400..=407 | 409..=428))
        || error.status().is_some_and(|status| permanent.contains(&status.code));
    let error = anyhow::Error::from(error);
    if is_permanent { ReadError::Permanent(error) } else { ReadError::Transient(error) }
}
