//! Version names and their order.

use std::cmp::Ordering;

/// A whole number (`7`) or a semantic version (`1.2.0`, `v1.2.0-rc.1`), ordered as such; `7` is `7.0.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    name: String,
    numbers: [u64; 3],
    /// Empty for a release, which comes after all of its pre-releases.
    pre_release: Vec<Identifier>,
}

/// Semantic Versioning 2.0.0, section 11: numbers come before words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    Number(u64),
    Word(String),
}

impl Version {
    /// `None` for a name that is no version.
    pub fn parse(name: &str) -> Option<Self> {
        let bare = name.strip_prefix('v').unwrap_or(name);
        let bare = bare.split_once('+').map_or(bare, |(version, _build)| version);
        let (core, pre_release) = match bare.split_once('-') {
            Some((core, pre)) => (core, pre.split('.').map(Identifier::parse).collect::<Option<_>>()?),
            None => (bare, Vec::new()),
        };
        let parts: Vec<u64> = core.split('.').map(number).collect::<Option<_>>()?;
        let numbers = match parts[..] {
            [major] if pre_release.is_empty() => [major, 0, 0],
            [major, minor, patch] => [major, minor, patch],
            _ => return None,
        };
        Some(Self { name: name.to_owned(), numbers, pre_release })
    }

    /// The name as the source gives it.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Identifier {
    fn parse(text: &str) -> Option<Self> {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if text.is_empty() || !text.chars().all(legal) {
            return None;
        }
        Some(number(text).map_or_else(|| Self::Word(text.to_owned()), Self::Number))
    }
}

fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers
            .cmp(&other.numbers)
            .then_with(|| match (self.pre_release.is_empty(), other.pre_release.is_empty()) {
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                _ => self.pre_release.cmp(&other.pre_release),
            })
            // Two names of one version (`1` and `v1`) must still have one order everywhere.
            .then_with(|| self.name.cmp(&other.name))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
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
    fn other_names_are_no_versions() {
        for name in ["", "v", "latest", "1.2", "1.2.3.4", "-1", "1-rc", "1.2.x", "1.2.3-", "٣", "tmp.1"] {
            assert_eq!(Version::parse(name), None, "{name:?}");
        }
    }
}
