//! One object at one generation, onto the local disk: what breaks is resumed where it broke, what stalls is broken.
//!
//! The attempts are bounded; bytes and checksum are held against the listing. A generation that is gone is not replaced by
//! another: the caller lists anew.

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

/// A read that brings no byte for so long has stalled. Short, since going on from there costs one request.
const STALL: Duration = Duration::from_secs(10);

/// An object at the generation and of the bytes that were listed.
pub(crate) struct Object<'a> {
    pub(crate) storage: &'a Storage,
    pub(crate) bucket: &'a str,
    pub(crate) name: String,
    pub(crate) file: &'a ListedFile,
}

/// Why a read ended early.
enum Broken {
    /// Another read may go on.
    ForNow(anyhow::Error),
    ForGood(anyhow::Error),
}

/// The file as far as it came.
struct Received {
    out: fs::File,
    size: u64,
    crc: u32,
}

impl Object<'_> {
    /// Writes the object to `path`. `progress` hears how many bytes came, again where they had to come again.
    ///
    /// # Errors
    /// The generation is gone or forbidden, the attempts are used up, or the disk refuses. A half file is left at `path`.
    pub(crate) async fn download(&self, path: &Path, progress: &impl Fn(u64)) -> anyhow::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).await?;
        }
        let mut received = Received { out: fs::File::create(path).await?, size: 0, crc: 0 };
        let mut delays = backoff::download();
        loop {
            let error = match self.read_on(&mut received, progress).await {
                Ok(()) => return Ok(()),
                Err(Broken::ForGood(error)) => return Err(error),
                Err(Broken::ForNow(error)) => error,
            };
            let Some(delay) = delays.next() else {
                return Err(error.context(format!("given up after {DOWNLOAD_ATTEMPTS} attempts")));
            };
            tracing::warn!(
                object = format!("gs://{}/{}", self.bucket, self.name),
                error = format!("{error:#}"),
                received = received.size,
                of = self.file.size,
                "a download broke and will be resumed"
            );
            tokio::time::sleep(delay).await;
        }
    }

    /// Reads from where `received` ends.
    async fn read_on(&self, received: &mut Received, progress: &impl Fn(u64)) -> Result<(), Broken> {
        let file = self.file;
        if received.size < file.size {
            self.read_rest(received, progress).await?;
        }
        received.out.flush().await.map_err(on_disk)?;
        if received.size < file.size {
            let short = anyhow!("{} bytes came, {} were listed", received.size, file.size);
            return Err(Broken::ForNow(short));
        }
        match file.crc32c {
            Some(listed) if listed != received.crc => {
                let crc = received.crc;
                received.restart().await.map_err(on_disk)?;
                Err(Broken::ForNow(anyhow!("its crc32c is {crc:08x}, {listed:08x} was listed")))
            }
            _ => Ok(()),
        }
    }

    async fn read_rest(&self, received: &mut Received, progress: &impl Fn(u64)) -> Result<(), Broken> {
        let range = ReadRange::offset(received.size);
        let generation = Some(self.file.generation);
        let opened = storage::open(self.storage, self.bucket, &self.name, generation, range).await;
        let mut response = opened.map_err(Broken::ForNow)?.map_err(refused)?;
        while let Some(chunk) = timeout(STALL, response.next()).await.map_err(stalled)? {
            let chunk = chunk.map_err(refused)?;
            received.size += chunk.len() as u64;
            if received.size > self.file.size {
                let listed = self.file.size;
                return Err(Broken::ForGood(anyhow!(
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

fn on_disk(error: std::io::Error) -> Broken {
    Broken::ForGood(anyhow::Error::from(error).context("cannot write it to the disk"))
}

fn stalled(_: tokio::time::error::Elapsed) -> Broken {
    Broken::ForNow(anyhow!("no byte came for {} seconds", STALL.as_secs()))
}

/// What asks for another request, not for another time, does not pass by itself.
fn refused(error: google_cloud_storage::Error) -> Broken {
    use google_cloud_gax::error::rpc::Code;
    let lasting = [
        Code::NotFound,
        Code::PermissionDenied,
        Code::Unauthenticated,
        Code::InvalidArgument,
        Code::FailedPrecondition,
        Code::OutOfRange,
    ];
    let is_lasting = error.http_status_code().is_some_and(|code| matches!(code, 400..=407 | 409..=428))
        || error.status().is_some_and(|status| lasting.contains(&status.code));
    let error = anyhow::Error::from(error);
    if is_lasting { Broken::ForGood(error) } else { Broken::ForNow(error) }
}
