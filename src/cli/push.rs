//! `predictd push`: a bundle, checked as the worker would check it, into a bucket; the manifest last, nothing overwritten.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use google_cloud_storage::client::Storage;
use google_cloud_storage::streaming_source::StreamingSource;
use indicatif::ProgressBar;
use tokio::io::AsyncReadExt as _;

use super::PushArgs;
use super::model::progress_bar;
use super::report::Hint as _;
use crate::config::{self, Inference};
use crate::model::bundle::{MANIFEST, Manifest, ManifestFile, base64_be};
use crate::model::load;
use crate::model::runtime::Runtime;
use crate::model::source::{Listed, Source};
use crate::model::version::Version;

const CHUNK: usize = 256 << 10;

/// Where a version goes: `gs://BUCKET/PREFIX/MODEL/VERSION`.
#[derive(Debug, PartialEq)]
struct Target {
    bucket: String,
    prefix: String,
    model: String,
    version: Version,
}

impl Target {
    fn parse(address: &str) -> anyhow::Result<Self> {
        let parse = || {
            let parts: Vec<&str> = address.strip_prefix("gs://")?.trim_end_matches('/').split('/').collect();
            let (bucket, [prefix @ .., model, version]) = parts.split_first()? else { return None };
            Some(Self {
                bucket: (*bucket).to_owned(),
                prefix: prefix.join("/"),
                model: (*model).to_owned(),
                version: Version::parse(version)?,
            })
        };
        parse()
            .with_context(|| format!("{address:?} is no address of a version"))
            .hint("expected gs://BUCKET/PREFIX/MODEL/VERSION, VERSION a whole number or a semantic version, such as gs://my-models/models/wine/3")
    }
}

/// One file of the bundle.
#[derive(Debug)]
struct LocalFile {
    /// Relative to the folder, `/` between levels.
    name: String,
    path: PathBuf,
    size: u64,
    crc32c: u32,
}

/// Checks the bundle in `folder`, uploads it and says which version leads now.
pub async fn push(args: &PushArgs) -> anyhow::Result<String> {
    let PushArgs { folder, address, library, new_signature } = args;
    let target = Target::parse(address)?;
    let files = local_files(folder)?;
    check(folder, &target, library.as_deref()).await?;

    let source = config::Source::Bucket { bucket: target.bucket.clone(), prefix: target.prefix.clone() };
    let source = Source::connect(&source, &config::Cache::default()).await?;
    let there = version_of(&source, &target).await?;
    let missing = missing(&files, there.as_ref(), address)?;

    let storage = crate::google::storage().await?;
    let bar = progress_bar(
        missing.iter().map(|file| file.size).sum(),
        format!("{} {}", target.model, target.version),
    );
    let prefix = if target.prefix.is_empty() { String::new() } else { format!("{}/", target.prefix) };
    let object = |name: &str| format!("{prefix}{}/{}/{name}", target.model, target.version);
    for file in &missing {
        upload(&storage, &target.bucket, &object(&file.name), file, &bar).await?;
    }
    let manifest = manifest(&files, *new_signature)?;
    let written = storage
        .write_object(
            format!("projects/_/buckets/{}", target.bucket),
            object(MANIFEST),
            Bytes::from(manifest),
        )
        .set_content_type("application/json")
        .set_if_generation_match(0_i64)
        .send_buffered()
        .await;
    written.with_context(|| format!("cannot write gs://{}/{}", target.bucket, object(MANIFEST)))?;
    bar.finish_and_clear();
    leader(&source, &target).await
}

/// Loads the bundle and runs its samples.
async fn check(folder: &Path, target: &Target, library: Option<&str>) -> anyhow::Result<()> {
    let inference = Inference { library: library.map(Into::into), ..Inference::default() };
    let (folder, name, version) = (folder.to_owned(), target.model.clone(), target.version.to_string());
    tokio::task::spawn_blocking(move || {
        let runtime = Arc::new(Runtime::load(&inference)?);
        let from = folder.display().to_string();
        load::load(&runtime, &folder, &name, &version, from)
            .map(drop)
            .with_context(|| format!("{folder:?} would not serve"))
            .hint("correct the bundle; nothing was uploaded")
    })
    .await?
}

/// Every regular file under the folder but hidden ones and a manifest, which is written anew.
fn local_files(folder: &Path) -> anyhow::Result<Vec<LocalFile>> {
    fn walk(root: &Path, folder: &Path, files: &mut Vec<LocalFile>) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {folder:?}"))? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            if path.is_dir() {
                walk(root, &path, files)?;
                continue;
            }
            let relative = path.strip_prefix(root).expect("a folder's entries lie under it");
            let name = relative
                .to_str()
                .with_context(|| format!("the file name {relative:?} is no UTF-8"))?
                .to_owned();
            if name == MANIFEST {
                continue;
            }
            let (size, crc32c) = crate::model::bundle::size_and_crc32c(&path)
                .with_context(|| format!("cannot read {path:?}"))?;
            files.push(LocalFile { name, path, size, crc32c });
        }
        Ok(())
    }
    let mut files = Vec::new();
    walk(folder, folder, &mut files).hint("name the folder that holds model.onnx")?;
    // The model file last: until it is there, the version is plainly incomplete.
    files.sort_by_key(|file| (file.name.ends_with(".onnx"), file.name.clone()));
    Ok(files)
}

async fn version_of(source: &Source, target: &Target) -> anyhow::Result<Option<Listed>> {
    let listing = source.list().await?;
    let is_it =
        |listed: &Listed| listed.model == target.model && listed.version.as_str() == target.version.as_str();
    Ok(listing.versions.into_iter().find(is_it))
}

/// What must still be uploaded: all of it, or the rest of a push that was interrupted before its manifest.
fn missing<'f>(
    files: &'f [LocalFile],
    there: Option<&Listed>,
    address: &str,
) -> anyhow::Result<Vec<&'f LocalFile>> {
    let Some(there) = there else { return Ok(files.iter().collect()) };
    let overwrites = |what: String| {
        Err(anyhow::anyhow!("{address} is there already: {what}"))
            .hint("versions are never overwritten; push under a higher version")
    };
    if there.files.iter().any(|file| file.path == MANIFEST) {
        return overwrites("it has a manifest.json".to_owned());
    }
    let mut missing: Vec<&LocalFile> = files.iter().collect();
    for object in &there.files {
        let same = |file: &&LocalFile| {
            file.name == object.path && file.size == object.size && Some(file.crc32c) == object.crc32c
        };
        match missing.iter().position(same) {
            Some(at) => drop(missing.remove(at)),
            None => return overwrites(format!("its {:?} is not the bundle's", object.path)),
        }
    }
    Ok(missing)
}

fn manifest(files: &[LocalFile], new_signature: bool) -> anyhow::Result<Vec<u8>> {
    let entry = |file: &LocalFile| {
        (file.name.clone(), ManifestFile { size: file.size, crc32c: base64_be(file.crc32c) })
    };
    let files: BTreeMap<String, ManifestFile> = files.iter().map(entry).collect();
    Ok(serde_json::to_vec_pretty(&Manifest { files, new_signature })?)
}

async fn upload(
    storage: &Storage,
    bucket: &str,
    object: &str,
    file: &LocalFile,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let failed = || format!("cannot write gs://{bucket}/{object}");
    let source =
        Counted { file: tokio::fs::File::open(&file.path).await.with_context(failed)?, bar: bar.clone() };
    let written = storage
        .write_object(format!("projects/_/buckets/{bucket}"), object, source)
        .set_if_generation_match(0_i64)
        .with_known_crc32c(file.crc32c)
        .send_buffered()
        .await
        .with_context(failed)?;
    ensure!(
        u64::try_from(written.size) == Ok(file.size),
        "{}: {} bytes arrived of {}; the file changed meanwhile",
        failed(),
        written.size,
        file.size
    );
    Ok(())
}

/// A file that tells the progress bar what was read of it.
struct Counted {
    file: tokio::fs::File,
    bar: ProgressBar,
}

impl StreamingSource for Counted {
    type Error = std::io::Error;

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

/// Says which version of the model is the highest now.
async fn leader(source: &Source, target: &Target) -> anyhow::Result<String> {
    let listing = source.list().await?;
    let highest = listing
        .versions
        .into_iter()
        .filter(|listed| listed.model == target.model)
        .map(|listed| listed.version)
        .max();
    let Some(highest) = highest else { bail!("the version that was pushed is gone again") };
    let pushed = source.address(&target.model, &target.version);
    Ok(if highest == target.version {
        format!("{pushed} is there and leads: workers on this source change to it now")
    } else {
        format!("{pushed} is there, but version {highest} is higher and goes on leading")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_versions_are_read_and_others_explained() {
        let target = Target::parse("gs://b/some/models/wine/v1.2.0/").unwrap();
        assert_eq!((&*target.bucket, &*target.prefix, &*target.model), ("b", "some/models", "wine"));
        assert_eq!(Target::parse("gs://b/wine/3").unwrap().prefix, "");
        for wrong in ["b/wine/3", "gs://b/3", "gs://b/wine/latest", "gs://", "/local/wine/3"] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_interrupted_push_goes_on_and_a_whole_one_is_kept() {
        let file =
            |name: &str, crc32c| LocalFile { name: name.to_owned(), path: PathBuf::new(), size: 1, crc32c };
        let files = [file("a", 1), file("model.onnx", 2)];
        let object = |path: &str, crc32c| crate::model::source::File {
            path: path.to_owned(),
            size: 1,
            generation: 1,
            crc32c: Some(crc32c),
        };
        let left = |objects: Vec<_>| {
            let version = Version::parse("1").unwrap();
            let listed = Listed { model: "m".to_owned(), version, files: objects };
            let left = missing(&files, Some(&listed), "gs://b/m/1");
            left.map(|files| files.iter().map(|file| file.name.clone()).collect::<Vec<_>>()).ok()
        };
        assert_eq!(left(vec![object("a", 1)]), Some(vec!["model.onnx".to_owned()]));
        assert_eq!(left(vec![object("a", 9)]), None);
        assert_eq!(left(vec![object("other", 1)]), None);
        assert_eq!(left(vec![object("a", 1), object(MANIFEST, 5)]), None);
        assert_eq!(missing(&files, None, "").unwrap().len(), 2);
    }
}
