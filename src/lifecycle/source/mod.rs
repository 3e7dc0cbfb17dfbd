//! Where model versions come from: a directory or a bucket, listed and read the same way.
//! What it lists is only a claim; [`crate::model::bundle`] judges whether a version is complete.

mod directory;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use google_cloud_storage::client::{Storage, StorageControl};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use self::directory::Directory;
use super::cache::{Cache, Lease, Partial};
use super::download::Object;
use super::version::Version;
use crate::config;
use crate::gcp::calls::in_time;
use crate::gcp::storage::bucket_resource;
use crate::gcp::{clients, probes};
use crate::hint::Hint as _;
use crate::model::bundle;
use crate::model::bundle::{DECLARATION, MANIFEST};

/// One file of a version, at the generation that was listed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct File {
    /// Relative to the version's folder, `/` between levels.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// The object's generation; of a local file, a number that is another one after every change.
    pub generation: i64,
    /// As the bucket reports it; a local file has none.
    pub crc32c: Option<u32>,
}

/// A version as the source lists it, files in order of their paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub model: String,
    pub version: Version,
    pub files: Vec<File>,
}

/// What a listing of the source gave.
#[derive(Debug, Default)]
pub struct Listing {
    pub versions: Vec<Listed>,
    /// Files and folders that are no part of a version, up to `MOST_IGNORED`.
    pub ignored: Vec<Ignored>,
    /// The models of whose folders a part cannot be read.
    pub unreadable: BTreeSet<String>,
}

/// Something that lies where a version, or a part of one, was expected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Ignored {
    pub path: String,
    pub expected: String,
}

/// A source that holds much else is no reason for endless warnings.
const MOST_IGNORED: usize = 100;
/// Extensions of other libraries' model files.
const OTHER_MODELS: [&str; 10] =
    ["cbm", "h5", "joblib", "keras", "pb", "pickle", "pkl", "pt", "pth", "safetensors"];

/// A version's files on the local disk. A copy stays while this lives.
#[derive(Debug)]
pub struct Fetched {
    pub folder: PathBuf,
    /// None where nothing was downloaded.
    pub lease: Option<Lease>,
    /// The copy of a directory's version.
    pub copy: Option<Partial>,
}

#[derive(Debug)]
pub enum Source {
    Directory(Box<Directory>),
    Bucket(Box<Bucket>),
}

#[derive(Debug)]
pub struct Bucket {
    storage: Storage,
    control: StorageControl,
    bucket: String,
    prefix: String,
    cache: Arc<Cache>,
}

impl Source {
    /// A directory whose versions are read where they lie: for one look at one version.
    pub fn in_place(root: PathBuf) -> Self {
        Self::Directory(Box::new(Directory { root, copies: None }))
    }

    /// # Errors
    /// The directory or the bucket does not exist or may not be listed, nobody answers for the bucket, or the cache cannot be
    /// used.
    pub async fn connect(source: &config::Source, cache: &config::Cache) -> anyhow::Result<Self> {
        Ok(match source {
            config::Source::Directory(root) => {
                if !root.is_dir() {
                    return Err(anyhow::anyhow!(
                        "the models' directory {root:?} does not exist or is no directory"
                    ))
                    .hint("create it, or correct `models.source`; it holds MODEL/VERSION/model.onnx");
                }
                // A copy is only there while its version loads, so that the disk alone is its limit.
                let copies = config::Cache { size: u64::MAX, ..cache.clone() };
                Self::Directory(Box::new(Directory {
                    root: root.clone(),
                    copies: Some(Cache::open(&copies)?),
                }))
            }
            config::Source::Bucket { bucket, prefix } => {
                let control = clients::storage_control().await?;
                probes::bucket(&control, bucket).await?;
                Self::Bucket(Box::new(Bucket {
                    storage: clients::storage().await?,
                    control,
                    bucket: bucket.clone(),
                    prefix: prefix.clone(),
                    cache: Arc::new(Cache::open(cache)?),
                }))
            }
        })
    }

    /// The address of a version, as `/info` and the log name it.
    pub fn address(&self, model: &str, version: &Version) -> String {
        self.locate(&format!("{model}/{version}"))
    }

    pub(crate) fn locate(&self, path: &str) -> String {
        match self {
            Self::Directory(source) => source.root.join(path).display().to_string(),
            Self::Bucket(source) => {
                let Bucket { bucket, prefix, .. } = &**source;
                format!("gs://{bucket}/{}{path}", folder(prefix))
            }
        }
    }

    /// Where versions are put before they are loaded; `None` where they are loaded from where they lie.
    fn cache(&self) -> Option<&Cache> {
        match self {
            Self::Directory(source) => source.copies.as_ref(),
            Self::Bucket(source) => Some(&source.cache),
        }
    }

    /// Keeps the local copy of a version, if there is one, longer than others.
    pub(crate) fn mark_used(&self, listed: &Listed) {
        if let Some(cache) = self.cache() {
            cache.mark_used(&self.address(&listed.model, &listed.version), listed);
        }
    }

    /// The folder that downloads are kept in, if any.
    pub fn downloads(&self) -> Option<&Path> {
        self.cache().map(Cache::root)
    }

    /// The folder in which loads that end the process are remembered: beside the cache where that is kept, else a
    /// temporary one of this source's own, which outlasts the process though not the machine.
    pub fn crashes(&self) -> PathBuf {
        match self.cache().filter(|cache| cache.is_lasting()) {
            Some(cache) => cache.root().join("loads"),
            None => {
                let source = crc32c::crc32c(self.locate("").as_bytes());
                std::env::temp_dir().join(format!("predictd-loads-{source:08x}"))
            }
        }
    }

    /// Whether an object that a notification names lies under this source.
    pub fn covers(&self, object_bucket: &str, object: &str) -> bool {
        match self {
            Self::Directory(_) => false,
            Self::Bucket(source) => {
                source.bucket == object_bucket && object.starts_with(&folder(&source.prefix))
            }
        }
    }

    /// Everything that is there now.
    pub async fn list(&self) -> anyhow::Result<Listing> {
        let mut listing = match self {
            Self::Directory(source) => {
                let root = source.root.clone();
                spawn_blocking(move || directory::list(&root)).await??
            }
            Self::Bucket(source) => {
                list_bucket(&source.control, &source.bucket, &folder(&source.prefix)).await?
            }
        };
        for ignored in &mut listing.ignored {
            ignored.path = self.locate(&ignored.path);
        }
        Ok(listing)
    }

    /// True when the version declares a new signature. Reads its small files alone.
    ///
    /// # Errors
    /// One of them cannot be read, whatever was tried.
    pub(crate) async fn declares_new_signature(&self, listed: &Listed) -> anyhow::Result<bool> {
        let small = |file: &&File| file.size <= bundle::MOST_DECLARED;
        for file in
            listed.files.iter().filter(|file| [MANIFEST, DECLARATION].contains(&&*file.path)).filter(small)
        {
            if bundle::declares_new_signature(&file.path, &self.read(listed, file).await?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn read(&self, listed: &Listed, file: &File) -> anyhow::Result<Vec<u8>> {
        let from = format!("{}/{}", self.address(&listed.model, &listed.version), file.path);
        let failed = || format!("cannot read {from}");
        match self {
            Self::Directory(_) => tokio::fs::read(&from).await.with_context(failed),
            Self::Bucket(source) => {
                let folder = tempfile::tempdir().with_context(failed)?;
                let path = folder.path().join("file");
                source.object(listed, file).download(&path, &|_| {}).await.with_context(failed)?;
                tokio::fs::read(&path).await.with_context(failed)
            }
        }
    }

    /// Brings exactly the listed generations to the local disk, sizes and checksums verified.
    /// `progress` hears of every so many bytes received.
    ///
    /// # Errors
    /// A file cannot be read, whatever was tried, or the disk has no room. Nothing half is left.
    pub async fn fetch(&self, listed: &Listed, progress: impl Fn(u64)) -> anyhow::Result<Fetched> {
        match self {
            Self::Directory(source) => source.fetch(listed, progress).await,
            Self::Bucket(source) => {
                let from = self.address(&listed.model, &listed.version);
                source.fetch(from, listed, progress).await
            }
        }
    }
}

impl Bucket {
    async fn fetch(&self, from: String, listed: &Listed, progress: impl Fn(u64)) -> anyhow::Result<Fetched> {
        let fetched = |(folder, lease)| Fetched { folder, lease: Some(lease), copy: None };
        let (cache, at, wanted) = (Arc::clone(&self.cache), from.clone(), listed.clone());
        if let Some(found) = spawn_blocking(move || cache.find(&at, &wanted)).await? {
            tracing::info!(model = listed.model, version = listed.version.as_str(), "found in the cache");
            return Ok(fetched(found));
        }
        let partial = self.cache.begin(listed.files.iter().map(|file| file.size).sum())?;
        for file in &listed.files {
            let object = self.object(listed, file);
            object
                .download(&partial.files().join(&file.path), &progress)
                .await
                .with_context(|| format!("cannot fetch gs://{}/{}", self.bucket, object.name))?;
        }
        self.cache.finish(partial, &from, listed).map(fetched)
    }

    fn object<'a>(&'a self, listed: &Listed, file: &'a File) -> Object<'a> {
        let name = format!("{}{}/{}/{}", folder(&self.prefix), listed.model, listed.version, file.path);
        Object { storage: &self.storage, bucket: &self.bucket, name, file }
    }
}

/// A prefix as object names continue it: empty, or ending in `/`.
fn folder(prefix: &str) -> String {
    if prefix.is_empty() { String::new() } else { format!("{}/", prefix.trim_end_matches('/')) }
}

async fn list_bucket(control: &StorageControl, bucket: &str, prefix: &str) -> anyhow::Result<Listing> {
    use google_cloud_gax::paginator::ItemPaginator as _;
    let mut items = control.list_objects().set_parent(bucket_resource(bucket)).set_prefix(prefix).by_item();
    let mut collected = Collected::default();
    let failed = || format!("cannot list gs://{bucket}/{prefix}");
    while let Some(object) = in_time(items.next()).await.with_context(failed)? {
        let object = match object {
            Err(error) if clients::code(&error) == Some("PERMISSION_DENIED") => {
                return Err(error).with_context(failed).hint("check the rights (roles/storage.objectViewer)");
            }
            object => object.with_context(failed)?,
        };
        let Some(path) = object.name.strip_prefix(prefix) else { continue };
        let file = File {
            path: String::new(),
            size: u64::try_from(object.size).unwrap_or(0),
            generation: object.generation,
            crc32c: object.checksums.and_then(|sums| sums.crc32c),
        };
        collected.add(path, file);
    }
    Ok(collected.listing())
}

/// Gathers files by model and version.
#[derive(Debug, Default)]
struct Collected {
    versions: BTreeMap<(String, String), Listed>,
    ignored: BTreeMap<String, String>,
    unreadable: BTreeSet<String>,
}

impl Collected {
    /// `path` is `model/version/file…`; anything else is no part of a version.
    fn add(&mut self, path: &str, file: File) {
        // Tools make empty objects that stand for folders.
        if path.ends_with('/') {
            return;
        }
        let mut parts = path.splitn(3, '/');
        let (model, version, rest) = match (parts.next(), parts.next(), parts.next()) {
            (Some(""), ..) => return,
            (Some(model), Some(version), Some(rest)) => (model, version, rest),
            (Some(model), Some(file), None) => {
                return self
                    .ignore(path, format!("expected a folder for each version, such as {model}/1/{file}"));
            }
            _ => return self.ignore(path, "expected MODEL/VERSION/model.onnx".to_owned()),
        };
        let Some(parsed) = Version::parse(version) else {
            let expected = "expected a version, a whole number or a semantic version such as v1.2.0";
            return self.ignore(&format!("{model}/{version}"), expected.to_owned());
        };
        // Object names are not to be trusted: `../` and the like must never leave the version's folder.
        if !Path::new(rest).components().all(|part| matches!(part, Component::Normal(_))) {
            return self.ignore(path, "expected a path that stays in the version's folder".to_owned());
        }
        let listed = self.versions.entry((model.to_owned(), version.to_owned())).or_insert_with(|| Listed {
            model: model.to_owned(),
            version: parsed,
            files: Vec::new(),
        });
        listed.files.push(File { path: rest.to_owned(), ..file });
    }

    fn ignore(&mut self, path: &str, expected: String) {
        let is_hidden = |part: &str| part.starts_with('.') && !matches!(part, "." | "..");
        if self.ignored.len() < MOST_IGNORED && !path.split('/').any(is_hidden) {
            self.ignored.insert(path.to_owned(), expected);
        }
    }

    /// Names the model files of other libraries in versions without one of ONNX.
    fn ignore_other_models(&mut self) {
        let extension = |file: &File| Path::new(&file.path).extension()?.to_str().map(str::to_owned);
        let mut found = Vec::new();
        for listed in self.versions.values() {
            let has = |wanted: &[&str]| {
                listed.files.iter().find(|file| extension(file).is_some_and(|own| wanted.contains(&&*own)))
            };
            if let (None, Some(other)) = (has(&["onnx"]), has(&OTHER_MODELS)) {
                found.push(format!("{}/{}/{}", listed.model, listed.version, other.path));
            }
        }
        for path in found {
            self.ignore(&path, "expected a model in the ONNX format, model.onnx".to_owned());
        }
    }

    fn listing(mut self) -> Listing {
        self.ignore_other_models();
        let ignored = self.ignored.into_iter().map(|(path, expected)| Ignored { path, expected }).collect();
        let mut versions: Vec<Listed> = self.versions.into_values().collect();
        for listed in &mut versions {
            listed.files.sort();
        }
        Listing { versions, ignored, unreadable: self.unreadable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(generation: i64) -> File {
        File { path: String::new(), size: 1, generation, crc32c: None }
    }

    #[test]
    fn files_are_grouped_by_model_and_version_and_the_rest_is_named() {
        let mut collected = Collected::default();
        for path in [
            "wine/1/model.onnx",
            "wine/1/data/w.bin",
            "wine/latest/model.onnx",
            "wine/2/../../x",
            "README.md",
            "wine/1/",
            "fraud/model.onnx",
            "fraud/v.1/model.onnx",
            "fraud/v.1/labels.txt",
            "fraud/2/model.pkl",
            "fraud/.DS_Store",
        ] {
            collected.add(path, file(1));
        }
        let listing = collected.listing();
        let ignored: Vec<_> =
            listing.ignored.iter().map(|ignored| (&*ignored.path, &*ignored.expected)).collect();
        let version = "expected a version, a whole number or a semantic version such as v1.2.0";
        assert_eq!(
            ignored,
            [
                ("README.md", "expected MODEL/VERSION/model.onnx"),
                ("fraud/2/model.pkl", "expected a model in the ONNX format, model.onnx"),
                ("fraud/model.onnx", "expected a folder for each version, such as fraud/1/model.onnx"),
                ("fraud/v.1", version),
                ("wine/2/../../x", "expected a path that stays in the version's folder"),
                ("wine/latest", version),
            ]
        );
        let paths: Vec<_> = listing.versions[1].files.iter().map(|f| f.path.as_str()).collect();
        assert_eq!((listing.versions.len(), paths), (2, vec!["data/w.bin", "model.onnx"]));
    }
}
