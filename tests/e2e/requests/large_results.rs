//! Results that are too large for a message lie in a bucket before the message says where.

use std::io::Read as _;

use local_gcp::faults::Fault;
use local_gcp::history::{Event, What};
use local_gcp::pubsub::wire::PubsubMessage;
use local_gcp::storage::{Target, Version};
use serde_json::{Value, json};

use crate::support::harness::{PATIENCE, REQUESTS, RESPONSES, World};
use crate::support::oracle::{self, wine};

const BUCKET: (&str, &str) = ("PREDICTD_RESPONSES__BUCKET", "gs://results/out");
const ALWAYS: (&str, &str) = ("PREDICTD_RESPONSES__INLINE_LIMIT", "0");

async fn results_world() -> World {
    let world = World::start_ordered(|builder| builder.bucket("results")).await;
    world.upload_version("wine/2", "wine", "2");
    world
}

/// The object that a response says its result is in.
fn result(world: &World, response: &PubsubMessage) -> std::sync::Arc<Version> {
    let address = format!("gs://results/out/{}", response.attributes["request_message_id"]);
    assert_eq!(response.attributes["dataref"], address);
    assert_eq!(response.attributes["content-type"], "application/json");
    let body: Value = serde_json::from_slice(&response.data).unwrap();
    assert_eq!(body["dataref"], address.as_str());
    let name = address.strip_prefix("gs://results/").unwrap().to_owned();
    let target = Target { bucket: "results".to_owned(), name, ..Target::default() };
    world.server.storage.get_object(&target).unwrap()
}

/// The response as it would have been without the bucket.
fn inlined(world: &World, response: &PubsubMessage) -> PubsubMessage {
    let object = result(world, response);
    let mut response = response.clone();
    response.data = object.body.clone();
    response.attributes.insert("content-type".to_owned(), object.attributes.content_type.clone().unwrap());
    response
}

/// Each result was there before a message named it.
fn written_before_named(events: &[Event]) {
    let mut written = std::collections::HashSet::new();
    for event in events {
        match &event.what {
            What::Finalized(generation) => {
                written.insert(format!("gs://{}/{}", generation.bucket, generation.object));
            }
            What::Published { message, .. } => {
                if let Some(address) = message.message.attributes.get("dataref") {
                    assert!(written.contains(address), "{address} was published before it was there");
                }
            }
            _ => {}
        }
    }
}

/// More than a message's 10 MB of results, from less of a request.
fn large_request() -> String {
    let row = "[1000000000000000001,1000000000000000002,1000000000000000003]";
    format!("{{\"id\": 9, \"instances\": [{}]}}", vec![row; 90_000].join(","))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_over_the_limit_lies_in_the_bucket() {
    let world = results_world().await;
    world.upload_version("types/int64/1", "numbers", "1");
    let worker = world.ready_worker(&[BUCKET, ("PREDICTD_MODELS__DEFAULT", "wine")]).await;
    let response = world.ask(large_request(), &[("model", "numbers")]).await;
    assert_eq!(response.attributes["status"], "ok", "{}", worker.log());
    let object = result(&world, &response);
    assert!(object.body.len() > 10_000_000);
    assert_eq!(object.attributes.content_type.as_deref(), Some("application/json"));
    let body: Value = serde_json::from_slice(&object.body).unwrap();
    let predictions = body["predictions"].as_array().unwrap();
    assert_eq!(predictions.len(), 90_000);
    assert_eq!(predictions[89_999]["same"][2], 1_000_000_000_000_000_003_i64);
    assert_eq!(body["id"], 9);
    let told: Value = serde_json::from_slice(&response.data).unwrap();
    assert_eq!((&told["id"], response.attributes["request_id"].as_str()), (&9.into(), "9"));
    // A small one comes as ever.
    let small = world.ask(wine().request(&[1]), &[]).await;
    assert!(!small.attributes.contains_key("dataref"));
    wine().check(&[1], &small);
    world.settled().await;
    world.server.history.with(|events| {
        oracle::nothing_was_lost(events);
        written_before_named(events);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_bucket_it_is_too_large() {
    let world = results_world().await;
    world.upload_version("types/int64/1", "numbers", "1");
    let _worker = world.ready_worker(&[("PREDICTD_MODELS__DEFAULT", "wine")]).await;
    let response = world.ask(large_request(), &[("model", "numbers")]).await;
    assert_eq!(response.attributes["error_code"], "RESPONSE_TOO_LARGE");
    let body: Value = serde_json::from_slice(&response.data).unwrap();
    assert_eq!((&body["error"]["code"], &body["id"]), (&"RESPONSE_TOO_LARGE".into(), &9.into()));
    wine().check(&[1], &world.ask(wine().request(&[1]), &[]).await);
    world.settled().await;
    world.server.history.with(oracle::nothing_was_lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_result_is_stored_as_it_would_have_been_sent() {
    let world = results_world().await;
    let worker = world.ready_worker(&[BUCKET, ALWAYS]).await;
    let rows = wine().request(&[0, 9]);
    let response = world.ask(rows.clone(), &[("tenant", "t")]).await;
    assert_eq!(response.attributes["tenant"], "t");
    wine().check(&[0, 9], &inlined(&world, &response));

    let packed = world.ask(rows.clone(), &[("accept-encoding", "gzip")]).await;
    let object = result(&world, &packed);
    assert_eq!(object.attributes.content_encoding.as_deref(), Some("gzip"));
    assert!(!packed.attributes.contains_key("content-encoding"));
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&*object.body).read_to_end(&mut plain).unwrap();
    wine().check(&[0, 9], &PubsubMessage { data: plain.into(), ..packed });

    let event = [("ce-specversion", "1.0"), ("ce-id", "e"), ("ce-source", "//s"), ("ce-type", "t")];
    let response = world.ask(rows.clone(), &event).await;
    assert_eq!(response.attributes["ce-dataref"], response.attributes["dataref"]);
    assert_eq!(response.attributes["ce-causationid"], "e");
    wine().check(&[0, 9], &inlined(&world, &response));

    let event = json!({"specversion": "1.0", "id": "e", "source": "//s", "type": "t",
        "data": {"instances": [wine().rows[0]]}});
    let structured = [("content-type", "application/cloudevents+json")];
    let response = inlined(&world, &world.ask(event.to_string(), &structured).await);
    assert_eq!(response.attributes["content-type"], "application/cloudevents+json");
    let event: Value = serde_json::from_slice(&response.data).unwrap();
    wine().check(&[0], &PubsubMessage { data: event["data"].to_string().into(), ..response });

    let info = worker.info().await;
    let input = &info["models"]["wine"]["serving"]["inputs"][0]["name"];
    let cells = wine().rows[0].clone();
    let v2 = json!({"parameters": {"binary_data_output": true},
        "inputs": [{"name": input, "shape": [1, 13], "datatype": "FP32", "data": cells}]});
    let response = world.ask(v2.to_string(), &[]).await;
    let object = result(&world, &response);
    let length = response.attributes["inference-header-content-length"].clone();
    assert_eq!(object.attributes.metadata["inference-header-content-length"], length);
    assert_eq!(object.attributes.content_type.as_deref(), Some("application/octet-stream"));
    let (header, binary) = object.body.split_at(length.parse().unwrap());
    let header: Value = serde_json::from_slice(header).unwrap();
    assert_eq!(header["model_name"], "wine");
    assert!(!binary.is_empty());

    // An error is seen at once.
    let error = world.ask("{}", &[]).await;
    assert!(!error.attributes.contains_key("dataref"));
    assert_eq!(error.attributes["error_code"], "INVALID_INPUT");
    world.settled().await;
    world.server.history.with(written_before_named);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_cannot_be_written_is_not_lost() {
    let world = results_world().await;
    let worker = world.ready_worker(&[BUCKET, ALWAYS]).await;
    let method = "storage.objects.insert";
    world.server.faults.inject(method, Fault::Fail("UNAVAILABLE".to_owned()), 2);
    world.server.faults.inject(method, Fault::LoseReply, 1);
    let response = world.ask(wine().request(&[2]), &[]).await;
    wine().check(&[2], &inlined(&world, &response));
    assert_eq!(worker.metric("predictd_nacks_total").await, Some(0.0));

    world.server.faults.inject(method, Fault::Fail("UNAVAILABLE".to_owned()), 10_000);
    let id = world.publish(wine().request(&[3]), &[]);
    let nacked = world.server.history.wait_until(PATIENCE, |events| {
        events.iter().any(|event| matches!(&event.what, What::Nacked(delivery) if delivery.message_id == id))
    });
    assert!(nacked.await, "{}", worker.log());
    // Errors need no bucket.
    assert_eq!(world.ask("{}", &[]).await.attributes["status"], "error");
    world.server.faults.clear();
    let response = world.responses(std::slice::from_ref(&id)).await.remove(&id).unwrap();
    wine().check(&[3], &inlined(&world, &response));
    world.settled().await;
    world.server.history.with(|events| {
        oracle::nothing_was_lost(events);
        written_before_named(events);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_request_writes_the_same_object() {
    let world = results_world().await;
    world.server.faults.inject("StreamingPull", Fault::DeliverTwice, 1);
    let _worker = world.ready_worker(&[BUCKET, ALWAYS]).await;
    let ids: Vec<String> = (0..10).map(|row| world.publish(wine().request(&[row]), &[])).collect();
    let responses = world.responses(&ids).await;
    world.settled().await;
    for (row, id) in ids.iter().enumerate() {
        wine().check(&[row], &inlined(&world, &responses[id]));
    }
    world.server.history.with(|events| {
        let objects: std::collections::HashSet<&str> = events
            .iter()
            .filter_map(|event| match &event.what {
                What::Finalized(generation) if generation.bucket == "results" => Some(&*generation.object),
                _ => None,
            })
            .collect();
        assert_eq!(objects.len(), ids.len());
        written_before_named(events);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_one_ordering_key_stay_in_order() {
    let world = results_world().await;
    let limit = ("PREDICTD_RESPONSES__INLINE_LIMIT", "500");
    let _worker = world.ready_worker(&[BUCKET, limit, ("PREDICTD_INFERENCE__THREADS", "1")]).await;
    world.server.faults.inject("storage.objects.insert", Fault::DelayMs(1000), 1);
    let rows: Vec<usize> = (0..50).collect();
    let ordered = |rows: &[usize], key: &str| {
        let data = wine().request(rows).into();
        let message = PubsubMessage { data, ordering_key: key.to_owned(), ..PubsubMessage::default() };
        world.server.pubsub.publish(REQUESTS, vec![message]).unwrap().remove(0)
    };
    let ids = [ordered(&rows, "k"), ordered(&[1], "k"), ordered(&rows, "k"), ordered(&[2], "k")];
    let responses = world.responses(&ids).await;
    wine().check(&rows, &inlined(&world, &responses[&ids[0]]));
    wine().check(&[1], &responses[&ids[1]]);
    world.settled().await;
    world.server.history.with(|events| {
        let published = events.iter().filter_map(|event| match &event.what {
            What::Published { topic, message } if **topic == *RESPONSES => {
                Some(message.message.attributes["request_message_id"].clone())
            }
            _ => None,
        });
        assert!(published.eq(ids));
        written_before_named(events);
    });
}
