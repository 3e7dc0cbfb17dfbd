use super::super::listing::ListedFile;
use super::super::version::Version;
use super::entry::DESCRIPTION;
use super::*;

fn listed(version: &str, content: &[u8]) -> ListedVersion {
    let file = ListedFile {
        path: "model.onnx".to_owned(),
        size: content.len() as u64,
        generation: 1,
        crc32c: Some(crc32c::crc32c(content)),
    };
    let version = Version::parse(version).unwrap();
    ListedVersion { model: "m".to_owned(), folder: format!("m/{version}"), version, files: vec![file] }
}

fn put(cache: &Cache, listed: &ListedVersion, content: &[u8]) -> anyhow::Result<(PathBuf, Lease)> {
    let partial = cache.begin(content.len() as u64)?;
    fs::write(partial.files().join("model.onnx"), content)?;
    cache.finish(partial, "gs://b/m", listed)
}

fn open(root: &Path, size: u64) -> Cache {
    Cache::open(Some(root), Some(size)).unwrap()
}

/// Sets the time of the last use.
fn set_used(files: &Path, seconds: u64) {
    let description = fs::File::options().append(true).open(files.with_file_name(DESCRIPTION)).unwrap();
    description.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
}

#[test]
fn a_kept_version_is_found_again_unless_damaged() {
    let root = tempfile::tempdir().unwrap();
    let version = listed("1", b"abc");
    {
        let cache = open(root.path(), 10);
        std::mem::forget(cache.begin(3).unwrap());
        drop(put(&cache, &version, b"abc").unwrap());
    }
    let cache = open(root.path(), 10);
    let (files, _lease) = cache.find("gs://b/m", &version).unwrap();
    assert_eq!(fs::read(files.join("model.onnx")).unwrap(), b"abc");
    assert!(cache.find("gs://other/m", &version).is_none());
    let folders = fs::read_dir(root.path()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(folders.count(), 1, "the half one is gone");
    fs::write(files.join("model.onnx"), b"abX").unwrap();
    assert!(cache.find("gs://b/m", &version).is_none());
    assert!(!files.exists());
}

#[test]
fn the_least_recently_used_goes_first_and_a_leased_one_never() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path(), 9);
    let versions: Vec<ListedVersion> = ["1", "2", "3", "4"].map(|name| listed(name, b"abc")).into();
    let (_, serving) = put(&cache, &versions[0], b"abc").unwrap();
    for (seconds, version) in [(1, &versions[1]), (2, &versions[2])] {
        set_used(&put(&cache, version, b"abc").unwrap().0, seconds);
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
fn a_version_that_is_about_to_be_used_outlasts_others() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path(), 6);
    let [first, second, third] = ["1", "2", "3"].map(|name| listed(name, b"abc"));
    for (seconds, version) in [(1, &first), (2, &second)] {
        set_used(&put(&cache, version, b"abc").unwrap().0, seconds);
    }
    cache.mark_used("gs://b/m", &first);
    drop(put(&cache, &third, b"abc").unwrap());
    assert!(cache.find("gs://b/m", &first).is_some() && cache.find("gs://b/m", &second).is_none());
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
