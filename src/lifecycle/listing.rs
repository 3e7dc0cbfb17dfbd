//! The listing of a source: its files, grouped by model and version.
//!
//! A source has folders `<model>/<version>`, or it is the folder of one version itself, which is what Vertex
//! AI and SageMaker give. Each listing decides by the files.
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
    /// Path in the source: `<model>/<version>`, or empty where the source is the version's folder.
    pub folder: String,
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

/// Files that make a folder that of a version.
const MODEL_FILES: [&str; 2] = ["model.onnx", "MLmodel"];

/// Builds a [`Listing`] file by file.
#[derive(Debug)]
pub(crate) struct ListingBuilder<'a> {
    /// Model and version of a source that is the folder of one version.
    alone: &'a (String, Version),
    /// All files, by their paths in the source.
    files: Vec<ListedFile>,
    versions: BTreeMap<(String, String), ListedVersion>,
    ignored: BTreeMap<String, String>,
    unreadable: BTreeSet<String>,
}

impl<'a> ListingBuilder<'a> {
    pub(crate) fn new(alone: &'a (String, Version)) -> Self {
        let (files, versions) = (Vec::new(), BTreeMap::new());
        Self { alone, files, versions, ignored: BTreeMap::new(), unreadable: BTreeSet::new() }
    }

    /// Adds the file `path`, relative to the source.
    pub(crate) fn add(&mut self, path: &str, size: u64, generation: i64, crc32c: Option<u32>) {
        // Some tools create empty objects that stand for folders.
        if !path.ends_with('/') {
            self.files.push(ListedFile { path: path.to_owned(), size, generation, crc32c });
        }
    }

    /// Adds a file to the version that the source is.
    fn add_alone(&mut self, file: ListedFile) {
        let (model, version) = self.alone;
        self.add_to(model, version.clone(), String::new(), file);
    }

    /// Adds a file to its version by its path, `model/version/file…`. Ignores paths of another form.
    fn add_grouped(&mut self, file: ListedFile) {
        let path = &*file.path;
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
        let folder = format!("{model}/{version}");
        self.add_to(model, parsed, folder, ListedFile { path: rest.to_owned(), ..file.clone() });
    }

    fn add_to(&mut self, model: &str, version: Version, folder: String, file: ListedFile) {
        // Object names are not trusted: `../` must never lead out of the version's folder.
        if !Path::new(&file.path).components().all(|part| matches!(part, Component::Normal(_))) {
            let path = Path::new(&folder).join(&file.path);
            let expected = "expected a path that stays in the version's folder".to_owned();
            return self.ignore(&path.to_string_lossy(), expected);
        }
        let key = (model.to_owned(), version.to_string());
        let new = || ListedVersion { model: model.to_owned(), version, folder, files: Vec::new() };
        self.versions.entry(key).or_insert_with(new).files.push(file);
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
        let files = std::mem::take(&mut self.files);
        if is_one_version(&files) {
            files.into_iter().for_each(|file| self.add_alone(file));
            // Whatever cannot be read is a part of the one model.
            if !self.unreadable.is_empty() {
                self.unreadable = BTreeSet::from([self.alone.0.clone()]);
            }
        } else {
            files.into_iter().for_each(|file| self.add_grouped(file));
        }
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
                found.push(format!("{}/{}", listed.folder, other.path));
            }
        }
        for path in found {
            self.ignore(&path, "expected a model in the ONNX format, model.onnx".to_owned());
        }
    }
}

/// True when a model lies in the source itself, and none in folders `model/version`.
fn is_one_version<'a>(files: &'a [ListedFile]) -> bool {
    let split = |file: &'a ListedFile| file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let is_model = |(_, name): &(&str, &str)| MODEL_FILES.contains(name);
    let folders: BTreeSet<&str> =
        files.iter().map(split).filter(is_model).map(|(folder, _)| folder).collect();
    let is_version =
        |folder: &&str| folder.split_once('/').is_some_and(|(_, version)| Version::parse(version).is_some());
    folders.contains("") && !folders.iter().any(is_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone() -> (String, Version) {
        ("wine".to_owned(), Version::parse("2").unwrap())
    }

    #[test]
    fn files_are_grouped_by_model_and_version_and_the_rest_is_named() {
        let alone = alone();
        let mut builder = ListingBuilder::new(&alone);
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

    /// Model, version, folder and number of files of each version, and the number of ignored paths.
    fn listed(paths: &[&str]) -> (Vec<String>, usize) {
        let alone = alone();
        let mut builder = ListingBuilder::new(&alone);
        for path in paths {
            builder.add(path, 1, 1, None);
        }
        let listing = builder.finish();
        let show = |listed: &ListedVersion| {
            let ListedVersion { model, version, folder, files } = listed;
            format!("{model} {version} {folder:?} {}", files.len())
        };
        (listing.versions.iter().map(show).collect(), listing.ignored.len())
    }

    #[test]
    fn a_source_may_be_the_folder_of_one_version() {
        let bundle = ["model.onnx", "data/a/w.bin", "README.md"];
        assert_eq!(listed(&bundle), (vec!["wine 2 \"\" 3".to_owned()], 0));
        assert_eq!(listed(&["MLmodel", "net.onnx"]), (vec!["wine 2 \"\" 2".to_owned()], 0));
        assert_eq!(listed(&["model.onnx", "../model.onnx"]), (vec!["wine 2 \"\" 1".to_owned()], 1));
        // A file that was left in a repository does not hide its models.
        let repository = ["model.onnx", "beer/1/model.onnx"];
        assert_eq!(listed(&repository), (vec!["beer 1 \"beer/1\" 1".to_owned()], 1));
        assert_eq!(listed(&["beer/1/data/model.onnx"]), (vec!["beer 1 \"beer/1\" 1".to_owned()], 0));
        assert_eq!(listed(&["labels.txt"]), (vec![], 1));
    }
}
