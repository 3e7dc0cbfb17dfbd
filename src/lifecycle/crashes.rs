//! Loads that ended the process: ONNX Runtime crashed, or the memory was used up. Such a version must not end
//! every worker that starts.
//!
//! A file is written before a load begins and removed when it ends, whatever came of it. The process holds
//! its lock meanwhile, so that one without was left by a process that ended. A kill from outside leaves one,
//! too: the first crash refuses nothing, but from then on the version loads alone, so that it is known whose
//! the next one is. The second in a row refuses it. A load that ends clears what is known of the version, and
//! so do other files.

use std::collections::HashMap;
use std::fs::{self, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::cache::{Description, entry_name};
use super::listing::ListedVersion;

/// Crashes in a row from which on a version is refused.
const REFUSED_FROM: u32 = 2;
/// The files of loads under way begin so.
const LOADING: &str = "loading-";

#[derive(Debug)]
pub struct Crashes {
    folder: PathBuf,
    /// Files of the loads under way, by their numbers. Removed with this: a worker that stops in order has not
    /// crashed.
    marks: Marks,
}

type Marks = Arc<Mutex<HashMap<u64, NamedTempFile>>>;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: Description,
    /// The name of its record.
    name: String,
    crashes: u32,
}

/// A load under way.
#[derive(Debug)]
pub(crate) struct Mark {
    number: u64,
    marks: Marks,
    record: PathBuf,
}

impl Crashes {
    /// Counts the loads that earlier processes did not end. A folder that cannot be used is as if nothing had
    /// crashed.
    pub fn open(folder: PathBuf) -> Self {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(LOADING)
                && let Err(error) = count(&folder, &entry.path())
            {
                let file = entry.path();
                tracing::warn!(?file, %error, "cannot read what a worker that ended was loading");
            }
        }
        Self { folder, marks: Marks::default() }
    }

    /// How often in a row a load of the version ended the process.
    pub(crate) fn of(&self, from: &str, listed: &ListedVersion) -> u32 {
        let wanted = Description::of(from, listed);
        read(&self.record(from, listed))
            .filter(|record| record.version == wanted)
            .map_or(0, |record| record.crashes)
    }

    /// Why the version is not loaded, after so many crashes.
    pub(crate) fn refusal(&self, from: &str, listed: &ListedVersion, crashes: u32) -> Option<String> {
        (crashes >= REFUSED_FROM).then(|| {
            format!(
                "its load ended the process {crashes} times in a row; correct it and upload it as a new \
                 version, or delete {:?} and restart the worker to have it tried again",
                self.record(from, listed)
            )
        })
    }

    /// Notes that a load begins.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub(crate) fn begin(&self, from: &str, listed: &ListedVersion) -> std::io::Result<Mark> {
        let name = entry_name(from, listed);
        let record = Record { version: Description::of(from, listed), name, crashes: 0 };
        let mark = self.write(&record).or_else(|_| self.write(&record))?;
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let number = marks.keys().max().map_or(0, |last| last + 1);
        marks.insert(number, mark);
        Ok(Mark { number, marks: Arc::clone(&self.marks), record: self.record(from, listed) })
    }

    /// The folder may go at any time: whoever removes the last file removes it, too.
    fn write(&self, record: &Record) -> std::io::Result<NamedTempFile> {
        fs::create_dir_all(&self.folder)?;
        let mut mark = tempfile::Builder::new().prefix(LOADING).tempfile_in(&self.folder)?;
        // Another process passes over one that is empty or locked.
        mark.as_file().lock()?;
        mark.write_all(&serde_json::to_vec(record)?)?;
        Ok(mark)
    }

    /// Forgets the versions that are not listed with the files that crashed, but for those below addresses
    /// that could not be read.
    pub(crate) fn forget_but(&self, listed: &[(String, &ListedVersion)], unreadable: &[String]) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let Some(record) = read(&entry.path()).filter(|record| record.crashes > 0) else { continue };
            let is_unread = unreadable.iter().any(|address| record.version.from.starts_with(address));
            if !is_unread
                && !listed.iter().any(|(from, listed)| record.version == Description::of(from, listed))
            {
                remove(&entry.path());
            }
        }
    }

    fn record(&self, from: &str, listed: &ListedVersion) -> PathBuf {
        self.folder.join(entry_name(from, listed)).with_added_extension("json")
    }
}

impl Drop for Crashes {
    fn drop(&mut self) {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let _ = fs::remove_dir(&self.folder);
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let mark = self.marks.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
        // None once the worker stops.
        if mark.is_some_and(|mark| mark.close().is_ok()) {
            remove(&self.record);
        }
    }
}

fn read(path: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Removes a file, and its folder with the last one.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
    if let Some(folder) = path.parent() {
        let _ = fs::remove_dir(folder);
    }
}

/// Counts a load that did not end, unless it is still under way in another process.
fn count(folder: &Path, mark: &Path) -> std::io::Result<()> {
    let file = fs::File::open(mark)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // None where another process was faster, or is only beginning.
    let Some(mut record) = read(mark) else { return Ok(()) };
    let path = folder.join(&record.name).with_added_extension("json");
    record.crashes =
        read(&path).filter(|known| known.version == record.version).map_or(1, |known| known.crashes + 1);
    let Record { version, crashes, .. } = &record;
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
        ListedVersion { model: "m".to_owned(), version: Version::parse("1").unwrap(), files: vec![file] }
    }

    /// A process that ends while it loads leaves the file and no lock.
    fn crash(folder: &Path, listed: &ListedVersion) {
        let crashes = Crashes::open(folder.to_owned());
        let mark = crashes.begin(FROM, listed).unwrap();
        let left = crashes.marks.lock().unwrap().remove(&mark.number).unwrap();
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
        crashes.forget_but(&[(FROM.to_owned(), &listed(7))], &[]);
        crashes.forget_but(&[], &["gs://b/m/".to_owned()]);
        assert_eq!(crashes.of(FROM, &listed(7)), 2);
        crashes.forget_but(&[(FROM.to_owned(), &listed(8))], &["gs://b/n/".to_owned()]);
        assert_eq!(crashes.of(FROM, &listed(7)), 0);
        assert!(!folder.exists(), "nothing is left behind");
    }

    #[test]
    fn a_load_that_ends_clears_what_is_known() {
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
    fn a_load_under_way_is_none_and_nor_is_a_stop_in_order() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("loads");
        let crashes = Crashes::open(folder.clone());
        let mark = crashes.begin(FROM, &listed(7)).unwrap();
        assert_eq!(Crashes::open(folder.clone()).of(FROM, &listed(7)), 0, "it is under way elsewhere");
        drop(crashes);
        assert!(!folder.exists());
        drop(mark);
        assert_eq!(Crashes::open(folder).of(FROM, &listed(7)), 0);
    }
}
