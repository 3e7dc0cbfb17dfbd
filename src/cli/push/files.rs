//! The files of a bundle to push.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::hint::Hint as _;
use crate::lifecycle::listing::ListedVersion;
use crate::model::bundle::{MANIFEST, Manifest, ManifestFile, base64_be, size_and_crc32c};

/// One file of the bundle.
#[derive(Debug)]
pub(super) struct LocalFile {
    /// Relative to the folder, `/` between levels.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) crc32c: u32,
}

/// Every file under the folder, except hidden ones and a manifest, which is written anew.
pub(super) fn list(folder: &Path) -> anyhow::Result<Vec<LocalFile>> {
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
                .with_context(|| format!("expected a file name in UTF-8, got {relative:?}"))?
                .to_owned();
            if name == MANIFEST {
                continue;
            }
            let (size, crc32c) = size_and_crc32c(&path).with_context(|| format!("cannot read {path:?}"))?;
            files.push(LocalFile { name, path, size, crc32c });
        }
        Ok(())
    }
    let mut files = Vec::new();
    walk(folder, folder, &mut files).hint("name the folder that holds model.onnx")?;
    // The model file last: until it is uploaded, the version is incomplete without doubt.
    files.sort_by_key(|file| (file.name.ends_with(".onnx"), file.name.clone()));
    Ok(files)
}

/// The files to upload: all of them, or the rest of a push that was interrupted before its manifest.
pub(super) fn missing<'f>(
    files: &'f [LocalFile],
    there: Option<&ListedVersion>,
    address: &str,
) -> anyhow::Result<Vec<&'f LocalFile>> {
    let Some(there) = there else { return Ok(files.iter().collect()) };
    let overwrites = |why: String| {
        Err(anyhow::anyhow!("{address} exists already: {why}"))
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
            None => return overwrites(format!("its {:?} differs from the bundle's", object.path)),
        }
    }
    Ok(missing)
}

/// Makes the manifest of a version.
pub(super) fn manifest(files: &[LocalFile], new_signature: bool) -> anyhow::Result<Vec<u8>> {
    let entry = |file: &LocalFile| {
        (file.name.clone(), ManifestFile { size: file.size, crc32c: base64_be(file.crc32c) })
    };
    let files: BTreeMap<String, ManifestFile> = files.iter().map(entry).collect();
    Ok(serde_json::to_vec_pretty(&Manifest { files, new_signature })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::version::Version;

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
            let listed =
                ListedVersion { model: "m".to_owned(), version, folder: "m/1".to_owned(), files: objects };
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
