//! A directory as a source: what cannot be read is passed over by name, and what is loaded is a private copy.
//!
//! A served version must not change with its files: ONNX Runtime maps the weights into memory, where an
//! overwritten file changes answers and a truncated one ends the process. A hard link would share all that,
//! so files are cloned where the file system can, else copied. A copy is only there until its version is
//! loaded: what is mapped outlasts its name.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow, ensure};
use tokio::fs;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::cache::Cache;
use super::super::listing::{Collector, ListedFile, ListedVersion, Listing};
use super::fetched::Fetched;

/// Folders inside each other below a model's.
const MOST_LEVELS: usize = 16;
/// Files of a version: links to folders may multiply them.
const MOST_FILES: usize = 10_000;
/// File systems tell times in steps of this, at worst: a later change of a file that is younger may not show.
const STEP: Duration = Duration::from_millis(20);
/// Bytes read at once.
const PIECE: usize = 1 << 20;

#[derive(Debug)]
pub struct Directory {
    pub(crate) root: PathBuf,
    /// The place for copies of versions; none: they are read where they lie.
    pub(crate) copies: Option<Cache>,
}

impl Directory {
    /// A copy of exactly the listed files.
    ///
    /// # Errors
    /// A file cannot be read or is another one than was listed, or the disk has no room.
    pub(crate) async fn fetch(
        &self,
        listed: &ListedVersion,
        progress: impl Fn(u64),
    ) -> anyhow::Result<Fetched> {
        let folder = self.root.join(&listed.model).join(listed.version.as_str());
        let Some(copies) = &self.copies else { return Ok(Fetched { folder, lease: None, copy: None }) };
        let partial = copies.begin(listed.size())?;
        for file in &listed.files {
            let (from, to) = (folder.join(&file.path), partial.files().join(&file.path));
            copy(file, &from, &to, &progress).await.with_context(|| format!("cannot copy {from:?}"))?;
        }
        Ok(Fetched { folder: partial.files(), lease: None, copy: Some(partial) })
    }
}

async fn copy(file: &ListedFile, from: &Path, to: &Path, progress: &impl Fn(u64)) -> anyhow::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).await?;
    }
    // A pipe that has taken the file's place must not be waited for.
    let without_waiting = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut source = fs::File::options().read(true).custom_flags(without_waiting).open(from).await?;
    let metadata = source.metadata().await?;
    ensure!(metadata.is_file(), "expected a file");
    let age = SystemTime::now().duration_since(changed(&metadata)).unwrap_or_default();
    tokio::time::sleep(STEP.saturating_sub(age)).await;
    let mut target = fs::File::create(to).await?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
        let mut piece = vec![0; PIECE];
        loop {
            let read = source.read(&mut piece).await?;
            if read == 0 {
                break;
            }
            target.write_all(&piece[..read]).await?;
            progress(read as u64);
        }
        target.flush().await?;
    }
    // By its name: it may have been replaced, too.
    let metadata = fs::metadata(from).await?;
    let (size, copied) = (metadata.len(), target.metadata().await?.len());
    ensure!(
        (size, copied, generation(&metadata)) == (file.size, file.size, file.generation),
        "it changed after it was listed"
    );
    Ok(())
}

/// When the file's content or name changed last, which nobody can set.
fn changed(metadata: &Metadata) -> SystemTime {
    let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
    UNIX_EPOCH + Duration::new(seconds, u32::try_from(metadata.ctime_nsec()).unwrap_or(0))
}

/// Another number after each change: of the content, which shows in both times, or of the name, which shows
/// in one. Not the inode: file systems over a network give a file another one now and then.
fn generation(metadata: &Metadata) -> i64 {
    let nanoseconds = |seconds: i64, rest: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(rest);
    let modified = nanoseconds(metadata.mtime(), metadata.mtime_nsec());
    let changed = nanoseconds(metadata.ctime(), metadata.ctime_nsec());
    // Equal for most files, where the one must not cancel the other out.
    modified ^ changed.rotate_left(1)
}

/// # Errors
/// The directory itself cannot be read.
pub(crate) fn list(root: &Path) -> anyhow::Result<Listing> {
    let mut walk = Walk { root, above: Vec::new(), files: HashMap::new(), collector: Collector::default() };
    let metadata = std::fs::metadata(root).with_context(|| format!("cannot list {root:?}"))?;
    walk.folder(root, &metadata).map_err(|error| anyhow!("cannot list {root:?}: {error}"))?;
    Ok(walk.collector.into_listing())
}

/// True when a link has no end: that is no trouble with reading, and no access right changes it.
fn leads_nowhere(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

struct Walk<'a> {
    root: &'a Path,
    /// The folders that the walk is in, by device and inode.
    above: Vec<(u64, u64)>,
    /// How many were found of each version.
    files: HashMap<String, usize>,
    collector: Collector,
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
            Err(error) if path.is_symlink() && leads_nowhere(&error) => {
                return self.ignore(path, &format!("expected a link to something that is there: {error}"));
            }
            // It went between the listing and this look at it.
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
        } else if self.above.len() > MOST_LEVELS {
            self.ignore(path, &format!("expected at most {MOST_LEVELS} folders inside each other"));
        } else if let Err(error) = self.folder(path, &metadata) {
            self.unreadable(path, &error);
        }
    }

    fn file(&mut self, relative: &str, metadata: &Metadata) {
        let version: String = relative.split_inclusive('/').take(2).collect();
        let files = self.files.entry(version.clone()).or_default();
        *files += 1;
        if *files > MOST_FILES {
            let expected = format!("expected at most {MOST_FILES} files, the others are passed over");
            return self.collector.ignore(version.trim_end_matches('/'), expected);
        }
        self.collector.add(relative, metadata.len(), generation(metadata), None);
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        let relative = path.strip_prefix(self.root).unwrap_or(path);
        if let Some(model) = relative.iter().next() {
            self.collector.unreadable(model.to_string_lossy().into_owned());
        }
        self.ignore(path, &format!("expected something that can be read: {error}"));
    }

    fn ignore(&mut self, path: &Path, expected: &str) {
        let relative = path.strip_prefix(self.root).unwrap_or(path);
        self.collector.ignore(&relative.to_string_lossy(), expected.to_owned());
    }
}
