//! Records the loads that ended the process, because ONNX Runtime crashed or the memory was exhausted. Such a
//! version must not crash every worker that starts.
//!
//! Each load writes a mark file when it begins and removes it when it ends, successful or not. The process
//! holds a lock on the file, so a mark without a lock was left by a process that ended. A kill from outside
//! also leaves a mark, so the first crash refuses nothing; but from then on the version loads alone, so that
//! the next crash is certainly its own. The second crash in a row refuses the version. A load that ends, or a
//! change of the version's files, clears its record.

use std::collections::HashMap;
use std::fs::{self, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::cache::{Description, entry_name};
use super::listing::ListedVersion;

use crate::lock::lock;

/// The number of crashes in a row that refuses a version.
const REFUSED_FROM: u32 = 2;
/// Prefix of the mark files.
const LOADING: &str = "loading-";

#[derive(Debug)]
pub struct Crashes {
    folder: PathBuf,
    /// The mark files of running loads, by their paths. Dropping them removes the files, since a worker that
    /// stops in order has not crashed.
    marks: Marks,
}

type Marks = Arc<Mutex<HashMap<PathBuf, NamedTempFile>>>;

#[derive(Debug, Serialize, Deserialize)]
struct CrashRecord {
    version: Description,
    /// The name of its record's file.
    name: String,
    crashes: u32,
}

/// The mark of a running load, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct LoadMark {
    path: PathBuf,
    marks: Marks,
    record: PathBuf,
}

impl Crashes {
    /// Counts the loads that earlier processes left unfinished. If the folder cannot be read, nothing has
    /// crashed.
    pub fn open(folder: PathBuf) -> Self {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(LOADING)
                && let Err(error) = count(&folder, &entry.path())
            {
                let file = entry.path();
                tracing::warn!(?file, %error, "cannot read the record of an unfinished load");
            }
        }
        Self { folder, marks: Marks::default() }
    }

    /// The number of loads of the version in a row that ended the process.
    pub(crate) fn of(&self, from: &str, listed: &ListedVersion) -> u32 {
        let wanted = Description::of(from, listed);
        read_record(&self.record_path(from, listed))
            .filter(|record| record.version == wanted)
            .map_or(0, |record| record.crashes)
    }

    /// The reason why the version is refused after this number of crashes; `None` if it is not.
    pub(crate) fn refusal(&self, from: &str, listed: &ListedVersion, crashes: u32) -> Option<String> {
        (crashes >= REFUSED_FROM).then(|| {
            format!(
                "its load ended the process {crashes} times in a row; correct it and upload it as a new \
                 version, or delete {:?} and restart the worker to have it tried again",
                self.record_path(from, listed)
            )
        })
    }

    /// Marks the start of a load.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub(crate) fn begin(&self, from: &str, listed: &ListedVersion) -> std::io::Result<LoadMark> {
        let name = entry_name(from, listed);
        let record = CrashRecord { version: Description::of(from, listed), name, crashes: 0 };
        let mark = self.write(&record).or_else(|_| self.write(&record))?;
        let path = mark.path().to_owned();
        lock(&self.marks).insert(path.clone(), mark);
        Ok(LoadMark { path, marks: Arc::clone(&self.marks), record: self.record_path(from, listed) })
    }

    /// Writes a mark file. The folder may disappear at any time, since [`remove`] deletes it with its last
    /// file.
    fn write(&self, record: &CrashRecord) -> std::io::Result<NamedTempFile> {
        fs::create_dir_all(&self.folder)?;
        let mut mark = tempfile::Builder::new().prefix(LOADING).tempfile_in(&self.folder)?;
        // Other processes skip an empty or locked mark.
        mark.as_file().lock()?;
        mark.write_all(&serde_json::to_vec(record)?)?;
        Ok(mark)
    }

    /// Removes the records of versions that are no longer listed with the files that crashed. Keeps those
    /// below `unreadable` addresses.
    pub(crate) fn forget_unlisted(&self, listed: &[(String, &ListedVersion)], unreadable: &[String]) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let Some(record) = read_record(&entry.path()).filter(|record| record.crashes > 0) else {
                continue;
            };
            let is_unread = unreadable.iter().any(|address| record.version.from.starts_with(address));
            if !is_unread
                && !listed.iter().any(|(from, listed)| record.version == Description::of(from, listed))
            {
                remove(&entry.path());
            }
        }
    }

    fn record_path(&self, from: &str, listed: &ListedVersion) -> PathBuf {
        self.folder.join(entry_name(from, listed)).with_added_extension("json")
    }
}

impl Drop for Crashes {
    fn drop(&mut self) {
        lock(&self.marks).clear();
        let _ = fs::remove_dir(&self.folder);
    }
}

impl Drop for LoadMark {
    fn drop(&mut self) {
        let mark = lock(&self.marks).remove(&self.path);
        // `None` once the worker stops.
        if mark.is_some_and(|mark| mark.close().is_ok()) {
            remove(&self.record);
        }
    }
}

fn read_record(path: &Path) -> Option<CrashRecord> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Removes a file, and its folder with the last one.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
    if let Some(folder) = path.parent() {
        let _ = fs::remove_dir(folder);
    }
}

/// Counts an unfinished load, unless it is still running in another process.
fn count(folder: &Path, mark: &Path) -> std::io::Result<()> {
    let file = fs::File::open(mark)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // `None` if another process was faster, or has only just created the mark.
    let Some(mut record) = read_record(mark) else { return Ok(()) };
    let path = folder.join(&record.name).with_added_extension("json");
    record.crashes = read_record(&path)
        .filter(|known| known.version == record.version)
        .map_or(1, |known| known.crashes + 1);
    let CrashRecord { version, crashes, .. } = &record;
    tracing::error!(version = version.from, crashes, "the load of this version ended the process");
    fs::write(&path, serde_json::to_vec_pretty(&record)?)?;
    fs::remove_file(mark)
}

#[cfg(test)]
mod tests {
    use super::super::listing::ListedFile;
    use super::super::version::Version;
    use super::*;

    const FROM: &str = "gs://b/m/1";

    fn listed(generation: i64) -> ListedVersion {
        let file = ListedFile { path: "model.onnx".to_owned(), size: 1, generation, crc32c: None };
        let version = Version::parse("1").unwrap();
        ListedVersion { model: "m".to_owned(), version, folder: "m/1".to_owned(), files: vec![file] }
    }

    /// A process that ends while it loads leaves a mark without a lock.
    fn crash(folder: &Path, listed: &ListedVersion) {
        let crashes = Crashes::open(folder.to_owned());
        let mark = crashes.begin(FROM, listed).unwrap();
        let left = crashes.marks.lock().unwrap().remove(&mark.path).unwrap();
        left.keep().unwrap();
    }

    #[test]
    fn the_second_crash_in_a_row_refuses_a_version_until_its_files_change() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("loads");
        for expected in [1, 2] {
            crash(&folder, &listed(7));
            let crashes = Crashes::open(folder.clone());
            assert_eq!((crashes.of(FROM, &listed(7)), crashes.of(FROM, &listed(8))), (expected, 0));
            assert_eq!(crashes.refusal(FROM, &listed(7), expected).is_some(), expected == 2);
        }
        let crashes = Crashes::open(folder.clone());
        crashes.forget_unlisted(&[(FROM.to_owned(), &listed(7))], &[]);
        crashes.forget_unlisted(&[], &["gs://b/m/".to_owned()]);
        assert_eq!(crashes.of(FROM, &listed(7)), 2);
        crashes.forget_unlisted(&[(FROM.to_owned(), &listed(8))], &["gs://b/n/".to_owned()]);
        assert_eq!(crashes.of(FROM, &listed(7)), 0);
        assert!(!folder.exists(), "nothing is left behind");
    }

    #[test]
    fn a_load_that_ends_clears_the_record() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("loads");
        crash(&folder, &listed(7));
        let crashes = Crashes::open(folder.clone());
        assert_eq!(crashes.of(FROM, &listed(7)), 1);
        drop(crashes.begin(FROM, &listed(7)).unwrap());
        assert_eq!(crashes.of(FROM, &listed(7)), 0);
        assert!(!folder.exists());
    }

    #[test]
    fn neither_a_running_load_nor_a_stop_in_order_is_a_crash() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("loads");
        let crashes = Crashes::open(folder.clone());
        let mark = crashes.begin(FROM, &listed(7)).unwrap();
        assert_eq!(Crashes::open(folder.clone()).of(FROM, &listed(7)), 0, "it is running elsewhere");
        drop(crashes);
        assert!(!folder.exists());
        drop(mark);
        assert_eq!(Crashes::open(folder).of(FROM, &listed(7)), 0);
    }
}
