//! The judge: from the server's whole history and scikit-learn's own predictions.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::OnceLock;

use local_gcp::history::{Delivery, Event, What};
use local_gcp::pubsub::wire::PubsubMessage;
use serde_json::Value;

use crate::harness::{REQUESTS, RESPONSES, repository};

/// Every response so far by the id of its request's message, in order.
pub(crate) fn responses(events: &[Event]) -> HashMap<&str, Vec<&PubsubMessage>> {
    let mut all: HashMap<&str, Vec<&PubsubMessage>> = HashMap::new();
    for event in events {
        if let What::Published { topic, message: stored } = &event.what
            && **topic == *RESPONSES
            && let Some(id) = stored.message.attributes.get("request_message_id")
        {
            all.entry(id).or_default().push(&stored.message);
        }
    }
    all
}

/// No request was acknowledged before its response was accepted, and every request has one.
pub(crate) fn nothing_was_lost(events: &[Event]) {
    let mut asked: HashSet<&str> = HashSet::new();
    let mut answered: HashSet<&str> = HashSet::new();
    for event in events {
        match &event.what {
            What::Published { topic, message: stored } if **topic == *REQUESTS => {
                asked.insert(&stored.message.message_id);
            }
            What::Published { topic, message: stored } if **topic == *RESPONSES => {
                let id = stored.message.attributes["request_message_id"].as_str();
                assert!(asked.contains(id), "a response to nothing: {id}");
                answered.insert(id);
            }
            What::Acked(Delivery { subscription, message_id, .. })
                if subscription.ends_with("/prediction-requests") =>
            {
                assert!(
                    answered.contains(message_id.as_str()),
                    "{message_id} was acknowledged before its response"
                );
            }
            _ => {}
        }
    }
    let lost: Vec<_> = asked.difference(&answered).collect();
    assert!(lost.is_empty(), "{} requests without a response", lost.len());
}

/// How many responses came more than once.
pub(crate) fn duplicates(events: &[Event]) -> usize {
    responses(events).values().map(|all| all.len() - 1).sum()
}

/// scikit-learn's wine data and what its own models say of every row.
pub(crate) struct Wine {
    pub(crate) rows: Vec<Value>,
    versions: Value,
    tolerance: f64,
}

pub(crate) fn wine() -> &'static Wine {
    static WINE: OnceLock<Wine> = OnceLock::new();
    WINE.get_or_init(|| {
        let text = std::fs::read_to_string(repository().join("tests/models/wine/expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        Wine {
            rows: expected["rows"].as_array().unwrap().clone(),
            versions: expected["versions"].clone(),
            tolerance: expected["tolerance"].as_f64().unwrap(),
        }
    })
}

impl Wine {
    /// A request for these rows.
    pub(crate) fn request(&self, rows: &[usize]) -> String {
        let rows: Vec<&Value> = rows.iter().map(|row| &self.rows[*row]).collect();
        serde_json::json!({ "instances": rows }).to_string()
    }

    /// The response is what scikit-learn says for the version that it names; that version.
    pub(crate) fn check(&self, rows: &[usize], response: &PubsubMessage) -> String {
        self.check_as(rows, response, str::to_owned)
    }

    /// The same where a version's name is not that of its files in tests/models/wine.
    pub(crate) fn check_as(
        &self,
        rows: &[usize],
        response: &PubsubMessage,
        files: impl Fn(&str) -> String,
    ) -> String {
        let body: Value = serde_json::from_slice(&response.data).unwrap();
        assert_eq!(response.attributes["status"], "ok", "{body}");
        let version = response.attributes["model_version"].clone();
        assert_eq!(body["model_version"], version.as_str());
        assert_eq!(body["model"], "wine");
        let predictions = body["predictions"].as_array().unwrap();
        assert_eq!(predictions.len(), rows.len());
        let expected = &self.versions[files(&version)];
        for (prediction, row) in predictions.iter().zip(rows) {
            assert_eq!(prediction["label"], expected["labels"][row], "row {row} of version {version}");
            let pairs = prediction["probabilities"].as_array().unwrap().iter();
            let expected = expected["probabilities"][row].as_array().unwrap();
            assert_eq!(pairs.len(), expected.len());
            for (got, expected) in pairs.zip(expected) {
                let difference = (got.as_f64().unwrap() - expected.as_f64().unwrap()).abs();
                assert!(
                    difference <= self.tolerance,
                    "row {row} of version {version}: {got}, expected {expected}"
                );
            }
        }
        version
    }
}

/// How a request may end.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// With the predictions for these rows of the wine data.
    Wine(Vec<usize>),
    /// With a body that contains this and the status `ok`.
    Contains(String),
    /// With this error code.
    Code(&'static str),
    /// In the dead-letter topic, and nowhere else.
    Dead,
}

/// What a fault excuses.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Allowed {
    /// Responses beyond one a request, each with its request's `request_message_id`.
    pub(crate) duplicates: usize,
}

/// What happened, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) asked: usize,
    pub(crate) duplicates: usize,
    pub(crate) dead: usize,
}

/// Judges the whole history of a world: every request ended in exactly its one way, every response is right for the version
/// that it names, none was acknowledged before its response, duplicates are as many as allowed.
pub(crate) fn judge(events: &[Event], ends: &HashMap<String, End>, allowed: Allowed) -> Verdict {
    let mut answered: HashMap<&str, usize> = HashMap::new();
    let mut dead: HashSet<&str> = HashSet::new();
    for event in events {
        match &event.what {
            What::Published { topic, message: stored } if **topic == *RESPONSES => {
                let response = &stored.message;
                let id = response.attributes["request_message_id"].as_str();
                let end = ends.get(id).unwrap_or_else(|| panic!("a response to nothing: {id}"));
                end.check(id, response);
                *answered.entry(id).or_default() += 1;
            }
            What::Acked(Delivery { subscription, message_id, .. })
                if subscription.ends_with("/prediction-requests") =>
            {
                let id = message_id.as_str();
                assert!(answered.contains_key(id), "{id} was acknowledged before its response");
            }
            What::DeadLettered(Delivery { message_id, .. }) => {
                dead.insert(message_id);
            }
            _ => {}
        }
    }
    for (id, end) in ends {
        let (has_answer, is_dead) = (answered.contains_key(id.as_str()), dead.contains(id.as_str()));
        let expected = matches!(end, End::Dead);
        assert!(
            has_answer != expected && is_dead == expected,
            "request {id} should have ended with {end:?}, answered: {has_answer}, dead: {is_dead}"
        );
    }
    let duplicates = answered.values().map(|count| count - 1).sum();
    assert!(duplicates <= allowed.duplicates, "{duplicates} duplicates, {} were allowed", allowed.duplicates);
    Verdict { asked: ends.len(), duplicates, dead: dead.len() }
}

/// Versions 1, 3, 5… of a judged wine model have the files of wine/1, the even ones those of wine/2.
pub(crate) fn wine_files(version: &str) -> String {
    let number: u64 = version.parse().unwrap();
    (2 - number % 2).to_string()
}

impl End {
    fn check(&self, id: &str, response: &PubsubMessage) {
        let body = String::from_utf8_lossy(&response.data);
        match self {
            Self::Wine(rows) => drop(wine().check_as(rows, response, wine_files)),
            Self::Contains(part) => {
                assert_eq!(response.attributes["status"], "ok", "{id}: {body:.500}");
                assert!(body.contains(part), "{id}: expected {part:?} in {body:.500}");
            }
            Self::Code(code) => {
                assert_eq!(
                    response.attributes.get("error_code").map(String::as_str),
                    Some(*code),
                    "{id}: {body:.500}"
                );
                assert!(body.contains(code), "{id}: {body:.500}");
            }
            Self::Dead => panic!("{id} should never have been answered, but was: {body:.500}"),
        }
    }
}

/// Panics unless a key's first responses came in the order of its requests, given as their ids.
pub(crate) fn in_order<'a>(events: &[Event], requests: impl IntoIterator<Item = &'a str>) {
    let places: HashMap<&str, usize> =
        requests.into_iter().enumerate().map(|(place, id)| (id, place)).collect();
    let (mut seen, mut last) = (HashSet::new(), None);
    for event in events {
        let What::Published { topic, message: stored } = &event.what else { continue };
        let Some(id) = stored.message.attributes.get("request_message_id") else { continue };
        let Some(place) = places.get(id.as_str()).filter(|_| **topic == *RESPONSES) else { continue };
        if !seen.insert(id) {
            continue;
        }
        if let Some((before, earlier)) = last.filter(|(before, _)| before > place) {
            let story = story(events, &[id, earlier]);
            panic!(
                "request {place} of its key ({id}) was answered after request {before} ({earlier}):\n{story}"
            );
        }
        last = Some((*place, id));
    }
}

/// What happened to these requests, a line each event.
fn story(events: &[Event], ids: &[&str]) -> String {
    let mut story = String::new();
    for event in events {
        let (what, id) = match &event.what {
            What::Published { topic, message: stored } if **topic == *RESPONSES => {
                ("answered", stored.message.attributes.get("request_message_id"))
            }
            What::Published { message: stored, .. } => ("published", Some(&stored.message.message_id)),
            What::Delivered(delivery) => ("delivered", Some(&delivery.message_id)),
            What::Acked(delivery) => ("acknowledged", Some(&delivery.message_id)),
            What::Nacked(delivery) => ("given back", Some(&delivery.message_id)),
            What::Expired(delivery) => ("its lease ended", Some(&delivery.message_id)),
            _ => continue,
        };
        if let Some(id) = id.filter(|id| ids.contains(&id.as_str())) {
            let _ = writeln!(story, "{:?} {id} {what}", event.at);
        }
    }
    story
}
