//! Versions of models and the time since when they existed, from the history of the bucket and from the test.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::Instant;

use local_gcp::history::{Event, What};
use local_gcp::pubsub::wire::PubsubMessage;

use crate::support::harness::model_file;

/// The folder in tests/models/wine whose model this is.
type Wine = &'static str;

/// Facts that are not in the history: the content of model files, and the versions in a folder.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// By the object's generation.
    wines: Mutex<HashMap<i64, Wine>>,
    folders: Mutex<Vec<(Instant, Name, Option<Wine>)>>,
}

/// A model and its version.
type Name = (String, String);

fn wine_of(data: &[u8]) -> Option<Wine> {
    ["1", "2"].into_iter().find(|folder| model_file(&format!("wine/{folder}"), "model.onnx") == data)
}

impl Contents {
    /// Call for every object that a response may depend on.
    pub(crate) fn uploaded(&self, generation: i64, data: &[u8]) {
        if let Some(wine) = wine_of(data) {
            self.wines.lock().unwrap().insert(generation, wine);
        }
    }

    /// A model file was put into a folder that the worker reads in place of a bucket.
    pub(crate) fn placed(&self, model: &str, version: &str, data: &[u8]) {
        let name = (model.to_owned(), version.to_owned());
        self.folders.lock().unwrap().push((Instant::now(), name, wine_of(data)));
    }
}

/// The versions that had a model file by some moment of a history.
pub(super) struct Versions<'a> {
    contents: &'a Contents,
    there: HashMap<Name, BTreeSet<Wine>>,
}

impl<'a> Versions<'a> {
    pub(super) fn new(contents: &'a Contents) -> Self {
        Self { contents, there: HashMap::new() }
    }

    /// Goes on to the next event.
    pub(super) fn pass(&mut self, event: &Event) {
        let What::Finalized(object) = &event.what else { return };
        let parts: Vec<&str> = object.object.split('/').collect();
        if let ("models", ["models", model, version, "model.onnx"]) = (&*object.bucket, &*parts) {
            let wines = self.there.entry(((*model).to_owned(), (*version).to_owned())).or_default();
            wines.extend(self.contents.wines.lock().unwrap().get(&object.generation));
        }
    }

    /// The wine models that the version has held which a response of `at` names, more than one where it was
    /// overwritten.
    ///
    /// # Panics
    /// There was no such version, or a response that must name one names none.
    pub(super) fn named(&self, response: &PubsubMessage, at: Instant) -> BTreeSet<Wine> {
        let attribute = |name: &str| response.attributes.get(name).cloned();
        let (Some(model), Some(version)) = (attribute("model"), attribute("model_version")) else {
            assert_ne!(response.attributes["status"], "ok", "a response without its version: {response:?}");
            return BTreeSet::new();
        };
        let name = (model, version);
        let folders = self.contents.folders.lock().unwrap();
        let placed: Vec<_> = folders.iter().filter(|(since, of, _)| *since <= at && *of == name).collect();
        let uploaded = self.there.get(&name);
        assert!(uploaded.is_some() || !placed.is_empty(), "no version {name:?} was there to answer");
        let placed = placed.into_iter().filter_map(|(_, _, wine)| *wine);
        uploaded.into_iter().flatten().copied().chain(placed).collect()
    }
}
