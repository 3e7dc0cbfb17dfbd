//! The registry of everything in the source that is not served, and why. [`super::watch`] writes it, `/info`
//! reads it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::Serialize;

use super::listing::IgnoredPath;

use crate::lock::lock;

/// The versions of one model that are not served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NotServed {
    /// Says why the served version is not the one that a worker would choose that starts now.
    pub warning: Option<String>,
    /// The newer versions, newest first.
    pub refused: Vec<Refusal>,
}

/// A version that is not served, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    pub version: String,
    pub from: String,
    pub reason: String,
}

#[derive(Debug, Default)]
pub struct NotServedRegistry {
    by_model: Mutex<BTreeMap<String, NotServed>>,
    ignored: Mutex<Vec<IgnoredPath>>,
}

impl NotServedRegistry {
    /// Versions that are not served, by model.
    pub fn by_model(&self) -> BTreeMap<String, NotServed> {
        lock(&self.by_model).clone()
    }

    /// Replaces the entry of `model`; true when its warning is a new one.
    pub(crate) fn set(&self, model: &str, news: NotServed) -> bool {
        let mut all = lock(&self.by_model);
        let known = all.get(model).and_then(|known| known.warning.as_ref());
        let is_new = news.warning.is_some() && news.warning.as_ref() != known;
        if news == NotServed::default() {
            all.remove(model);
        } else {
            all.insert(model.to_owned(), news);
        }
        is_new
    }

    /// Forgets a model that is no longer in the source.
    pub(crate) fn remove(&self, model: &str) {
        lock(&self.by_model).remove(model);
    }

    /// Files and folders of the source that are no part of a version.
    pub fn ignored(&self) -> Vec<IgnoredPath> {
        lock(&self.ignored).clone()
    }

    pub(crate) fn set_ignored(&self, ignored: Vec<IgnoredPath>) {
        *lock(&self.ignored) = ignored;
    }
}
