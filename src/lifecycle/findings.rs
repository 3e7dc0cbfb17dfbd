//! The findings about the versions of one model, and the reasons why versions are not served.

use super::choice::{self, Base, Facts, Verdict};
use super::listing::{ListedFile, ListedVersion};
use crate::model::interface::Interface;

/// The hint for a version with another signature.
const NEW_SIGNATURE: &str = "if that is meant, push it under a higher version with `predictd push \
                             --new-signature`, or write `new_signature: true` into its \"model.yaml\"";

/// The findings about a version with exactly these files.
#[derive(Debug, Default)]
pub(super) struct VersionFindings {
    pub(super) files: Vec<ListedFile>,
    pub(super) new_signature: Option<bool>,
    /// The last verdict that holds until the files change.
    pub(super) verdict: Verdict<Interface>,
    /// The last reason that was logged.
    pub(super) reported: Option<String>,
}

/// One model in one listing. Versions are positions, newest first.
pub(super) struct ModelFindings {
    pub(super) versions: Vec<ListedVersion>,
    pub(super) facts: Vec<Facts<Interface>>,
    /// Set when a version could not be read.
    pub(super) unreadable: Option<anyhow::Error>,
    /// Set when the listing may lack versions.
    pub(super) is_partial: bool,
}

impl ModelFindings {
    /// The reason why the version is not served, if there is one; true if it may pass by itself.
    pub(super) fn refusal(&self, at: usize) -> Option<(String, bool)> {
        let facts = &self.facts[at];
        if let Some(reason) = facts.reason() {
            return Some((reason.to_owned(), !matches!(facts.verdict, Verdict::Bad(_))));
        }
        match (choice::base(&self.facts, at), &facts.verdict) {
            (Base::At(base), Verdict::Good(own)) => {
                let Verdict::Good(expected) = &self.facts[base].verdict else { return None };
                let difference = own.difference(expected, self.versions[base].version.as_str())?;
                Some((format!("{difference}; {NEW_SIGNATURE}"), false))
            }
            (Base::Unclear(base), _) => {
                let version = &self.versions[base].version;
                let reason = self.facts[base].reason().unwrap_or_default();
                let why = format!(
                    "it must be compared with version {version}, which is not possible now: {reason}"
                );
                Some((why, true))
            }
            _ => None,
        }
    }
}
