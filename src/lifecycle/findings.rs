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
    /// Its signature, or its fault.
    pub(super) verdict: Option<Result<Interface, String>>,
    /// The last reason that was logged.
    pub(super) reported: Option<String>,
}

/// One model in one listing. Versions are positions, newest first.
pub(super) struct ModelFindings {
    pub(super) versions: Vec<ListedVersion>,
    pub(super) facts: Vec<Facts<Interface>>,
    /// The fault of each version.
    pub(super) reasons: Vec<Option<String>>,
    pub(super) unreadable: Option<anyhow::Error>,
    /// Set when the listing may lack versions.
    pub(super) is_partial: bool,
}

impl ModelFindings {
    /// Notes that the version at `at` cannot be read now.
    pub(super) fn unreadable(&mut self, at: usize, error: anyhow::Error) {
        self.reasons[at] = Some(format!("{error:#}"));
        self.unreadable = Some(error);
    }

    /// The reason why the version is not served, if there is one; true if it may pass by itself.
    pub(super) fn refusal(&self, at: usize) -> Option<(String, bool)> {
        if let Some(reason) = &self.reasons[at] {
            return Some((reason.clone(), !matches!(self.facts[at].verdict, Verdict::Bad)));
        }
        match (choice::base(&self.facts, at), &self.facts[at].verdict) {
            (Base::At(base), Verdict::Good(own)) => {
                let Verdict::Good(expected) = &self.facts[base].verdict else { return None };
                let difference = own.difference(expected, self.versions[base].version.as_str())?;
                Some((format!("{difference}; {NEW_SIGNATURE}"), false))
            }
            (Base::Unclear(base), _) => {
                let (version, reason) = (&self.versions[base].version, self.reasons[base].as_deref());
                let reason = reason.unwrap_or_default();
                let why = format!(
                    "it must be compared with version {version}, which is not possible now: {reason}"
                );
                Some((why, true))
            }
            _ => None,
        }
    }
}
