//! One entry of the cache: a folder with the files of a version and their description.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::listing::{ListedFile, ListedVersion};
use crate::model::bundle::size_and_crc32c;

/// The file that describes an entry. Its modification time is the entry's last use.
pub(crate) const DESCRIPTION: &str = "version.json";
pub(crate) const FILES: &str = "files";

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Description {
    /// The version's address.
    pub(crate) from: String,
    files: Vec<ListedFile>,
}

impl Description {
    pub(crate) fn of(from: &str, listed: &ListedVersion) -> Self {
        Self { from: from.to_owned(), files: listed.files.clone() }
    }

    pub(crate) fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// Reads the description of an entry; `None` for other folders, which the cache leaves alone.
pub(crate) fn describe(entry: &Path) -> Option<Description> {
    serde_json::from_slice(&fs::read(entry.join(DESCRIPTION)).ok()?).ok()
}

/// The first difference between the files and the listed ones.
pub(crate) fn damage(folder: &Path, listed: &ListedVersion) -> Option<String> {
    listed.files.iter().find_map(|file| match size_and_crc32c(&folder.join(&file.path)) {
        Ok((size, _)) if size != file.size => Some(format!("{:?} has {size} bytes", file.path)),
        Ok((_, crc)) if file.crc32c.is_some_and(|listed| listed != crc) => {
            Some(format!("{:?} has the crc32c {crc:08x}", file.path))
        }
        Ok(_) => None,
        Err(error) => Some(format!("cannot read {:?}: {error}", file.path)),
    })
}

/// The name of an entry: readable, legal in every file system, and different for every generation of a file.
pub(crate) fn entry_name(from: &str, listed: &ListedVersion) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' };
    let short = |text: &str| text.chars().take(80).map(legal).collect::<String>();
    let mut key = from.to_owned();
    for file in &listed.files {
        key += &format!("\n{} {}", file.path, file.generation);
    }
    let crc = crc32c::crc32c(key.as_bytes());
    format!("{}-{}-{crc:08x}", short(&listed.model), short(listed.version.as_str()))
}
