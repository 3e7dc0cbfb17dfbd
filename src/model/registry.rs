//! The registry of the models that are served, by name.
//!
//! [`crate::lifecycle::watch`] writes it. The engine reads it once a request to decode, and once a batch to
//! pin the version.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::loaded::Model;
use crate::error::{Code, Rejection};
use crate::names::{self, quoted};

type Serving = BTreeMap<Arc<str>, Arc<Model>>;

/// Names that a message lists at most.
const MAX_LISTED: usize = 5;
/// Names before and after an unknown one, in the alphabet, that are compared with it. Limits the cost of a
/// request.
const MAX_NEIGHBOURS: usize = 250;

#[derive(Debug)]
pub struct Models {
    serving: ArcSwap<Serving>,
    /// Serves requests that name no model.
    default: Option<String>,
    /// Models that were in the source when the worker started and are still loading.
    awaited: ArcSwap<BTreeSet<String>>,
}

impl Models {
    pub fn new(default: Option<String>) -> Arc<Self> {
        Arc::new(Self { serving: ArcSwap::default(), default, awaited: ArcSwap::default() })
    }

    /// A registry of one model, which serves every request that names no other.
    pub fn of(model: Model) -> Arc<Self> {
        let models = Self::new(None);
        models.swap(Arc::new(model));
        models
    }

    pub fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    /// True when requests that name no model are refused: several models are served, and none is the default.
    pub fn are_ambiguous(&self) -> bool {
        self.default.is_none() && self.serving.load().len() > 1
    }

    /// The version that serves a request for the model `name`, or for the default one.
    pub fn resolve(&self, name: Option<&str>) -> Result<Arc<Model>, Rejection> {
        let serving = self.serving.load();
        let wanted = name.or(self.default.as_deref());
        let found = match wanted {
            Some(name) => serving.get(name),
            None if serving.len() == 1 => serving.values().next(),
            None => None,
        };
        if let Some(model) = found {
            return Ok(Arc::clone(model));
        }
        let message = match wanted {
            Some(name) => format!("the model {} is not served; {}", quoted(name), suggestion(name, &serving)),
            None => format!(
                "the request names no model and there is no default; name one of: {}",
                list_names(&serving)
            ),
        };
        Err(Rejection::new(Code::ModelNotFound, message))
    }

    /// Some names of the served models, and the number of the others.
    pub fn names(&self) -> String {
        list_names(&self.serving.load())
    }

    /// Replaces the served version of a model. Batches in flight keep the old one until they end.
    pub(crate) fn swap(&self, model: Arc<Model>) {
        self.change(|serving| {
            serving.insert(Arc::clone(&model.name), Arc::clone(&model));
        });
    }

    /// Takes a model out of service. Batches in flight keep it until they end.
    pub(crate) fn retire(&self, name: &str) -> Option<Arc<Model>> {
        let before = self.change(|serving| {
            serving.remove(name);
        });
        before.get(name).cloned()
    }

    /// Replaces the served models by a changed copy of them, and returns those before.
    fn change(&self, change: impl Fn(&mut Serving)) -> Arc<Serving> {
        self.serving.rcu(|serving| {
            let mut serving = BTreeMap::clone(serving);
            change(&mut serving);
            serving
        })
    }

    /// True while the request's model is still loading for the first time: another worker, or this one later,
    /// may answer.
    pub fn is_awaited<'a>(&'a self, name: impl FnOnce() -> Option<&'a str>) -> bool {
        let awaited = self.awaited.load();
        !awaited.is_empty() && name().or(self.default.as_deref()).is_some_and(|name| awaited.contains(name))
    }

    pub(crate) fn set_awaited(&self, models: BTreeSet<String>) {
        self.awaited.store(Arc::new(models));
    }

    /// Ends the wait for a model that is served now, or cannot be.
    pub(crate) fn set_not_awaited(&self, name: &str) {
        let mut awaited = BTreeSet::clone(&self.awaited.load());
        if awaited.remove(name) {
            self.set_awaited(awaited);
        }
    }

    /// The version that runs a request that was decoded for `model`: the version served now, if it takes the
    /// same requests.
    pub fn current(&self, model: &Arc<Model>) -> Arc<Model> {
        let serving = self.serving.load();
        let now = serving.get(&model.name).filter(|now| now.takes_requests_of(model));
        Arc::clone(now.unwrap_or(model))
    }
}

fn list_names(serving: &Serving) -> String {
    if serving.is_empty() {
        return "none".to_owned();
    }
    let some: Vec<String> = serving.keys().take(MAX_LISTED).map(|name| names::shortened(name)).collect();
    names::list(&some, serving.len())
}

/// The served models that `name` may stand for: all of them where they are few, otherwise the most similar
/// ones.
fn suggestion(name: &str, serving: &Serving) -> String {
    let neighbours = || {
        let before = serving.range::<str, _>((Unbounded, Excluded(name))).rev();
        let after = serving.range::<str, _>((Included(name), Unbounded));
        before.take(MAX_NEIGHBOURS).chain(after.take(MAX_NEIGHBOURS)).map(|(name, _)| &**name)
    };
    match names::nearest(name, neighbours(), MAX_LISTED) {
        near if near.is_empty() || serving.len() <= MAX_LISTED => format!("served: {}", list_names(serving)),
        near => {
            let near: Vec<String> = near.into_iter().map(names::shortened).collect();
            format!("did you mean {}? {} models are served", near.join(", "), serving.len())
        }
    }
}
