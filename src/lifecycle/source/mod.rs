//! The source of model versions: a directory or a bucket, listed and read the same way.

mod bucket;
mod directory;
mod fetched;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::task::spawn_blocking;

use self::bucket::Bucket;
use self::directory::Directory;
pub use self::fetched::Fetched;
use super::cache::Cache;
use super::listing::{ListedFile, ListedVersion, Listing};
use crate::config;
use crate::hint::Hint as _;
use crate::model::bundle;
use crate::model::bundle::{DECLARATION, MANIFEST};

#[derive(Debug)]
pub enum Source {
    Directory(Box<Directory>),
    Bucket(Box<Bucket>),
}

impl Source {
    /// A directory whose versions are read in place, without a private copy: for commands that read one
    /// version once.
    pub fn in_place(root: PathBuf) -> Self {
        Self::Directory(Box::new(Directory { root, copies: None }))
    }

    /// # Errors
    /// The directory or the bucket does not exist or must not be listed, the server does not answer, or the
    /// cache cannot be used.
    pub async fn connect(source: &config::Source, cache: &config::Cache) -> anyhow::Result<Self> {
        Ok(match source {
            config::Source::Directory(root) => {
                if !root.is_dir() {
                    return Err(anyhow::anyhow!(
                        "the models' directory {root:?} does not exist or is no directory"
                    ))
                    .hint("create it, or correct `models.source`; it holds MODEL/VERSION/model.onnx");
                }
                Self::Directory(Box::new(Directory {
                    root: root.clone(),
                    copies: Some(Cache::open(cache.directory.as_deref(), None)?),
                }))
            }
            config::Source::Bucket { bucket, prefix } => {
                Self::Bucket(Box::new(Bucket::connect(bucket, prefix, cache).await?))
            }
        })
    }

    /// The address of a version, as `/info` and the log name it.
    pub fn address(&self, listed: &ListedVersion) -> String {
        self.locate(&listed.folder).trim_end_matches('/').to_owned()
    }

    /// The address of a path inside the source.
    pub(crate) fn locate(&self, path: &str) -> String {
        match self {
            Self::Directory(source) => source.root.join(path).display().to_string(),
            Self::Bucket(source) => format!("gs://{}/{}{path}", source.name, source.prefix),
        }
    }

    /// Holds the files of versions before they are loaded; `None` where they are read in place.
    fn cache(&self) -> Option<&Cache> {
        match self {
            Self::Directory(source) => source.copies.as_ref(),
            Self::Bucket(source) => Some(&source.cache),
        }
    }

    /// Marks the cached files of a version, if there are any, as used now.
    pub(crate) fn mark_used(&self, listed: &ListedVersion) {
        if let Some(cache) = self.cache() {
            cache.mark_used(&self.address(listed), listed);
        }
    }

    /// The folder that holds downloads, if there is one.
    pub fn downloads(&self) -> Option<&Path> {
        self.cache().map(Cache::root)
    }

    /// The folder for the records of loads that ended the process. It lies in the cache where that is kept.
    /// Otherwise it is a temporary folder of this source, which outlasts the process but not the machine.
    pub fn crashes(&self) -> PathBuf {
        match self.cache().filter(|cache| cache.is_lasting()) {
            Some(cache) => cache.root().join("loads"),
            None => {
                let source = crc32c::crc32c(self.locate("").as_bytes());
                std::env::temp_dir().join(format!("predictd-loads-{source:08x}"))
            }
        }
    }

    /// True when the object that a notification names lies in this source.
    pub fn covers(&self, bucket: &str, object: &str) -> bool {
        match self {
            Self::Directory(_) => false,
            Self::Bucket(source) => source.name == bucket && object.starts_with(&source.prefix),
        }
    }

    /// Lists everything that is there now.
    pub async fn list(&self) -> anyhow::Result<Listing> {
        let mut listing = match self {
            Self::Directory(source) => {
                let root = source.root.clone();
                spawn_blocking(move || directory::list(&root)).await??
            }
            Self::Bucket(source) => source.list().await?,
        };
        for ignored in &mut listing.ignored {
            ignored.path = self.locate(&ignored.path);
        }
        Ok(listing)
    }

    /// True when the version declares a new signature. Reads its manifest and declaration alone.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub(crate) async fn declares_new_signature(&self, listed: &ListedVersion) -> anyhow::Result<bool> {
        let declares = |file: &&ListedFile| {
            [MANIFEST, DECLARATION].contains(&&*file.path) && file.size <= bundle::MAX_DECLARATION_BYTES
        };
        for file in listed.files.iter().filter(declares) {
            if bundle::declares_new_signature(&file.path, &self.read_file(listed, file).await?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn read_file(&self, listed: &ListedVersion, file: &ListedFile) -> anyhow::Result<Vec<u8>> {
        let from = format!("{}/{}", self.address(listed), file.path);
        let content = match self {
            Self::Directory(_) => tokio::fs::read(&from).await.map_err(anyhow::Error::from),
            Self::Bucket(source) => source.read_file(listed, file).await,
        };
        content.with_context(|| format!("cannot read {from}"))
    }

    /// Brings exactly the listed generations to the local disk and verifies their sizes and checksums.
    /// `progress` gets the number of bytes of each part downloaded.
    ///
    /// # Errors
    /// A file cannot be read, or the disk has no room. No partial files are left.
    pub async fn fetch(&self, listed: &ListedVersion, progress: impl Fn(u64)) -> anyhow::Result<Fetched> {
        match self {
            Self::Directory(source) => source.fetch(listed).await,
            Self::Bucket(source) => {
                let from = self.address(listed);
                source.fetch(from, listed, progress).await
            }
        }
    }
}
