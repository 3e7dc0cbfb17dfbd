//! A directory as a source. Unreadable files are skipped with a warning, and versions are loaded from private
//! copies.
//!
//! A served version must not change with its files: ONNX Runtime maps the weights into memory, so an
//! overwritten file would change results, and a truncated one would end the process. A hard link has the same
//! problem, so files are cloned if the file system supports it, and copied otherwise. A copy exists only
//! until its version is loaded: a mapping outlasts the name of its file.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow, ensure};
use tokio::fs;
use tokio::io::{AsyncWriteExt as _, BufReader};

use super::super::cache::Cache;
use super::super::listing::{ListedFile, ListedVersion, Listing, ListingBuilder};
use super::super::version;
use super::fetched::Fetched;

/// Limit of nested folders below a model's.
const MAX_LEVELS: usize = 16;
/// Limit of a version's files: links to folders may multiply them.
const MAX_FILES: usize = 10_000;
/// The coarsest steps of file systems' times. A change of a file that is younger may not change its times.
const TIME_STEP: Duration = Duration::from_millis(20);
/// Bytes of one read.
const BLOCK: usize = 1 << 20;

#[derive(Debug)]
pub struct Directory {
    pub(crate) root: PathBuf,
    /// Holds copies of versions; `None`: versions are read in place.
    pub(crate) copies: Option<Cache>,
}

impl Directory {
    /// Copies exactly the listed files.
    ///
    /// # Errors
    /// A file cannot be read or has changed since the listing, or the disk has no room.
    pub(crate) async fn fetch(&self, listed: &ListedVersion) -> anyhow::Result<Fetched> {
        let folder = self.root.join(&listed.folder);
        let Some(copies) = &self.copies else { return Ok(Fetched { folder, lease: None, copy: None }) };
        let partial = copies.begin(listed.size())?;
        for file in &listed.files {
            let (from, to) = (folder.join(&file.path), partial.files().join(&file.path));
            copy(file, &from, &to).await.with_context(|| format!("cannot copy {from:?}"))?;
        }
        Ok(Fetched { folder: partial.files(), lease: None, copy: Some(partial) })
    }
}

async fn copy(file: &ListedFile, from: &Path, to: &Path) -> anyhow::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).await?;
    }
    // Opening must not block, even if a pipe has replaced the file.
    let without_waiting = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let source = fs::File::options().read(true).custom_flags(without_waiting).open(from).await?;
    let metadata = source.metadata().await?;
    ensure!(metadata.is_file(), "expected a file");
    // Waits until any later change of the file must show in its times.
    let age = SystemTime::now().duration_since(changed(&metadata)).unwrap_or_default();
    tokio::time::sleep(TIME_STEP.saturating_sub(age)).await;
    let mut target = fs::File::create(to).await?;
    if !shares_blocks(&target, &source) {
        tokio::io::copy_buf(&mut BufReader::with_capacity(BLOCK, source), &mut target).await?;
        target.flush().await?;
    }
    // By its name, since the file may have been replaced.
    let metadata = fs::metadata(from).await?;
    let (size, copied) = (metadata.len(), target.metadata().await?.len());
    ensure!(
        (size, copied, generation(&metadata)) == (file.size, file.size, file.generation),
        "it changed after it was listed"
    );
    Ok(())
}

/// Makes `target` share the blocks of `source`, where the file system can.
#[cfg(target_os = "linux")]
fn shares_blocks(target: &fs::File, source: &fs::File) -> bool {
    rustix::fs::ioctl_ficlone(target, source).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn shares_blocks(_: &fs::File, _: &fs::File) -> bool {
    false
}

/// The time of the last change of content or name, which users cannot set.
fn changed(metadata: &Metadata) -> SystemTime {
    let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
    UNIX_EPOCH + Duration::new(seconds, u32::try_from(metadata.ctime_nsec()).unwrap_or(0))
}

/// A number that differs after each change: of the content, which sets both times, or of the name, which sets
/// one. Not the inode, which network file systems change at times.
fn generation(metadata: &Metadata) -> i64 {
    let nanoseconds = |seconds: i64, rest: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(rest);
    let modified = nanoseconds(metadata.mtime(), metadata.mtime_nsec());
    let changed = nanoseconds(metadata.ctime(), metadata.ctime_nsec());
    // Rotated, since both times are equal for most files and would cancel each other out.
    modified ^ changed.rotate_left(1)
}

/// Lists the directory.
///
/// # Errors
/// The directory itself cannot be read.
pub(crate) fn list(root: &Path) -> anyhow::Result<Listing> {
    // Relative paths, and links, do not have the names.
    let alone = version::names(&root.canonicalize().unwrap_or_else(|_| root.to_owned()));
    let builder = ListingBuilder::new(&alone);
    let mut walk = Walk { root, above: Vec::new(), files: HashMap::new(), builder };
    let metadata = std::fs::metadata(root).with_context(|| format!("cannot list {root:?}"))?;
    walk.folder(root, &metadata).map_err(|error| anyhow!("cannot list {root:?}: {error}"))?;
    Ok(walk.builder.finish())
}

/// True for the error of a link without a target: a mistake in the source, not a failure to read it.
fn is_dangling(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

struct Walk<'a> {
    root: &'a Path,
    /// The current folder and those above it, by device and inode.
    above: Vec<(u64, u64)>,
    /// The number of files of each version.
    files: HashMap<String, usize>,
    builder: ListingBuilder<'a>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, metadata: &Metadata) -> io::Result<()> {
        let entries = std::fs::read_dir(folder)?;
        self.above.push((metadata.dev(), metadata.ino()));
        for entry in entries {
            match entry {
                Ok(entry) => self.entry(&entry.path()),
                Err(error) => self.unreadable(folder, &error),
            }
        }
        self.above.pop();
        Ok(())
    }

    fn entry(&mut self, path: &Path) {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if path.is_symlink() && is_dangling(&error) => {
                return self.ignore(path, &format!("expected a link to something that is there: {error}"));
            }
            // Removed after its folder was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.unreadable(path, &error),
        };
        let Some(relative) = path.strip_prefix(self.root).ok().and_then(Path::to_str) else {
            return self.ignore(path, "expected a name in UTF-8");
        };
        if metadata.is_file() {
            self.file(relative, &metadata);
        } else if !metadata.is_dir() {
            self.ignore(path, "expected a file or a folder");
        } else if self.above.contains(&(metadata.dev(), metadata.ino())) {
            self.ignore(path, "expected a folder, found a link to one that it lies in");
        } else if self.above.len() > MAX_LEVELS {
            self.ignore(path, &format!("expected at most {MAX_LEVELS} folders inside each other"));
        } else if let Err(error) = self.folder(path, &metadata) {
            self.unreadable(path, &error);
        }
    }

    fn file(&mut self, relative: &str, metadata: &Metadata) {
        let version: String = relative.split_inclusive('/').take(2).collect();
        let files = self.files.entry(version.clone()).or_default();
        *files += 1;
        if *files > MAX_FILES {
            let expected = format!("expected at most {MAX_FILES} files, the others are skipped");
            return self.builder.ignore(version.trim_end_matches('/'), expected);
        }
        self.builder.add(relative, metadata.len(), generation(metadata), None);
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        let relative = path.strip_prefix(self.root).unwrap_or(path);
        if let Some(model) = relative.iter().next() {
            self.builder.unreadable(model.to_string_lossy().into_owned());
        }
        self.ignore(path, &format!("expected something that can be read: {error}"));
    }

    fn ignore(&mut self, path: &Path, expected: &str) {
        let relative = path.strip_prefix(self.root).unwrap_or(path);
        self.builder.ignore(&relative.to_string_lossy(), expected.to_owned());
    }
}
