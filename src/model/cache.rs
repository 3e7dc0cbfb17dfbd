//! Downloaded versions on the local disk: whole or not there, checked before each use, within a budget.
//!
//! A version is written into a hidden folder and renamed when it is complete, so that no half of one is ever taken for a
//! version. What is in use is leased and never evicted; of the rest, the least recently used goes first.

use std::collections::HashMap;
use std::fs::{self, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::bundle::size_and_crc32c;
use super::source::{File, Listed};
use crate::config;

/// Folders that are being written begin so.
const PARTIAL: &str = ".partial-";
/// Says what an entry holds; its time of change is that of the last use.
const DESCRIPTION: &str = "version.json";
const FILES: &str = "files";

#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    /// Bytes.
    budget: u64,
    leases: Leases,
    /// Removes a temporary root at the end, or holds the lock of a lasting one.
    place: Place,
}

#[derive(Debug)]
enum Place {
    Temporary(#[expect(dead_code, reason = "held for its drop")] TempDir),
    Lasting(#[expect(dead_code, reason = "held for its lock")] fs::File),
}

type Leases = Arc<Mutex<HashMap<PathBuf, usize>>>;

/// The right to an entry's files: it is not evicted meanwhile.
#[derive(Debug)]
pub struct Lease {
    entry: PathBuf,
    leases: Leases,
    /// Whether the entry stays when nobody uses it any more.
    stays: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Description {
    /// The version's address.
    from: String,
    files: Vec<File>,
}

impl Cache {
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
        let root = tempfile::Builder::new()
            .prefix("predictd-models-")
            .tempdir()
            .context("cannot make a temporary directory for the models' files")?;
        Ok(Self::new(root.path().to_owned(), config.size, Place::Temporary(root)))
    }

    fn new(root: PathBuf, budget: u64, place: Place) -> Self {
        Self { root, budget, leases: Leases::default(), place }
    }

    /// The files of `listed` if they are here and undamaged, and a lease on them. Reads all of them.
    pub fn find(&self, from: &str, listed: &Listed) -> Option<(PathBuf, Lease)> {
        let entry = self.root.join(entry_name(from, listed));
        let description = describe(&entry)?;
        let lease = self.lease(&entry);
        let (wanted, files) = (Description::of(from, listed), entry.join(FILES));
        let damage = if description == wanted { damage(&files, listed) } else { Some("is another's".into()) };
        if let Some(damage) = damage {
            tracing::warn!(cache = ?entry, damage, "a version in the cache is damaged and fetched anew");
            drop(lease);
            let _ = fs::remove_dir_all(&entry);
            return None;
        }
        // Marks the use; where that fails, only the order of eviction suffers.
        let touched = fs::File::options().append(true).open(entry.join(DESCRIPTION));
        let _ = touched.and_then(|file| file.set_modified(SystemTime::now()));
        Some((files, lease))
    }

    /// A folder to write a version of so many bytes into, once there is room for it.
    ///
    /// # Errors
    /// The budget or the disk does not suffice, whatever is evicted; or the folder cannot be made.
    pub fn begin(&self, bytes: u64) -> anyhow::Result<TempDir> {
        let (mut idle, mut leased) = (Vec::new(), 0);
        for entry in fs::read_dir(&self.root).context("cannot list the models' cache")? {
            let entry = entry?.path();
            let Some(description) = describe(&entry) else { continue };
            let size = description.size();
            if self.lock_leases().contains_key(&entry) {
                leased += size;
            } else {
                let used = fs::metadata(entry.join(DESCRIPTION)).and_then(|file| file.modified());
                idle.push((used.unwrap_or(SystemTime::UNIX_EPOCH), entry, size));
            }
        }
        ensure!(
            leased + bytes <= self.budget,
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
        Ok(partial)
    }

    /// Bytes that the disk has left.
    fn free(&self) -> anyhow::Result<u64> {
        let disk = rustix::fs::statvfs(&self.root)
            .with_context(|| format!("cannot tell what is left on the disk of {:?}", self.root))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Where the files go in a folder that [`Cache::begin`] gave.
    pub fn files(partial: &TempDir) -> PathBuf {
        partial.path().join(FILES)
    }

    /// Makes a complete folder of files the entry of `listed`.
    pub fn finish(&self, partial: TempDir, from: &str, listed: &Listed) -> anyhow::Result<(PathBuf, Lease)> {
        let entry = self.root.join(entry_name(from, listed));
        let description = serde_json::to_vec_pretty(&Description::of(from, listed))?;
        fs::write(partial.path().join(DESCRIPTION), description)?;
        if entry.exists() {
            fs::remove_dir_all(&entry)?;
        }
        fs::rename(partial.path(), &entry).with_context(|| format!("cannot put {entry:?} into the cache"))?;
        // Moved away: nothing is left to be removed.
        let _ = partial.keep();
        let lease = self.lease(&entry);
        Ok((entry.join(FILES), lease))
    }

    fn lease(&self, entry: &Path) -> Lease {
        *self.lock_leases().entry(entry.to_owned()).or_default() += 1;
        let stays = matches!(self.place, Place::Lasting(_));
        Lease { entry: entry.to_owned(), leases: Arc::clone(&self.leases), stays }
    }

    fn lock_leases(&self) -> MutexGuard<'_, HashMap<PathBuf, usize>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Whether the files outlast their use, and so are worth a lease while their version serves.
    pub fn stays(&self) -> bool {
        self.stays
    }

    /// Gives the files up, which are no version that could serve.
    pub fn discard(mut self) {
        self.stays = false;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let left = leases.get_mut(&self.entry).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            leases.remove(&self.entry);
            if !self.stays {
                let _ = fs::remove_dir_all(&self.entry);
            }
        }
    }
}

impl Description {
    fn of(from: &str, listed: &Listed) -> Self {
        Self { from: from.to_owned(), files: listed.files.clone() }
    }

    fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// The lock of a cache directory, which is made where it is missing; `None` when another process holds it.
fn lock(root: &Path) -> anyhow::Result<Option<fs::File>> {
    fs::create_dir_all(root)?;
    let lock = fs::File::create(root.join(".lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error.into()),
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

/// `None` for what is no entry of a cache: it is left alone.
fn describe(entry: &Path) -> Option<Description> {
    serde_json::from_slice(&fs::read(entry.join(DESCRIPTION)).ok()?).ok()
}

/// Why the files are not the listed ones.
fn damage(folder: &Path, listed: &Listed) -> Option<String> {
    listed.files.iter().find_map(|file| match size_and_crc32c(&folder.join(&file.path)) {
        Ok((size, _)) if size != file.size => Some(format!("{:?} has {size} bytes", file.path)),
        Ok((_, crc)) if file.crc32c.is_some_and(|listed| listed != crc) => {
            Some(format!("{:?} has the crc32c {crc:08x}", file.path))
        }
        Ok(_) => None,
        Err(error) => Some(format!("cannot read {:?}: {error}", file.path)),
    })
}

/// Readable, legal in every file system, and another one for every other generation of a file.
fn entry_name(from: &str, listed: &Listed) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' };
    let short = |text: &str| text.chars().take(80).map(legal).collect::<String>();
    let mut key = from.to_owned();
    for file in &listed.files {
        key += &format!("\n{} {}", file.path, file.generation);
    }
    let crc = crc32c::crc32c(key.as_bytes());
    format!("{}-{}-{crc:08x}", short(&listed.model), short(listed.version.as_str()))
}

#[cfg(test)]
mod tests {
    use super::super::version::Version;
    use super::*;

    fn listed(version: &str, content: &[u8]) -> Listed {
        let file = File {
            path: "model.onnx".to_owned(),
            size: content.len() as u64,
            generation: 1,
            crc32c: Some(crc32c::crc32c(content)),
        };
        Listed { model: "m".to_owned(), version: Version::parse(version).unwrap(), files: vec![file] }
    }

    fn put(cache: &Cache, listed: &Listed, content: &[u8]) -> anyhow::Result<(PathBuf, Lease)> {
        let partial = cache.begin(content.len() as u64)?;
        fs::write(Cache::files(&partial).join("model.onnx"), content)?;
        cache.finish(partial, "gs://b/m", listed)
    }

    fn open(root: &Path, size: u64) -> Cache {
        Cache::open(&config::Cache { directory: Some(root.to_owned()), size }).unwrap()
    }

    #[test]
    fn what_is_kept_is_found_again_unless_damaged() {
        let root = tempfile::tempdir().unwrap();
        let version = listed("1", b"abc");
        {
            let cache = open(root.path(), 10);
            let _half = cache.begin(3).unwrap().keep();
            drop(put(&cache, &version, b"abc").unwrap());
        }
        let cache = open(root.path(), 10);
        let (files, _lease) = cache.find("gs://b/m", &version).unwrap();
        assert_eq!(fs::read(files.join("model.onnx")).unwrap(), b"abc");
        assert!(cache.find("gs://other/m", &version).is_none());
        let folders =
            fs::read_dir(root.path()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
        assert_eq!(folders.count(), 1, "the half one is gone");
        fs::write(files.join("model.onnx"), b"abX").unwrap();
        assert!(cache.find("gs://b/m", &version).is_none());
        assert!(!files.exists());
    }

    #[test]
    fn the_least_recently_used_goes_first_and_what_is_in_use_never() {
        let root = tempfile::tempdir().unwrap();
        let cache = open(root.path(), 9);
        let versions: Vec<Listed> = ["1", "2", "3", "4"].map(|name| listed(name, b"abc")).into();
        let (_, serving) = put(&cache, &versions[0], b"abc").unwrap();
        for (at, version) in versions.iter().enumerate().skip(1).take(2) {
            let (files, _) = put(&cache, version, b"abc").unwrap();
            let description =
                fs::File::options().append(true).open(files.with_file_name(DESCRIPTION)).unwrap();
            description
                .set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(at as u64))
                .unwrap();
        }
        drop(cache.find("gs://b/m", &versions[1]).unwrap());
        drop(put(&cache, &versions[3], b"abc").unwrap());
        let is_there = |at: usize| cache.find("gs://b/m", &versions[at]).is_some();
        assert_eq!([is_there(0), is_there(1), is_there(2), is_there(3)], [true, true, false, true]);
        let refused = cache.begin(7).unwrap_err().to_string();
        assert!(refused.contains("`models.cache_size`"), "{refused}");
        drop(serving);
        cache.begin(9).unwrap();
        assert!(cache.find("gs://b/m", &versions[0]).is_none());
    }

    #[test]
    fn a_second_worker_keeps_nothing() {
        let root = tempfile::tempdir().unwrap();
        let (_first, second) = (open(root.path(), 10), open(root.path(), 10));
        let (files, lease) = put(&second, &listed("1", b"abc"), b"abc").unwrap();
        assert!(!lease.stays() && !files.starts_with(root.path()));
        drop(lease);
        assert!(!files.exists());
    }
}
