//! `predictd push`: a bundle, checked as the worker would check it, into a bucket; the manifest last, nothing
//! overwritten.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use google_cloud_storage::client::Storage;
use google_cloud_storage::model::Object;
use google_cloud_storage::streaming_source::{SizeHint, StreamingSource};
use indicatif::ProgressBar;
use tokio::io::AsyncReadExt as _;

use super::PushArgs;
use super::model::{fetch, progress_bar};
use super::output::print_error;
use crate::config::{self, Inference};
use crate::hint::Hint as _;
use crate::lifecycle::choice;
use crate::lifecycle::choice::{Base, Facts, Verdict};
use crate::lifecycle::listing::ListedVersion;
use crate::lifecycle::load;
use crate::lifecycle::source::Source;
use crate::lifecycle::version::Version;
use crate::model::bundle::{MANIFEST, Manifest, ManifestFile, base64_be};
use crate::model::interface::Interface;
use crate::model::onnx::runtime::Runtime;

const CHUNK: usize = 256 << 10;
/// Bytes in one request, 70 KB/s over [`STALL`]: a file is read, and so shows progress, a part at a time.
const PART: usize = 4 << 20;
/// An upload that makes no progress for so long is given up: the client itself tries again without end.
const STALL: Duration = Duration::from_secs(60);

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

    /// The model's versions that are there, in no order, and the names of other models.
    async fn versions(&self, source: &Source) -> anyhow::Result<(Vec<ListedVersion>, Vec<String>)> {
        let all = source.list().await?.versions.into_iter();
        let (own, others): (Vec<ListedVersion>, Vec<ListedVersion>) =
            all.partition(|listed| listed.model == self.model);
        let mut others: Vec<String> = others.into_iter().map(|listed| listed.model).collect();
        others.sort();
        others.dedup();
        Ok((own, others))
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

/// Checks the bundle, uploads it and says whether it is the newest version now.
pub async fn push(args: &PushArgs) -> anyhow::Result<String> {
    let PushArgs { folder, address, library, new_signature } = args;
    let target = Target::parse(address)?;
    let files = local_files(folder)?;
    let (runtime, interface) = check(folder, &target, library.as_deref()).await?;

    let source = config::Source::Bucket { bucket: target.bucket.clone(), prefix: target.prefix.clone() };
    let source = Source::connect(&source, &config::Cache::default()).await?;
    let (versions, others) = target.versions(&source).await?;
    let becomes_ambiguous = versions.is_empty() && others.len() == 1;
    let there = versions.iter().find(|listed| listed.version.as_str() == target.version.as_str());
    let missing = missing(&files, there, address)?;
    if !new_signature {
        compare(&source, runtime, versions.clone(), &target, interface).await?;
    }

    let storage = crate::gcp::clients::storage().await?;
    let bar = progress_bar(
        missing.iter().map(|file| file.size).sum(),
        format!("{} {}", target.model, target.version),
    );
    bar.enable_steady_tick(Duration::from_millis(200));
    let prefix = if target.prefix.is_empty() { String::new() } else { format!("{}/", target.prefix) };
    let object = |name: &str| format!("{prefix}{}/{}/{name}", target.model, target.version);
    for file in &missing {
        let object = object(&file.name);
        let failed = || format!("cannot write gs://{}/{object}", target.bucket);
        let upload = upload(&storage, &target.bucket, &object, file, &bar);
        let written = while_it_progresses(&bar, STALL, upload).await.with_context(failed)?;
        ensure!(
            u64::try_from(written.size) == Ok(file.size),
            "{}: {} bytes arrived of {}; the file changed meanwhile",
            failed(),
            written.size,
            file.size
        );
    }
    let manifest = Bytes::from(manifest(&files, *new_signature)?);
    let bucket = format!("projects/_/buckets/{}", target.bucket);
    let writing = storage
        .write_object(bucket, object(MANIFEST), manifest)
        .set_content_type("application/json")
        .set_if_generation_match(0_i64)
        .send_buffered();
    let written = while_it_progresses(&bar, STALL, async { Ok(writing.await?) }).await;
    written.with_context(|| format!("cannot write gs://{}/{}", target.bucket, object(MANIFEST)))?;
    bar.finish_and_clear();
    if becomes_ambiguous {
        print_error(&format!(
            "warning: there are two models now, {:?} and {:?}: workers without `models.default` \
             refuse requests that name no model\n",
            others[0], target.model
        ));
    }
    outcome(&source, &target).await
}

/// Loads the bundle and runs its samples.
async fn check(
    folder: &Path,
    target: &Target,
    library: Option<&str>,
) -> anyhow::Result<(Arc<Runtime>, Interface)> {
    let inference = Inference { library: library.map(Into::into), ..Inference::default() };
    let (folder, name, version) = (folder.to_owned(), target.model.clone(), target.version.to_string());
    tokio::task::spawn_blocking(move || {
        let runtime = Arc::new(Runtime::load(&inference)?);
        let from = folder.display().to_string();
        let model = load::load(&runtime, &folder, &name, &version, from)
            .with_context(|| format!("{folder:?} would not serve"))
            .hint("correct the bundle; nothing was uploaded")?;
        Ok((runtime, Interface::of(&model.signature)))
    })
    .await?
}

/// Compares the signature with that of the version that workers compare it with.
async fn compare(
    source: &Source,
    runtime: Arc<Runtime>,
    mut versions: Vec<ListedVersion>,
    target: &Target,
    own: Interface,
) -> anyhow::Result<()> {
    versions.retain(|listed| listed.version < target.version);
    versions.sort_by(|a, b| b.version.cmp(&a.version));
    let mut facts = vec![Facts { new_signature: Some(false), verdict: Verdict::Good(own.clone()) }];
    for listed in &versions {
        let new_signature = Some(source.declares_new_signature(listed).await?);
        facts.push(Facts { new_signature, verdict: Verdict::Unknown });
    }
    let expected = loop {
        match choice::base(&facts, 0) {
            Base::Open(at) => {
                let opened = open(source, &runtime, &versions[at - 1]).await?;
                facts[at].verdict = opened.map_or(Verdict::Bad, Verdict::Good);
            }
            Base::At(at) => break at,
            Base::None | Base::Unclear(_) => return Ok(()),
        }
    };
    let Verdict::Good(interface) = &facts[expected].verdict else { return Ok(()) };
    let version = versions[expected - 1].version.as_str();
    match own.difference(interface, version) {
        None => Ok(()),
        Some(difference) => Err(anyhow::anyhow!("workers would refuse it: {difference}")).hint(
            "if that is meant, and clients are ready for it, add --new-signature; nothing was uploaded",
        ),
    }
}

/// The signature of a version that is in the bucket; none of one that workers would refuse.
async fn open(
    source: &Source,
    runtime: &Arc<Runtime>,
    listed: &ListedVersion,
) -> anyhow::Result<Option<Interface>> {
    let from = source.address(&listed.model, &listed.version);
    let fetched = fetch(source, listed)
        .await
        .with_context(|| format!("cannot compare the signature with that of {from}"))
        .hint("try again, or add --new-signature, which compares nothing; nothing was uploaded")?;
    let (runtime, name, version) =
        (runtime.with_one_thread(), listed.model.clone(), listed.version.to_string());
    let load = move || load::load(&runtime, &fetched.folder, &name, &version, from);
    let loaded = tokio::task::spawn_blocking(load).await?;
    Ok(loaded.ok().map(|model| Interface::of(&model.signature)))
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

/// What must still be uploaded: all of it, or the rest of a push that was interrupted before its manifest.
fn missing<'f>(
    files: &'f [LocalFile],
    there: Option<&ListedVersion>,
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
) -> anyhow::Result<Object> {
    let source =
        Counted { file: tokio::fs::File::open(&file.path).await?, size: file.size, bar: bar.clone() };
    let written = storage
        .write_object(format!("projects/_/buckets/{bucket}"), object, source)
        .set_if_generation_match(0_i64)
        .with_known_crc32c(file.crc32c)
        .with_resumable_upload_threshold(PART)
        .with_resumable_upload_buffer_size(PART)
        .send_buffered()
        .await?;
    Ok(written)
}

/// Waits for an upload as long as the bar moves.
///
/// # Errors
/// Its own, or that nothing was sent for so long.
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
        // The upload first: after a pause of the whole process it may have moved.
        biased;
        written = upload => written,
        () = stalled => {
            let seconds = limit.as_secs();
            Err(anyhow::anyhow!("the upload made no progress for {seconds} seconds")).hint(
                "check the network, and that the addresses that the server gives for uploads can be reached; \
                 a repeated push goes on where this one stopped",
            )
        }
    }
}

/// A file that tells the progress bar what was read of it.
struct Counted {
    file: tokio::fs::File,
    /// Bytes; a small file is sent in one request where this is known.
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

/// Says what became of the version.
async fn outcome(source: &Source, target: &Target) -> anyhow::Result<String> {
    let (versions, _) = target.versions(source).await?;
    let newest = versions.into_iter().map(|listed| listed.version).max();
    let Some(newest) = newest else { bail!("the version that was pushed is gone again") };
    let pushed = source.address(&target.model, &target.version);
    let model = pushed.strip_suffix(&format!("/{}", target.version)).unwrap_or(&pushed);
    if newest == target.version {
        return Ok(format!("{pushed} uploaded; it is now the newest version under {model}"));
    }
    print_error(&format!(
        "warning: version {newest} under {model} is newer: workers do not serve {} while they can serve that\n",
        target.version
    ));
    Ok(format!("{pushed} uploaded"))
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
        let object = |path: &str, crc32c| crate::lifecycle::listing::ListedFile {
            path: path.to_owned(),
            size: 1,
            generation: 1,
            crc32c: Some(crc32c),
        };
        let left = |objects: Vec<_>| {
            let version = Version::parse("1").unwrap();
            let listed = ListedVersion { model: "m".to_owned(), version, files: objects };
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
