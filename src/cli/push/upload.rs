//! Uploads to a bucket. They may take any time as long as they make progress, and overwrite nothing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use google_cloud_storage::client::Storage;
use google_cloud_storage::model::Object;
use google_cloud_storage::streaming_source::{SizeHint, StreamingSource};
use indicatif::ProgressBar;
use tokio::io::AsyncReadExt as _;

use super::files::LocalFile;
use crate::gcp::storage::bucket_resource;
use crate::hint::Hint as _;

/// Bytes of a file read at a time.
const CHUNK: usize = 256 << 10;
/// Bytes of one request. Progress shows a part at a time, so that [`STALL`] asks for 70 KB/s.
const PART: usize = 4 << 20;
/// Time without progress after which an upload fails. Google's client would retry without end.
const STALL: Duration = Duration::from_secs(60);

/// Uploads to one bucket.
pub(super) struct Uploader {
    pub(super) storage: Storage,
    pub(super) bucket: String,
    pub(super) bar: ProgressBar,
}

impl Uploader {
    /// Uploads a file to an object that does not exist.
    ///
    /// # Errors
    /// The object exists, the upload failed or stalled, or the file has changed.
    pub(super) async fn file(&self, name: &str, local: &LocalFile) -> anyhow::Result<()> {
        let file = tokio::fs::File::open(&local.path).await.with_context(|| self.cannot_write(name))?;
        let content = Counted { file, size: local.size, bar: self.bar.clone() };
        let write = self
            .storage
            .write_object(bucket_resource(&self.bucket), name, content)
            .set_if_generation_match(0_i64)
            .with_known_crc32c(local.crc32c)
            .with_resumable_upload_threshold(PART)
            .with_resumable_upload_buffer_size(PART)
            .send_buffered();
        let arrived = self.wait(name, async { Ok(write.await?) }).await?.size;
        ensure!(
            u64::try_from(arrived) == Ok(local.size),
            "{}: {arrived} bytes arrived of {}; the file changed meanwhile",
            self.cannot_write(name),
            local.size
        );
        Ok(())
    }

    /// Uploads a short JSON text to an object that does not exist.
    ///
    /// # Errors
    /// The object exists, or the upload failed or stalled.
    pub(super) async fn json(&self, name: &str, text: Bytes) -> anyhow::Result<()> {
        let write = self
            .storage
            .write_object(bucket_resource(&self.bucket), name, text)
            .set_content_type("application/json")
            .set_if_generation_match(0_i64)
            .send_buffered();
        self.wait(name, async { Ok(write.await?) }).await.map(drop)
    }

    async fn wait(
        &self,
        name: &str,
        upload: impl Future<Output = anyhow::Result<Object>>,
    ) -> anyhow::Result<Object> {
        while_it_progresses(&self.bar, STALL, upload).await.with_context(|| self.cannot_write(name))
    }

    fn cannot_write(&self, name: &str) -> String {
        format!("cannot write gs://{}/{name}", self.bucket)
    }
}

/// Waits for an upload as long as the bar moves.
///
/// # Errors
/// The upload failed, or made no progress for `limit`.
async fn while_it_progresses<T>(
    bar: &ProgressBar,
    limit: Duration,
    upload: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let stalled = async {
        let (mut sent, mut since) = (bar.position(), Instant::now());
        loop {
            tokio::time::sleep(limit / 60).await;
            if sent != bar.position() {
                (sent, since) = (bar.position(), Instant::now());
            } else if since.elapsed() >= limit {
                return;
            }
        }
    };
    tokio::select! {
        // The upload is polled first: after a pause of the whole process it may have moved.
        biased;
        written = upload => written,
        () = stalled => {
            let seconds = limit.as_secs();
            Err(anyhow::anyhow!("the upload made no progress for {seconds} seconds")).hint(
                "check the network, and that the addresses that the server gives for uploads can be reached; \
                 repeating the push resumes it",
            )
        }
    }
}

/// A file that moves the progress bar while it is read.
struct Counted {
    file: tokio::fs::File,
    /// Bytes. A small file is sent in one request because its size is known.
    size: u64,
    bar: ProgressBar,
}

impl StreamingSource for Counted {
    type Error = std::io::Error;

    async fn size_hint(&self) -> Result<SizeHint, Self::Error> {
        Ok(SizeHint::with_exact(self.size))
    }

    async fn next(&mut self) -> Option<Result<Bytes, Self::Error>> {
        let mut chunk = vec![0; CHUNK];
        match self.file.read(&mut chunk).await {
            Ok(0) => None,
            Ok(read) => {
                self.bar.inc(read as u64);
                chunk.truncate(read);
                Some(Ok(chunk.into()))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_upload_that_moves_may_take_its_time_and_another_is_given_up() {
        let (bar, limit) = (ProgressBar::hidden(), Duration::from_millis(300));
        let moves = async {
            for _ in 0..6 {
                tokio::time::sleep(limit / 3).await;
                bar.inc(1);
            }
            Ok(())
        };
        while_it_progresses(&bar, limit, moves).await.unwrap();
        let stands = std::future::pending::<anyhow::Result<()>>();
        let error = while_it_progresses(&bar, limit, stands).await.unwrap_err();
        assert!(error.to_string().contains("no progress"), "{error}");
    }
}
