//! The judge: from the server's whole history and scikit-learn's own predictions.

#[cfg(test)]
mod tests;
mod versions;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::OnceLock;

use local_gcp::history::{Delivery, Event, What};
use local_gcp::pubsub::wire::PubsubMessage;
use serde_json::Value;

use self::versions::Versions;
use crate::support::harness::{REQUEST_SUBSCRIPTION, REQUESTS, RESPONSES, repository};

pub(crate) use self::versions::Contents;

/// Messages in one call of Publish at most.
const PUBLISHED_AT_ONCE: usize = 128;

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
            What::Acked(delivery) if is_request(delivery) => {
                let id = delivery.message_id.as_str();
                assert!(answered.contains(id), "{id} was acknowledged before its response");
            }
            _ => {}
        }
    }
    let lost: Vec<_> = asked.difference(&answered).collect();
    assert!(lost.is_empty(), "{} requests without a response", lost.len());
}

/// Number of responses beyond one a request.
pub(crate) fn duplicates(events: &[Event]) -> usize {
    responses(events).values().map(|all| all.len() - 1).sum()
}

/// scikit-learn's wine data and what its own models say of every row.
pub(crate) struct Wine {
    pub(crate) rows: Vec<Value>,
    pub(crate) versions: Value,
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

    /// The response is what scikit-learn says for the version that it names, where that has the name of its
    /// folder in tests/models/wine; that version.
    pub(crate) fn check(&self, rows: &[usize], response: &PubsubMessage) -> String {
        let version = response.attributes.get("model_version").cloned().unwrap_or_default();
        let difference = self.difference(rows, response, &version);
        assert_eq!(difference, None, "{}", String::from_utf8_lossy(&response.data));
        version
    }

    /// True when the response is what the model in tests/models/wine/`files` computes for these rows.
    pub(crate) fn is_of(&self, files: &str, rows: &[usize], response: &PubsubMessage) -> bool {
        self.difference(rows, response, files).is_none()
    }

    /// First difference between the response and what the model in tests/models/wine/`files` computes for
    /// these rows.
    fn difference(&self, rows: &[usize], response: &PubsubMessage, files: &str) -> Option<String> {
        let body: Value = serde_json::from_slice(&response.data).unwrap_or_default();
        let attribute = |name: &str| response.attributes.get(name).map_or("", String::as_str);
        let version = attribute("model_version");
        let head = [attribute("status"), text(&body["model_version"]), text(&body["model"])];
        if head != ["ok", version, "wine"] {
            return Some(format!("expected an answer of wine {version}, got {head:?}"));
        }
        let predictions = body["predictions"].as_array().map_or(&[][..], Vec::as_slice);
        if predictions.len() != rows.len() {
            return Some(format!("{} rows, expected {}", predictions.len(), rows.len()));
        }
        predictions
            .iter()
            .zip(rows)
            .find_map(|(prediction, row)| self.row_difference(files, *row, prediction))
    }

    /// Difference between a prediction and what the model in tests/models/wine/`files` computes for this row.
    pub(crate) fn row_difference(&self, files: &str, row: usize, prediction: &Value) -> Option<String> {
        let expected = &self.versions[files];
        let (label, probabilities) = (&expected["labels"][row], &expected["probabilities"][row]);
        let is_it =
            prediction["label"] == *label && self.is_near(&prediction["probabilities"], probabilities);
        (!is_it)
            .then(|| format!("row {row} of version {files}: {prediction}, expected {label}, {probabilities}"))
    }

    fn is_near(&self, got: &Value, expected: &Value) -> bool {
        let (Some(got), Some(expected)) = (got.as_array(), expected.as_array()) else { return false };
        let near = |(got, expected): (&Value, &Value)| {
            got.as_f64()
                .zip(expected.as_f64())
                .is_some_and(|(got, expected)| (got - expected).abs() <= self.tolerance)
        };
        got.len() == expected.len() && got.iter().zip(expected).all(near)
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Expected end of a request.
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

/// Deviations that a fault excuses.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Allowed {
    /// Responses beyond one a request, each with its request's `request_message_id`. Whatever stands here, a
    /// request is answered once a delivery at most, but for what was published again because a call's reply
    /// was lost.
    pub(crate) duplicates: usize,
}

impl Allowed {
    /// Any number of duplicates that deliveries and lost replies explain.
    pub(crate) const EXPLAINED: Self = Self { duplicates: usize::MAX };
}

/// Counts of a judged history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) asked: usize,
    pub(crate) duplicates: usize,
    pub(crate) dead: usize,
}

/// Judges the whole history of a world: every request ended in exactly its one way, every response is what
/// the files compute of the version that it names, which was there by then, none was acknowledged before its
/// response, duplicates are as many as allowed and each has its cause.
pub(crate) fn judge(
    events: &[Event],
    ends: &HashMap<String, End>,
    contents: &Contents,
    allowed: Allowed,
) -> Verdict {
    let mut versions = Versions::new(contents);
    let mut delivered: HashMap<&str, usize> = HashMap::new();
    let mut answered: HashMap<&str, usize> = HashMap::new();
    let mut dead: HashSet<&str> = HashSet::new();
    // Responses beyond one a delivery, and how many the lost replies explain.
    let (mut unasked, mut explained) = (0, 0);
    for event in events {
        versions.pass(event);
        match &event.what {
            What::Published { topic, message: stored } if **topic == *RESPONSES => {
                let response = &stored.message;
                let id = response.attributes["request_message_id"].as_str();
                let end = ends.get(id).unwrap_or_else(|| panic!("a response to nothing: {id}"));
                end.check(id, response, &versions.named(response, event.at));
                let answers = answered.entry(id).or_default();
                *answers += 1;
                let deliveries = delivered.get(id).copied().unwrap_or_default();
                unasked += usize::from(*answers > deliveries);
                assert!(
                    unasked <= explained,
                    "answer {answers} to {id}, which was delivered {deliveries} times"
                );
            }
            What::Delivered(delivery) if is_request(delivery) => {
                *delivered.entry(&delivery.message_id).or_default() += 1;
            }
            What::Acked(delivery) if is_request(delivery) => {
                let id = delivery.message_id.as_str();
                assert!(answered.contains_key(id), "{id} was acknowledged before its response");
            }
            What::DeadLettered(Delivery { message_id, .. }) => {
                dead.insert(message_id);
            }
            What::Refused { method: "Publish", message, .. } if message.contains("the reply was lost") => {
                explained += PUBLISHED_AT_ONCE;
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

fn is_request(delivery: &Delivery) -> bool {
    *delivery.subscription == *REQUEST_SUBSCRIPTION
}

impl End {
    /// `wines`: what the version that the response names has held.
    fn check(&self, id: &str, response: &PubsubMessage, wines: &BTreeSet<&str>) {
        let body = String::from_utf8_lossy(&response.data);
        match self {
            Self::Wine(rows) => {
                if !wines.iter().any(|files| wine().is_of(files, rows, response)) {
                    let all: Vec<_> =
                        wines.iter().map(|files| wine().difference(rows, response, files)).collect();
                    panic!("{id} is not what its version's files compute, {wines:?}: {all:?}; {body:.500}");
                }
            }
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

/// The events of these requests, one a line.
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
