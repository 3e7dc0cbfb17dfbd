//! Names of versions, and their order.

use std::path::Path;

use semver::Prerelease;

/// A whole number (`7`) or a semantic version (`1.2.0`, `v1.2.0-rc.1`), ordered as such; `7` is `7.0.0`.
/// Different names of one version (`1`, `v1`, `1.0.0+build`) are ordered by name, so that all workers agree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    number: semver::Version,
    name: String,
}

impl Version {
    /// `None` for a name that is no version.
    pub fn parse(name: &str) -> Option<Self> {
        let bare = name.strip_prefix('v').unwrap_or(name);
        let bare = bare.split_once('+').map_or(bare, |(version, _build)| version);
        let (core, pre) = match bare.split_once('-') {
            Some((_, "")) => return None,
            Some((core, pre)) => (core, Prerelease::new(pre).ok()?),
            None => (bare, Prerelease::EMPTY),
        };
        // Not by `semver`: leading zeros are accepted, as in the dates `20240101` and `2024.01.31`.
        let parts: Vec<u64> = core.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let [major, minor, patch] = match parts[..] {
            [major] if pre.is_empty() => [major, 0, 0],
            [major, minor, patch] => [major, minor, patch],
            _ => return None,
        };
        let number = semver::Version { pre, ..semver::Version::new(major, minor, patch) };
        Some(Self { number, name: name.to_owned() })
    }

    /// The name in the source.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// Names of the model and the version in `folder`, by the layout `…/MODEL/VERSION`. A folder with another name
/// is version 1 of a model of that name.
pub fn names(folder: &Path) -> (String, Version) {
    let last = |folder: &Path| {
        folder.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
    };
    let name = last(folder);
    match (Version::parse(&name), folder.parent()) {
        (Some(version), Some(model)) => (last(model), version),
        _ => (name, Version { number: semver::Version::new(1, 0, 0), name: "1".to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_numbers_and_not_as_text() {
        let ascending =
            ["1", "2", "v2.0.1", "2.1.0-alpha.2", "2.1.0-alpha.10", "2.1.0-rc.1", "2.1.0", "10", "v20240101"];
        for pair in ascending.windows(2) {
            let [a, b] = [Version::parse(pair[0]).unwrap(), Version::parse(pair[1]).unwrap()];
            assert!(a < b, "{a} < {b}");
        }
    }

    #[test]
    fn leading_zeros_and_builds_do_not_count() {
        let number = |name: &str| Version::parse(name).unwrap().number;
        assert_eq!(number("007"), number("7"));
        assert_eq!(number("2024.01.31"), number("2024.1.31"));
        assert_eq!(number("1.2.3+build_5"), number("v1.2.3"));
        assert!(Version::parse("1") < Version::parse("v1"), "two names of one version have an order");
    }

    #[test]
    fn a_folder_names_its_model_and_version() {
        for (folder, expected) in [
            ("/models/wine/2", ("wine", "2")),
            ("bucket/models/wine/v1.2.0", ("wine", "v1.2.0")),
            ("/opt/ml/model", ("model", "1")),
            ("bucket", ("bucket", "1")),
            ("/7", ("model", "7")),
            ("/", ("model", "1")),
        ] {
            let (model, version) = names(Path::new(folder));
            assert_eq!((&*model, version.as_str()), expected, "{folder}");
        }
    }

    #[test]
    fn other_names_are_no_versions() {
        for name in ["", "v", "latest", "1.2", "1.2.3.4", "-1", "1-rc", "1.2.x", "1.2.3-", "٣", "tmp.1"] {
            assert_eq!(Version::parse(name), None, "{name:?}");
        }
    }
}
