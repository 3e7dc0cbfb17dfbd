//! A Cloud Storage bucket as a source: listed by prefix, downloaded at the listed generations into the cache.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use google_cloud_storage::client::{Storage, StorageControl};
use tokio::task::spawn_blocking;

use super::super::cache::Cache;
use super::super::download::Object;
use super::super::listing::{ListedFile, ListedVersion, Listing, ListingBuilder};
use super::super::version;
use super::fetched::Fetched;
use crate::config;
use crate::gcp::calls::in_time;
use crate::gcp::storage::bucket_resource;
use crate::gcp::{clients, probes};
use crate::hint::Hint as _;

#[derive(Debug)]
pub struct Bucket {
    storage: Storage,
    control: StorageControl,
    pub(super) name: String,
    /// Begins the names of all objects: empty, or ends in `/`.
    pub(super) prefix: String,
    pub(super) cache: Arc<Cache>,
}

impl Bucket {
    /// # Errors
    /// The bucket does not exist or does not answer, or the cache cannot be used.
    pub(super) async fn connect(name: &str, prefix: &str, cache: &config::Cache) -> anyhow::Result<Self> {
        let control = clients::storage_control().await?;
        probes::bucket(&control, name).await?;
        Ok(Self {
            storage: clients::storage().await?,
            control,
            name: name.to_owned(),
            prefix: match prefix.trim_end_matches('/') {
                "" => String::new(),
                prefix => format!("{prefix}/"),
            },
            cache: Arc::new(Cache::open(cache.directory.as_deref(), Some(cache.size))?),
        })
    }

    pub(super) async fn list(&self) -> anyhow::Result<Listing> {
        use google_cloud_gax::paginator::ItemPaginator as _;
        let Self { name, prefix, .. } = self;
        let mut objects =
            self.control.list_objects().set_parent(bucket_resource(name)).set_prefix(prefix).by_item();
        let alone = version::names(&Path::new(name).join(prefix));
        let mut builder = ListingBuilder::new(&alone);
        let failed = || format!("cannot list gs://{name}/{prefix}");
        while let Some(object) = in_time(objects.next()).await.with_context(failed)? {
            let object = match object {
                Err(error) if clients::code(&error) == Some("PERMISSION_DENIED") => {
                    return Err(error)
                        .with_context(failed)
                        .hint("check the rights (roles/storage.objectViewer)");
                }
                object => object.with_context(failed)?,
            };
            let Some(path) = object.name.strip_prefix(prefix) else { continue };
            let size = u64::try_from(object.size).unwrap_or(0);
            let crc32c = object.checksums.and_then(|sums| sums.crc32c);
            builder.add(path, size, object.generation, crc32c);
        }
        Ok(builder.finish())
    }

    /// Finds the version `from` in the cache, or downloads it there.
    pub(super) async fn fetch(
        &self,
        from: String,
        listed: &ListedVersion,
        progress: impl Fn(u64),
    ) -> anyhow::Result<Fetched> {
        let fetched = |(folder, lease)| Fetched { folder, lease: Some(lease), copy: None };
        let (cache, at, wanted) = (Arc::clone(&self.cache), from.clone(), listed.clone());
        if let Some(found) = spawn_blocking(move || cache.find(&at, &wanted)).await? {
            tracing::info!(model = listed.model, version = listed.version.as_str(), "found in the cache");
            return Ok(fetched(found));
        }
        let partial = self.cache.begin(listed.size())?;
        for file in &listed.files {
            let object = self.object(listed, file);
            object
                .download(&partial.files().join(&file.path), &progress)
                .await
                .with_context(|| format!("cannot fetch gs://{}/{}", self.name, object.name))?;
        }
        self.cache.finish(partial, &from, listed).map(fetched)
    }

    /// The content of one small file.
    pub(super) async fn read_file(
        &self,
        listed: &ListedVersion,
        file: &ListedFile,
    ) -> anyhow::Result<Vec<u8>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("file");
        self.object(listed, file).download(&path, &|_| {}).await?;
        Ok(tokio::fs::read(&path).await?)
    }

    fn object<'a>(&'a self, listed: &ListedVersion, file: &'a ListedFile) -> Object<'a> {
        let slash = if listed.folder.is_empty() { "" } else { "/" };
        let name = format!("{}{}{slash}{}", self.prefix, listed.folder, file.path);
        Object { storage: &self.storage, bucket: &self.name, name, file }
    }
}
