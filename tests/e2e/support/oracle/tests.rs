//! The judge is worth what it refuses: histories with one thing wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use local_gcp::history::Generation;
use local_gcp::pubsub::Stored;
use serde_json::json;

use super::*;
use crate::support::harness::model_file;

const ROW: usize = 3;

#[derive(Default)]
struct Story {
    events: Vec<Event>,
    contents: Contents,
}

impl Story {
    /// Version 1 holds wine/1, version 2 wine/2, and version 3 what is no wine model; one request was
    /// published.
    fn begin() -> Self {
        let mut story = Self::default();
        for (generation, version) in [(1, "1"), (2, "2"), (3, "3")] {
            let file = if generation < 3 { format!("wine/{version}") } else { "types/float32/1".to_owned() };
            story.upload(generation, version, &model_file(&file, "model.onnx"));
        }
        story.publish(REQUESTS, PubsubMessage { message_id: "a".to_owned(), ..Default::default() })
    }

    fn upload(&mut self, generation: i64, version: &str, data: &[u8]) {
        self.contents.uploaded(generation, data);
        let object = format!("models/wine/{version}/model.onnx");
        self.happens(What::Finalized(Generation { bucket: "models".to_owned(), object, generation }));
    }

    fn happens(&mut self, what: What) {
        self.events.push(Event { sequence: self.events.len() as u64, at: Instant::now(), what });
    }

    fn publish(mut self, topic: &str, message: PubsubMessage) -> Self {
        let message = Arc::new(Stored { message, size: 0, published: Instant::now() });
        self.happens(What::Published { topic: topic.into(), message });
        self
    }

    fn delivery() -> Delivery {
        let subscription = REQUEST_SUBSCRIPTION.into();
        Delivery { subscription, message_id: "a".to_owned(), ack_id: String::new(), attempt: 1 }
    }

    fn delivered(mut self) -> Self {
        self.happens(What::Delivered(Self::delivery()));
        self
    }

    fn acked(mut self) -> Self {
        self.happens(What::Acked(Self::delivery()));
        self
    }

    fn reply_lost(mut self) -> Self {
        let message = "injected fault: the reply was lost".to_owned();
        self.happens(What::Refused { method: "Publish", code: tonic::Code::Unavailable, message });
        self
    }

    /// Publishes what wine/`files` computes, under the name of `version`.
    fn answered(self, version: &str, files: &str) -> Self {
        let expected = &wine().versions[files];
        let (label, probabilities) = (&expected["labels"][ROW], &expected["probabilities"][ROW]);
        let prediction = json!({"label": label, "probabilities": probabilities});
        let body = json!({"model": "wine", "model_version": version, "predictions": [prediction]});
        let attributes =
            [("request_message_id", "a"), ("status", "ok"), ("model", "wine"), ("model_version", version)];
        let message = PubsubMessage {
            data: Bytes::from(body.to_string()),
            attributes: attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..Default::default()
        };
        self.publish(RESPONSES, message)
    }

    fn ends_as(&self, end: End, duplicates: usize) -> bool {
        let ends = HashMap::from([("a".to_owned(), end)]);
        let judged = AssertUnwindSafe(|| judge(&self.events, &ends, &self.contents, Allowed { duplicates }));
        catch_unwind(judged).is_ok()
    }

    fn passes(&self) -> bool {
        self.ends_as(End::Wine(vec![ROW]), usize::MAX)
    }
}

#[test]
fn a_right_answer_passes() {
    let story = Story::begin().delivered().answered("2", "2").acked();
    assert!(story.ends_as(End::Wine(vec![ROW]), 0));
    assert!(!story.ends_as(End::Dead, 0) && !story.ends_as(End::Code("INVALID_INPUT"), 0));
}

#[test]
fn a_version_must_have_been_there() {
    assert!(!Story::begin().delivered().answered("99999", "1").acked().passes());
    let mut late = Story::begin().delivered().answered("4", "2").acked();
    late.upload(4, "4", &model_file("wine/2", "model.onnx"));
    assert!(!late.passes(), "it was uploaded after it answered");
}

#[test]
fn a_version_computes_what_its_own_file_does() {
    assert!(!Story::begin().delivered().answered("2", "1").acked().passes());
    assert!(!Story::begin().delivered().answered("3", "1").acked().passes(), "version 3 is no wine model");
    let mut overwritten = Story::begin();
    overwritten.upload(5, "2", &model_file("wine/1", "model.onnx"));
    assert!(overwritten.delivered().answered("2", "1").acked().passes());
}

#[test]
fn a_folders_version_counts_from_when_it_was_put_there() {
    let early = Story::begin().delivered().answered("7", "1").acked();
    early.contents.placed("wine", "7", &model_file("wine/1", "model.onnx"));
    assert!(!early.passes());
    let story = Story::begin().delivered();
    story.contents.placed("wine", "7", &model_file("wine/1", "model.onnx"));
    assert!(story.answered("7", "1").acked().passes());
}

#[test]
fn a_second_answer_needs_a_second_delivery_or_a_lost_reply() {
    let once = || Story::begin().delivered().answered("2", "2");
    assert!(!once().answered("2", "2").acked().passes());
    let twice = once().delivered().answered("1", "1").acked();
    assert!(twice.passes() && twice.ends_as(End::Wine(vec![ROW]), 1));
    assert!(!twice.ends_as(End::Wine(vec![ROW]), 0));
    assert!(once().reply_lost().answered("2", "2").acked().passes());
    assert!(!Story::begin().answered("2", "2").passes(), "it was never delivered");
}

#[test]
fn nothing_is_acknowledged_before_its_answer_or_lost() {
    assert!(!Story::begin().delivered().acked().answered("2", "2").passes());
    assert!(!Story::begin().delivered().passes());
}
