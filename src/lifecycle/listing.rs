//! The listing of a source: its files, grouped by model and version.
//!
//! A listing is only a claim: [`crate::model::bundle`] judges whether a version is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::version::Version;

/// One file of a version, at the generation that was listed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListedFile {
    /// Relative to the version's folder, with `/` between levels.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// The object's generation. For a local file: a number that changes with every change of the file.
    pub generation: i64,
    /// The bucket's own checksum; `None` for a local file.
    pub crc32c: Option<u32>,
}

/// A version as the source lists it, with its files in order of their paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedVersion {
    pub model: String,
    pub version: Version,
    pub files: Vec<ListedFile>,
}

impl ListedVersion {
    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// Everything that one listing of a source found.
#[derive(Debug, Default)]
pub struct Listing {
    pub versions: Vec<ListedVersion>,
    /// Files and folders that are no part of a version, at most `MAX_IGNORED`.
    pub ignored: Vec<IgnoredPath>,
    /// The models whose folders cannot be read completely.
    pub unreadable: BTreeSet<String>,
}

/// A file or folder where a version, or a part of one, was expected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct IgnoredPath {
    pub path: String,
    pub expected: String,
}

/// Limits the warnings about a source that holds many other files.
const MAX_IGNORED: usize = 100;
/// Extensions of model files in other formats.
const OTHER_FORMATS: [&str; 10] =
    ["cbm", "h5", "joblib", "keras", "pb", "pickle", "pkl", "pt", "pth", "safetensors"];

/// Builds a [`Listing`] file by file.
#[derive(Debug, Default)]
pub(crate) struct ListingBuilder {
    versions: BTreeMap<(String, String), ListedVersion>,
    ignored: BTreeMap<String, String>,
    unreadable: BTreeSet<String>,
}

impl ListingBuilder {
    /// Adds the file `path`, relative to the source: `model/version/file…`. Ignores paths of another form.
    pub(crate) fn add(&mut self, path: &str, size: u64, generation: i64, crc32c: Option<u32>) {
        // Some tools create empty objects that stand for folders.
        if path.ends_with('/') {
            return;
        }
        let mut parts = path.splitn(3, '/');
        let (model, version, rest) = match (parts.next(), parts.next(), parts.next()) {
            (Some(""), ..) => return,
            (Some(model), Some(version), Some(rest)) => (model, version, rest),
            (Some(model), Some(file), None) => {
                return self
                    .ignore(path, format!("expected a folder for each version, such as {model}/1/{file}"));
            }
            _ => return self.ignore(path, "expected MODEL/VERSION/model.onnx".to_owned()),
        };
        let Some(parsed) = Version::parse(version) else {
            let expected = "expected a version, a whole number or a semantic version such as v1.2.0";
            return self.ignore(&format!("{model}/{version}"), expected.to_owned());
        };
        // Object names are not trusted: `../` must never lead out of the version's folder.
        if !Path::new(rest).components().all(|part| matches!(part, Component::Normal(_))) {
            return self.ignore(path, "expected a path that stays in the version's folder".to_owned());
        }
        let listed = self
            .versions
            .entry((model.to_owned(), version.to_owned()))
            .or_insert_with(|| ListedVersion { model: model.to_owned(), version: parsed, files: Vec::new() });
        listed.files.push(ListedFile { path: rest.to_owned(), size, generation, crc32c });
    }

    /// Lists `path` as ignored, unless it is hidden.
    pub(crate) fn ignore(&mut self, path: &str, expected: String) {
        let is_hidden = |part: &str| part.starts_with('.') && !matches!(part, "." | "..");
        if self.ignored.len() < MAX_IGNORED && !path.split('/').any(is_hidden) {
            self.ignored.insert(path.to_owned(), expected);
        }
    }

    /// Notes that a part of the model's folder cannot be read.
    pub(crate) fn unreadable(&mut self, model: String) {
        self.unreadable.insert(model);
    }

    pub(crate) fn finish(mut self) -> Listing {
        self.ignore_other_formats();
        let ignored =
            self.ignored.into_iter().map(|(path, expected)| IgnoredPath { path, expected }).collect();
        let mut versions: Vec<ListedVersion> = self.versions.into_values().collect();
        for listed in &mut versions {
            listed.files.sort();
        }
        Listing { versions, ignored, unreadable: self.unreadable }
    }

    /// Names the model file in another format of each version that has none in ONNX.
    fn ignore_other_formats(&mut self) {
        let extension = |file: &ListedFile| Path::new(&file.path).extension()?.to_str().map(str::to_owned);
        let mut found = Vec::new();
        for listed in self.versions.values() {
            let has = |wanted: &[&str]| {
                listed.files.iter().find(|file| extension(file).is_some_and(|own| wanted.contains(&&*own)))
            };
            if let (None, Some(other)) = (has(&["onnx"]), has(&OTHER_FORMATS)) {
                found.push(format!("{}/{}/{}", listed.model, listed.version, other.path));
            }
        }
        for path in found {
            self.ignore(&path, "expected a model in the ONNX format, model.onnx".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_grouped_by_model_and_version_and_the_rest_is_named() {
        let mut builder = ListingBuilder::default();
        for path in [
            "wine/1/model.onnx",
            "wine/1/data/w.bin",
            "wine/latest/model.onnx",
            "wine/2/../../x",
            "README.md",
            "wine/1/",
            "fraud/model.onnx",
            "fraud/v.1/model.onnx",
            "fraud/v.1/labels.txt",
            "fraud/2/model.pkl",
            "fraud/.DS_Store",
        ] {
            builder.add(path, 1, 1, None);
        }
        let listing = builder.finish();
        let ignored: Vec<_> =
            listing.ignored.iter().map(|ignored| (&*ignored.path, &*ignored.expected)).collect();
        let version = "expected a version, a whole number or a semantic version such as v1.2.0";
        assert_eq!(
            ignored,
            [
                ("README.md", "expected MODEL/VERSION/model.onnx"),
                ("fraud/2/model.pkl", "expected a model in the ONNX format, model.onnx"),
                ("fraud/model.onnx", "expected a folder for each version, such as fraud/1/model.onnx"),
                ("fraud/v.1", version),
                ("wine/2/../../x", "expected a path that stays in the version's folder"),
                ("wine/latest", version),
            ]
        );
        let paths: Vec<_> = listing.versions[1].files.iter().map(|f| f.path.as_str()).collect();
        assert_eq!((listing.versions.len(), paths), (2, vec!["data/w.bin", "model.onnx"]));
    }
}
