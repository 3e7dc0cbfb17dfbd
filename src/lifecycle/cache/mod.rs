//! The cache of downloaded versions on the local disk. Entries are complete, verified before each use, and
//! limited in total size.
//!
//! A version is written into a hidden folder and renamed once it is complete, so that a partial download is
//! never taken for a version. An entry in use is leased and never evicted. The least recently used of the
//! others is evicted first.

mod entry;
mod lease;
#[cfg(test)]
mod tests;

use std::fs::{self, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use self::entry::{DESCRIPTION, FILES, damage, describe};
pub(crate) use self::entry::{Description, entry_name};
pub use self::lease::Lease;
use self::lease::Leases;
use super::listing::ListedVersion;
use crate::hint::Hint as _;
use crate::lock::lock;

/// Prefix of folders that are being written.
const PARTIAL: &str = ".partial-";
/// Prefix of temporary roots.
const TEMPORARY: &str = "predictd-models-";
/// The file in a root that the process that uses it has locked.
const LOCK: &str = ".lock";

#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    /// Limit of all entries in bytes; `None`: the disk is the only limit.
    budget: Option<u64>,
    leases: Leases,
    /// Bytes of the folders that are being written.
    partial: Arc<Mutex<u64>>,
    /// A temporary root, which is removed when this is dropped.
    temporary: Option<TempDir>,
    #[expect(dead_code, reason = "held for its lock")]
    lock: fs::File,
}

/// A version that is being written. Dropping it removes the files.
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
        *lock(&self.all) -= self.bytes;
    }
}

impl Cache {
    /// The folder of the cache.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens the configured directory, or a temporary one if none is configured or another worker uses it.
    /// `budget`: the limit of its bytes. Private copies have none, since they exist only while their version
    /// loads.
    ///
    /// # Errors
    /// The directory cannot be created or locked.
    pub fn open(directory: Option<&Path>, budget: Option<u64>) -> anyhow::Result<Self> {
        let new = |root: &Path, lock| {
            let (leases, partial) = (Leases::default(), Arc::default());
            Self { root: root.to_owned(), budget, leases, partial, temporary: None, lock }
        };
        if let Some(root) = directory {
            let context = || format!("cannot use the models' cache {root:?}");
            if let Some(lock) = lock_root(root).with_context(context)? {
                remove_partials(root).with_context(context)?;
                return Ok(new(root, lock));
            }
            tracing::warn!(
                cache = ?root,
                hint = "give each worker its own `models.cache`",
                "another worker uses this cache, so this one keeps no downloads"
            );
        }
        remove_abandoned(&std::env::temp_dir());
        let (temporary, lock) = temporary()
            .context("cannot make a temporary directory for the models' files")
            .hint("set `models.cache` to a directory that may be written to, or TMPDIR")?;
        let cache = new(temporary.path(), lock);
        Ok(Self { temporary: Some(temporary), ..cache })
    }

    /// Finds the undamaged files of `listed`, and leases them. Reads all of them to verify their checksums.
    pub fn find(&self, from: &str, listed: &ListedVersion) -> Option<(PathBuf, Lease)> {
        let entry = self.root.join(entry_name(from, listed));
        // Leased first, so that it is not evicted while it is read.
        let lease = self.lease(&entry);
        let description = describe(&entry)?;
        let (wanted, files) = (Description::of(from, listed), entry.join(FILES));
        let is_wanted = description == wanted;
        let damage =
            if is_wanted { damage(&files, listed) } else { Some("it is another version's".to_owned()) };
        if let Some(damage) = damage {
            tracing::warn!(cache = ?entry, damage, "a version in the cache is damaged, downloading it again");
            drop(lease);
            let _ = fs::remove_dir_all(&entry);
            return None;
        }
        self.mark_used(from, listed);
        Some((files, lease))
    }

    /// Marks the entry of `listed`, if there is one, as used now. A failure affects only the order of
    /// eviction.
    pub fn mark_used(&self, from: &str, listed: &ListedVersion) {
        let description = self.root.join(entry_name(from, listed)).join(DESCRIPTION);
        let opened = fs::File::options().append(true).open(description);
        let _ = opened.and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Makes a folder for a version of this many bytes, and evicts other entries as needed.
    ///
    /// # Errors
    /// The budget or the disk does not suffice even after evictions, or the folder cannot be created.
    pub fn begin(&self, bytes: u64) -> anyhow::Result<Partial> {
        // Several versions are written in parallel, but only one at a time evicts entries.
        let mut all = lock(&self.partial);
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
        let fits = |held: u64| self.budget.is_none_or(|budget| held.saturating_add(bytes) <= budget);
        ensure!(
            fits(leased),
            "its {bytes} bytes do not fit into the cache of {} bytes, where versions in use hold {leased}; \
             raise `models.cache_size`",
            self.budget.unwrap_or_default()
        );
        idle.sort();
        let mut held = leased + idle.iter().map(|(_, _, size)| size).sum::<u64>();
        for (_, entry, size) in idle {
            if fits(held) && self.free()? >= bytes {
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

    /// True when the content outlasts the process.
    pub fn is_lasting(&self) -> bool {
        self.temporary.is_none()
    }

    /// Free bytes of the disk.
    fn free(&self) -> anyhow::Result<u64> {
        let disk = rustix::fs::statvfs(&self.root)
            .with_context(|| format!("cannot read the free space on the disk of {:?}", self.root))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Turns a complete folder of files into the entry of `listed`.
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
        // Held so that nothing is evicted between the rename and the lease.
        let all = lock(&self.partial);
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

/// Locks a cache directory, and creates it if necessary; `None` if another process holds the lock.
fn lock_root(root: &Path) -> anyhow::Result<Option<fs::File>> {
    fs::create_dir_all(root)?;
    let lock = fs::File::create(root.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Creates a temporary root, with a lock that marks it as used. The file gets its name only once it is
/// locked, so that [`remove_abandoned`] never finds it unlocked.
fn temporary() -> anyhow::Result<(TempDir, fs::File)> {
    let root = tempfile::Builder::new().prefix(TEMPORARY).tempdir()?;
    let (new, name) = (root.path().join(".lock-new"), root.path().join(LOCK));
    let lock = fs::File::create(&new)?;
    lock.lock()?;
    fs::rename(new, name)?;
    Ok((root, lock))
}

/// Removes the temporary roots of workers that were killed.
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

/// Removes the partial entries of a worker that was killed.
fn remove_partials(root: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
