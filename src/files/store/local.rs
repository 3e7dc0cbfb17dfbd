//! Files of this machine.

use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use tempfile::NamedTempFile;

use super::errors::TooLarge;
use crate::files::job::{self, Input, InputChanged};

pub(super) fn expand(path: &str) -> anyhow::Result<Vec<Input>> {
    if let Some(input) = stat(path)? {
        return Ok(vec![input]);
    }
    if Path::new(path).is_dir() {
        let names = list(path)?.into_iter().map(|(name, _)| name);
        let paths = names.filter(|name| !name.starts_with('.')).map(|name| job::path(path, &name));
        return paths.filter_map(|path| stat(&path).transpose()).collect();
    }
    let pattern =
        glob::glob(path).with_context(|| format!("expected a path with wildcards, got {path:?}"))?;
    let mut found = Vec::new();
    for entry in pattern {
        let entry = entry.with_context(|| format!("cannot list {path:?}"))?;
        let name = entry.to_str().with_context(|| format!("expected a name in UTF-8, got {entry:?}"))?;
        found.extend(stat(name)?);
    }
    Ok(found)
}

/// None for what is no file.
pub(super) fn stat(path: &str) -> anyhow::Result<Option<Input>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata,
        Ok(_) => return Ok(None),
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {path:?}")),
    };
    let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let generation = changed.and_then(|time| i64::try_from(time.as_nanos()).ok()).unwrap_or(0);
    Ok(Some(Input { address: path.to_owned(), size: metadata.len(), generation }))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

pub(super) fn list(folder: &str) -> anyhow::Result<Vec<(String, u64)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot list {folder:?}")),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {folder:?}"))?;
        // A file may vanish while it is listed.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() {
            found.push((entry.file_name().to_string_lossy().into_owned(), metadata.len()));
        }
    }
    Ok(found)
}

pub(super) fn open(path: &str, input: &Input, start: u64, end: u64) -> anyhow::Result<Box<dyn Read + Send>> {
    let now = stat(path)?;
    if now.as_ref() != Some(input) {
        let now = now.map_or_else(|| format!("{path} is gone"), |now| format!("{now} is there now"));
        return Err(InputChanged(format!("{now}, the job was planned with {input}")).into());
    }
    let mut file = File::open(path).with_context(|| format!("cannot read {path:?}"))?;
    file.seek(SeekFrom::Start(start)).with_context(|| format!("cannot read {path:?}"))?;
    Ok(Box::new(file.take(end - start)))
}

pub(super) fn read(path: &str) -> anyhow::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {path:?}")),
    }
}

pub(super) fn read_at_most(path: &str, most: u64) -> anyhow::Result<Option<Vec<u8>>> {
    match stat(path)? {
        None => Ok(None),
        Some(Input { size, .. }) if size > most => {
            Err(TooLarge { address: path.to_owned(), size, most }.into())
        }
        Some(_) => read(path),
    }
}

pub(super) fn tail(path: &str, most: u64) -> anyhow::Result<Vec<u8>> {
    let mut file = File::open(path).with_context(|| format!("cannot read {path:?}"))?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Begins the names of files that are not written to their end.
const SCRATCH: &str = ".prediction-";

/// Deletes the files that a killed process was writing.
pub fn delete_scratch(folder: &str) -> anyhow::Result<()> {
    for (name, _) in list(folder)? {
        if name.starts_with(SCRATCH) {
            delete(&job::path(folder, &name))?;
        }
    }
    Ok(())
}

/// A file beside `path`, so that it can be renamed.
pub(super) fn scratch(path: &str) -> anyhow::Result<NamedTempFile> {
    let folder = Path::new(path).parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {folder:?}"))?;
    let file = tempfile::Builder::new().prefix(SCRATCH).permissions(readable()).tempfile_in(folder);
    file.with_context(|| format!("cannot write into the folder {folder:?}"))
}

/// The rights that other programs give to new files, under the process's mask. Temporary files are for their owner
/// alone otherwise.
fn readable() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt as _;
    fs::Permissions::from_mode(0o666)
}

pub(super) fn create(path: &str, content: &[u8]) -> anyhow::Result<bool> {
    let mut file = scratch(path)?;
    file.write_all(content).with_context(|| format!("cannot write {path:?}"))?;
    persist(path, file)
}

/// Gives the file its name once its bytes are on the disk, so that it is whole also after a power cut.
pub(super) fn persist(path: &str, file: NamedTempFile) -> anyhow::Result<bool> {
    file.as_file().sync_all().with_context(|| format!("cannot write {path:?}"))?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error).with_context(|| format!("cannot write {path:?}")),
    }
}

pub(super) fn delete(path: &str) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if !is_missing(&error) => Err(error).with_context(|| format!("cannot delete {path:?}")),
        _ => Ok(()),
    }
}
