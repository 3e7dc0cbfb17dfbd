//! Downloaded versions on the local disk: whole or not there, checked before each use, within a budget.
//!
//! A version is written into a hidden folder and renamed when it is complete, so that no half of one is ever taken for a
//! version. What is in use is leased and never evicted; of the rest, the least recently used goes first.

mod entry;
mod lease;
#[cfg(test)]
mod tests;

use std::fs::{self, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use self::entry::{DESCRIPTION, FILES, damage, describe};
pub(crate) use self::entry::{Description, entry_name};
pub use self::lease::Lease;
use self::lease::Leases;
use super::listing::ListedVersion;
use crate::config;
use crate::hint::Hint as _;

/// Folders that are being written begin so.
const PARTIAL: &str = ".partial-";
/// Temporary roots begin so.
const TEMPORARY: &str = "predictd-models-";
/// Locked by the process whose root it lies in.
const LOCK: &str = ".lock";

#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    /// Bytes.
    budget: u64,
    leases: Leases,
    /// Bytes of the folders that are being written.
    partial: Arc<Mutex<u64>>,
    /// Removes a temporary root at the end, or holds the lock of a lasting one.
    place: Place,
}

/// A version that is being written; it goes with this.
#[derive(Debug)]
pub struct Partial {
    folder: TempDir,
    bytes: u64,
    all: Arc<Mutex<u64>>,
}

impl Partial {
    /// The folder for the files.
    pub fn files(&self) -> PathBuf {
        self.folder.path().join(FILES)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        *self.all.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
    }
}

#[derive(Debug)]
enum Place {
    Temporary(
        #[expect(dead_code, reason = "held for its drop")] TempDir,
        #[expect(dead_code, reason = "held for its lock")] fs::File,
    ),
    Lasting(#[expect(dead_code, reason = "held for its lock")] fs::File),
}

impl Cache {
    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens the configured directory, or a temporary one where none is configured or another worker has it.
    ///
    /// # Errors
    /// The directory cannot be made or locked.
    pub fn open(config: &config::Cache) -> anyhow::Result<Self> {
        if let Some(root) = &config.directory {
            let context = || format!("cannot use the models' cache {root:?}");
            if let Some(lock) = lock(root).with_context(context)? {
                remove_partials(root).with_context(context)?;
                return Ok(Self::new(root.clone(), config.size, Place::Lasting(lock)));
            }
            tracing::warn!(cache = ?root, "another worker uses this cache, so this one keeps nothing; give each its own `models.cache`");
        }
        remove_abandoned(&std::env::temp_dir());
        let (root, lock) = temporary()
            .context("cannot make a temporary directory for the models' files")
            .hint("set `models.cache` to a directory that may be written to, or TMPDIR")?;
        Ok(Self::new(root.path().to_owned(), config.size, Place::Temporary(root, lock)))
    }

    fn new(root: PathBuf, budget: u64, place: Place) -> Self {
        Self { root, budget, leases: Leases::default(), partial: Arc::default(), place }
    }

    /// The files of `listed` if they are here and undamaged, and a lease on them. Reads all of them.
    pub fn find(&self, from: &str, listed: &ListedVersion) -> Option<(PathBuf, Lease)> {
        let entry = self.root.join(entry_name(from, listed));
        // First, so that it is not evicted while it is read.
        let lease = self.lease(&entry);
        let description = describe(&entry)?;
        let (wanted, files) = (Description::of(from, listed), entry.join(FILES));
        let damage = if description == wanted { damage(&files, listed) } else { Some("is another's".into()) };
        if let Some(damage) = damage {
            tracing::warn!(cache = ?entry, damage, "a version in the cache is damaged and fetched anew");
            drop(lease);
            let _ = fs::remove_dir_all(&entry);
            return None;
        }
        self.mark_used(from, listed);
        Some((files, lease))
    }

    /// Has others evicted before the copy of `listed`, if there is one. A failure affects the order of eviction alone.
    pub fn mark_used(&self, from: &str, listed: &ListedVersion) {
        let description = self.root.join(entry_name(from, listed)).join(DESCRIPTION);
        let opened = fs::File::options().append(true).open(description);
        let _ = opened.and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// A folder to write a version of so many bytes into, once there is room for it.
    ///
    /// # Errors
    /// The budget or the disk does not suffice, whatever is evicted; or the folder cannot be made.
    pub fn begin(&self, bytes: u64) -> anyhow::Result<Partial> {
        // Several are written side by side; one at a time makes room.
        let mut all = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut idle, mut leased) = (Vec::new(), *all);
        for entry in fs::read_dir(&self.root).context("cannot list the models' cache")? {
            let entry = entry?.path();
            let Some(description) = describe(&entry) else { continue };
            let size = description.size();
            if self.leases.contains(&entry) {
                leased += size;
            } else {
                let used = fs::metadata(entry.join(DESCRIPTION)).and_then(|file| file.modified());
                idle.push((used.unwrap_or(SystemTime::UNIX_EPOCH), entry, size));
            }
        }
        ensure!(
            leased.saturating_add(bytes) <= self.budget,
            "its {bytes} bytes do not fit into the cache of {} bytes, where versions in use hold {leased}; \
             raise `models.cache_size`",
            self.budget
        );
        idle.sort();
        let mut held = leased + idle.iter().map(|(_, _, size)| size).sum::<u64>();
        for (_, entry, size) in idle {
            if held + bytes <= self.budget && self.free()? >= bytes {
                break;
            }
            fs::remove_dir_all(&entry).with_context(|| format!("cannot evict {entry:?} from the cache"))?;
            tracing::info!(version = ?entry, bytes = size, "evicted from the cache");
            held -= size;
        }
        let free = self.free()?;
        ensure!(
            free >= bytes,
            "its {bytes} bytes do not fit on the disk of {:?}, which has {free} left",
            self.root
        );
        let partial = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(&self.root)?;
        fs::create_dir(partial.path().join(FILES))?;
        *all += bytes;
        Ok(Partial { folder: partial, bytes, all: Arc::clone(&self.partial) })
    }

    /// True when its content outlasts the process.
    pub fn is_lasting(&self) -> bool {
        matches!(self.place, Place::Lasting(_))
    }

    /// Bytes that the disk has left.
    fn free(&self) -> anyhow::Result<u64> {
        let disk = rustix::fs::statvfs(&self.root)
            .with_context(|| format!("cannot tell what is left on the disk of {:?}", self.root))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Makes a complete folder of files the entry of `listed`.
    pub fn finish(
        &self,
        partial: Partial,
        from: &str,
        listed: &ListedVersion,
    ) -> anyhow::Result<(PathBuf, Lease)> {
        let entry = self.root.join(entry_name(from, listed));
        let description = serde_json::to_vec_pretty(&Description::of(from, listed))?;
        let folder = partial.folder.path();
        fs::write(folder.join(DESCRIPTION), description)?;
        // Nothing is evicted between the move and the lease.
        let all = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        if entry.exists() {
            fs::remove_dir_all(&entry)?;
        }
        fs::rename(folder, &entry).with_context(|| format!("cannot put {entry:?} into the cache"))?;
        let lease = self.lease(&entry);
        drop(all);
        Ok((entry.join(FILES), lease))
    }

    fn lease(&self, entry: &Path) -> Lease {
        self.leases.take(entry, self.is_lasting())
    }
}

/// The lock of a cache directory, which is made where it is missing; `None` when another process holds it.
fn lock(root: &Path) -> anyhow::Result<Option<fs::File>> {
    fs::create_dir_all(root)?;
    let lock = fs::File::create(root.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// A temporary root, with the lock that says that its process lives. The lock is held before it is there by its name.
fn temporary() -> anyhow::Result<(TempDir, fs::File)> {
    let root = tempfile::Builder::new().prefix(TEMPORARY).tempdir()?;
    let (new, name) = (root.path().join(".lock-new"), root.path().join(LOCK));
    let lock = fs::File::create(&new)?;
    lock.lock()?;
    fs::rename(new, name)?;
    Ok((root, lock))
}

/// The temporary roots of workers that were killed.
fn remove_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY)
            && let Ok(lock) = fs::File::open(entry.path().join(LOCK))
            && lock.try_lock().is_ok()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// What a worker that was killed left half written.
fn remove_partials(root: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
