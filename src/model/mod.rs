//! One version of a model, loaded, and the registry of those that are served.
//!
//! [`crate::lifecycle`] writes [`Models`]; the engine reads it, once a request to decode and once a batch to pin the version.

pub mod batch_mode;
pub mod bundle;
pub mod executor;
pub(crate) mod input_adapter;
pub mod interface;
pub(crate) mod made_up;
pub mod onnx;
mod output_format;
mod probe;
pub mod sharing;
mod split_runs;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use serde::Serialize;

use crate::error::{Code, Rejection};
use crate::names::{self, quoted};
use crate::ops::metrics::ModelMetrics;
use crate::tensor::signature::{Signature, TensorSpec};

/// One loaded version of one model.
#[derive(Debug)]
pub struct Model {
    pub name: Arc<str>,
    pub version: Arc<str>,
    pub signature: Signature,
    /// The address of the version at its source.
    pub from: String,
    /// What the model file says of itself: producer, domain, description and the like.
    pub metadata: BTreeMap<String, String>,
    pub declaration: bundle::declaration::Declaration,
    pub loaded_at: SystemTime,
    pub metrics: ModelMetrics,
    pub executor: executor::Executor,
    /// See [`Self::response_bytes`].
    pub(crate) response_bytes: AtomicUsize,
}

/// Bytes of a number in a response: seven digits, their point and what is around them.
const BYTES_OF_A_NUMBER: usize = 12;
/// No response is expected to be larger, whatever a model declares.
const LARGEST_RESPONSE: usize = 64 << 20;

impl Model {
    /// Bytes that the response for so many rows is expected to have: as the largest lately, at first by the outputs' shapes.
    pub fn response_bytes(&self, rows: usize) -> usize {
        self.response_bytes.load(Ordering::Relaxed).saturating_mul(rows).min(LARGEST_RESPONSE)
    }

    /// Takes note of a response of so many bytes for one row.
    pub fn responded(&self, bytes: usize) {
        let expected = self.response_bytes(1);
        if bytes != expected {
            let lower = expected - expected.saturating_sub(bytes).div_ceil(16);
            self.response_bytes.store(lower.max(bytes), Ordering::Relaxed);
        }
    }

    pub(crate) fn first_response_bytes(signature: &Signature) -> AtomicUsize {
        let numbers = |spec: &TensorSpec| {
            let dims = spec.shape.iter().skip(usize::from(signature.batched));
            dims.map(|dim| dim.fixed().unwrap_or(1)).fold(BYTES_OF_A_NUMBER, usize::saturating_mul)
        };
        AtomicUsize::new(signature.outputs.iter().map(numbers).fold(0, usize::saturating_add))
    }

    /// Whether a request that wants this version may run on it; one that wants none may run on any.
    ///
    /// # Errors
    /// `MODEL_NOT_FOUND`.
    pub fn check_version(&self, wanted: Option<&str>) -> Result<(), Rejection> {
        match wanted {
            Some(wanted) if *wanted != *self.version => {
                let message = format!(
                    "version {} of the model {} is not served, {} is",
                    quoted(wanted),
                    quoted(&self.name),
                    self.version
                );
                Err(Rejection::new(Code::ModelNotFound, message))
            }
            _ => Ok(()),
        }
    }

    /// True when a request that was decoded for `other` may run on this version, and in one call with its
    /// requests.
    pub fn takes_requests_of(&self, other: &Self) -> bool {
        let (own, others) = (&self.executor, &other.executor);
        self.name == other.name
            && self.signature == other.signature
            && own.shares_calls() == others.shares_calls()
            && own.max_rows == others.max_rows
    }
}

/// The versions of a model that are not served, for `/info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NotServed {
    /// Why another version is served than a worker would serve that starts now.
    pub warning: Option<String>,
    /// The versions that would be served if nothing was wrong with them, newest first.
    pub refused: Vec<Refusal>,
}

/// Why a version does not serve, for `/info`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    pub version: String,
    pub from: String,
    pub reason: String,
}

type Serving = BTreeMap<Arc<str>, Arc<Model>>;

/// Names that a message lists at most.
const FEW: usize = 5;
/// An unknown name is compared with so many that lie before and behind it in the alphabet: a request may not cost more.
const NEIGHBOURS: usize = 250;

/// The models that serve now, by name.
#[derive(Debug)]
pub struct Models {
    serving: ArcSwap<Serving>,
    not_served: Mutex<BTreeMap<String, NotServed>>,
    ignored: Mutex<Vec<crate::lifecycle::source::Ignored>>,
    /// Serves requests that name no model.
    default: Option<String>,
    awaited: ArcSwap<BTreeSet<String>>,
}

impl Models {
    pub fn new(default: Option<String>) -> Arc<Self> {
        Arc::new(Self {
            serving: ArcSwap::default(),
            not_served: Mutex::default(),
            ignored: Mutex::default(),
            default,
            awaited: ArcSwap::default(),
        })
    }

    /// One model, which serves every request that names no other.
    pub fn of(model: Model) -> Arc<Self> {
        let models = Self::new(None);
        models.swap(Arc::new(model));
        models
    }

    pub fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    /// True when requests that name no model are refused: there are several and no default.
    pub fn are_ambiguous(&self) -> bool {
        self.default.is_none() && self.serving.load().len() > 1
    }

    /// The version that serves a request, which may name its model.
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
            Some(name) => format!("the model {} is not served; {}", quoted(name), instead_of(name, &serving)),
            None => format!(
                "the request names no model and there is no default; set the attribute `model` to one of: {}",
                some_of(&serving)
            ),
        };
        Err(Rejection::new(Code::ModelNotFound, message))
    }

    /// Some names of those that are served, and how many others are.
    pub fn names(&self) -> String {
        some_of(&self.serving.load())
    }

    /// Puts `model` into service in place of its earlier version, which batches in flight keep until they end.
    pub(crate) fn swap(&self, model: Arc<Model>) {
        self.serving.rcu(|serving| {
            let mut serving = BTreeMap::clone(serving);
            serving.insert(Arc::clone(&model.name), Arc::clone(&model));
            serving
        });
    }

    /// Takes a model out of service; batches in flight keep it until they end.
    pub(crate) fn retire(&self, name: &str) -> Option<Arc<Model>> {
        self.lock().remove(name);
        let before = self.serving.rcu(|serving| {
            let mut serving = BTreeMap::clone(serving);
            serving.remove(name);
            serving
        });
        before.get(name).cloned()
    }

    /// True when the request's model was in the source when this worker started and is still loading: another
    /// worker, or this one later, may answer.
    pub fn is_awaited<'a>(&'a self, name: impl FnOnce() -> Option<&'a str>) -> bool {
        let awaited = self.awaited.load();
        !awaited.is_empty() && name().or(self.default.as_deref()).is_some_and(|name| awaited.contains(name))
    }

    pub(crate) fn set_awaited(&self, models: BTreeSet<String>) {
        self.awaited.store(Arc::new(models));
    }

    /// Once it serves or cannot.
    pub(crate) fn set_not_awaited(&self, name: &str) {
        if self.awaited.load().contains(name) {
            let mut awaited = BTreeSet::clone(&self.awaited.load());
            awaited.remove(name);
            self.set_awaited(awaited);
        }
    }

    /// The version that runs a request which was decoded for `model`: the one that is served now, where it
    /// takes the same requests.
    pub fn current(&self, model: &Arc<Model>) -> Arc<Model> {
        let serving = self.serving.load();
        let now = serving.get(&model.name).filter(|now| now.takes_requests_of(model));
        Arc::clone(now.unwrap_or(model))
    }

    /// Versions that are not served, by model.
    pub fn not_served(&self) -> BTreeMap<String, NotServed> {
        self.lock().clone()
    }

    /// Puts `news` in place of what was known before of `model`; whether its warning is a new one.
    pub(crate) fn set_not_served(&self, model: &str, news: NotServed) -> bool {
        let mut all = self.lock();
        let known = all.get(model).and_then(|known| known.warning.as_ref());
        let is_new = news.warning.is_some() && news.warning.as_ref() != known;
        if news == NotServed::default() {
            all.remove(model);
        } else {
            all.insert(model.to_owned(), news);
        }
        is_new
    }

    /// Files and folders of the source that are no part of a version.
    pub fn ignored(&self) -> Vec<crate::lifecycle::source::Ignored> {
        self.ignored.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_ignored(&self, ignored: Vec<crate::lifecycle::source::Ignored>) {
        *self.ignored.lock().unwrap_or_else(PoisonError::into_inner) = ignored;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, NotServed>> {
        self.not_served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn some_of(serving: &Serving) -> String {
    if serving.is_empty() {
        return "none".to_owned();
    }
    let some: Vec<String> = serving.keys().take(FEW).map(|name| names::shortened(name)).collect();
    names::list(&some, serving.len())
}

/// The models that `name` may have meant: all of them where they are few, or else those that are most like it.
fn instead_of(name: &str, serving: &Serving) -> String {
    let neighbours = || {
        let before = serving.range::<str, _>((Unbounded, Excluded(name))).rev();
        let behind = serving.range::<str, _>((Included(name), Unbounded));
        before.take(NEIGHBOURS).chain(behind.take(NEIGHBOURS)).map(|(name, _)| &**name)
    };
    match names::nearest(name, neighbours(), FEW) {
        near if near.is_empty() || serving.len() <= FEW => format!("served: {}", some_of(serving)),
        near => {
            let near: Vec<String> = near.into_iter().map(names::shortened).collect();
            format!("did you mean {}? {} models are served", near.join(", "), serving.len())
        }
    }
}
