//! Preconditions of a call on the live generation of an object.

use super::error::{Error, Kind, Result};
use super::object::Version;

/// `ifGenerationMatch` and its family; a generation of 0 means that no live object exists.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    pub generation_match: Option<i64>,
    pub generation_not_match: Option<i64>,
    pub metageneration_match: Option<i64>,
    pub metageneration_not_match: Option<i64>,
}

impl Conditions {
    /// For a write: any condition that does not hold is `Kind::Precondition`.
    pub(crate) fn check_write(&self, current: Option<&Version>) -> Result<()> {
        let holds = self.matches(current) && !self.unchanged(current);
        if holds { Ok(()) } else { Err(Error::precondition()) }
    }

    /// For a read: a `…NotMatch` that does not hold is `Kind::NotModified`.
    pub(crate) fn check_read(&self, current: &Version) -> Result<()> {
        if !self.matches(Some(current)) {
            return Err(Error::precondition());
        }
        if self.unchanged(Some(current)) {
            return Err(Error::new(Kind::NotModified, "Not Modified"));
        }
        Ok(())
    }

    fn matches(&self, current: Option<&Version>) -> bool {
        let generation = current.map_or(0, |version| version.generation);
        let metageneration = current.map(|version| version.metageneration);
        self.generation_match.is_none_or(|wanted| wanted == generation)
            && self.metageneration_match.is_none_or(|wanted| Some(wanted) == metageneration)
    }

    fn unchanged(&self, current: Option<&Version>) -> bool {
        let generation = current.map_or(0, |version| version.generation);
        let metageneration = current.map(|version| version.metageneration);
        self.generation_not_match.is_some_and(|unwanted| unwanted == generation)
            || self.metageneration_not_match.is_some_and(|unwanted| Some(unwanted) == metageneration)
    }
}
