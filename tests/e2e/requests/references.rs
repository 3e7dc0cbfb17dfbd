//! Requests that lie in a bucket: named by a reference or announced by the bucket, fetched only where that is
//! allowed.

use std::collections::HashMap;

use local_gcp::faults::Fault;
use local_gcp::history::{Event, What};
use local_gcp::pubsub::wire::PubsubMessage;
use local_gcp::storage::{Attributes, Insert, Target};
use serde_json::{Value, json};

use super::forms::gzip;
use crate::support::harness::{PATIENCE, REQUEST_SUBSCRIPTION, REQUESTS, Worker, World, model_file};
use crate::support::oracle::{self, wine};

pub(crate) const ALLOWED: (&str, &str) = ("PREDICTD_REQUESTS__ALLOWED_BUCKETS", "inputs, shared/in");
const MEDIA: &str = "storage.objects.get.media";

/// A world with buckets for requests and the wine model.
pub(crate) async fn wine_world() -> World {
    let world =
        World::start_ordered(|builder| builder.bucket("inputs").bucket("shared").bucket("secret")).await;
    world.upload_version("wine/2", "wine", "2");
    world
}

async fn worker(world: &World) -> Worker {
    world.ready_worker(&[ALLOWED]).await
}

/// The generation.
pub(crate) fn store(
    world: &World,
    bucket: &str,
    name: &str,
    body: impl Into<bytes::Bytes>,
    kind: &str,
) -> i64 {
    let attributes = Attributes {
        content_type: Some(kind.to_owned()).filter(|kind| !kind.is_empty()),
        ..Attributes::default()
    };
    store_with(world, bucket, name, body, attributes)
}

fn store_with(
    world: &World,
    bucket: &str,
    name: &str,
    body: impl Into<bytes::Bytes>,
    attributes: Attributes,
) -> i64 {
    let (bucket, name, body) = (bucket.to_owned(), name.to_owned(), body.into());
    let insert = Insert {
        bucket,
        name,
        attributes,
        body,
        expected: Default::default(),
        conditions: Default::default(),
    };
    world.server.storage.insert_object(insert).unwrap().generation
}

pub(crate) fn refer(to: &str) -> String {
    json!({ "dataref": to }).to_string()
}

/// The attributes of a bucket's notification; the `other` ones in place of its own.
pub(crate) fn notification(
    bucket: &str,
    name: &str,
    generation: i64,
    other: &[(&str, &str)],
) -> Vec<(String, String)> {
    let generation = generation.to_string();
    let own = [
        ("eventType", "OBJECT_FINALIZE"),
        ("payloadFormat", "NONE"),
        ("bucketId", bucket),
        ("objectId", name),
        ("objectGeneration", &generation),
    ];
    let mut all: HashMap<&str, &str> = own.into_iter().collect();
    all.extend(other.iter().copied());
    all.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn announce(world: &World, bucket: &str, name: &str, generation: i64, other: &[(&str, &str)]) -> String {
    let all = notification(bucket, name, generation, other);
    let all: Vec<(&str, &str)> = all.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    world.publish("", &all)
}

/// Objects whose bytes were asked for, and what storage refused; but for the models.
pub(crate) fn asked_of_storage(events: &[Event]) -> Vec<String> {
    let asked = events.iter().filter_map(|event| match &event.what {
        What::Read(read) if read.bucket != "models" => Some(format!("{}/{}", read.bucket, read.object)),
        What::Refused { method, message, .. }
            if method.starts_with("storage.") || method.contains("Object") =>
        {
            Some(format!("{method}: {message}"))
        }
        _ => None,
    });
    asked.collect()
}

pub(crate) fn error(response: &PubsubMessage) -> (String, String) {
    let body: Value = serde_json::from_slice(&response.data).unwrap();
    let code = response.attributes.get("error_code").cloned().unwrap_or_default();
    (code, body["error"]["message"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_reference_is_followed() {
    let world = wine_world().await;
    let _worker = worker(&world).await;
    let rows = [0, 77, 160];
    let request = wine().request(&rows);
    let csv = |end: &str| -> String {
        let line = |row: &usize| {
            let cells: Vec<String> =
                wine().rows[*row].as_array().unwrap().iter().map(Value::to_string).collect();
            cells.join(",") + end
        };
        rows.iter().map(line).collect()
    };
    let to = |name: &str| format!("gs://inputs/{name}");
    store(&world, "inputs", "request", request.clone(), "application/json");
    store(&world, "inputs", "a b/ä?#.json", request.clone(), "");
    store(&world, "inputs", "table", csv("\n"), "text/csv");
    store(&world, "inputs", "unknown", csv("\r\n"), "application/octet-stream");
    store(&world, "shared", "in/request", request.clone(), "");
    let packed = Attributes { content_encoding: Some("gzip".to_owned()), ..Attributes::default() };
    store_with(&world, "inputs", "packed", gzip(request.as_bytes()), packed);
    let event = |more: Value| {
        let mut event = json!({"specversion": "1.0", "id": "e", "source": "//s", "type": "t"});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event.to_string()
    };
    let binary = |name: &str| {
        let reference = to(name);
        let members = [("specversion", "1.0"), ("id", "e"), ("source", "//s"), ("type", "t")];
        let mut all: Vec<(String, String)> =
            members.iter().map(|(key, value)| (format!("ce-{key}"), (*value).to_owned())).collect();
        all.push(("ce-dataref".to_owned(), reference));
        all
    };
    let is = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    let structured = is("content-type", "application/cloudevents+json");
    let cases: Vec<(String, Vec<(String, String)>)> = vec![
        (refer(&to("request")), vec![]),
        (refer(&to("request")), is("content-type", "application/json")),
        (refer(&to("a b/ä?#.json")), vec![]),
        (refer(&to("table")), vec![]),
        (refer("gs://shared/in/request"), vec![]),
        (refer(&to("packed")), vec![]),
        (String::new(), is("dataref", &to("request"))),
        ("not read".to_owned(), is("dataref", &to("table"))),
        (String::new(), [is("dataref", &to("unknown")), is("content-type", "text/csv")].concat()),
        (String::new(), binary("request")),
        (String::new(), [binary("unknown"), is("ce-datacontenttype", "text/csv")].concat()),
        (event(json!({"dataref": to("request")})), structured.clone()),
        (event(json!({"dataref": to("unknown"), "datacontenttype": "text/csv"})), structured.clone()),
    ];
    for (body, attributes) in cases {
        let shown = format!("{body} {attributes:?}");
        let attributes: Vec<(&str, &str)> =
            attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let mut response = world.ask(body, &attributes).await;
        assert_eq!(response.attributes["status"], "ok", "{shown}: {response:?}");
        assert!(!response.attributes.contains_key("dataref"), "{shown}: {response:?}");
        if response.attributes["content-type"] == "application/cloudevents+json" {
            let event: Value = serde_json::from_slice(&response.data).unwrap();
            assert_eq!(
                (&event["type"], &event["causationid"]),
                (&"dev.predictd.prediction.v1".into(), &"e".into())
            );
            response.data = event["data"].to_string().into();
        } else if attributes.iter().any(|(key, _)| *key == "ce-dataref") {
            assert_eq!(response.attributes["ce-causationid"], "e", "{shown}");
        }
        assert_eq!(wine().check(&rows, &response), "2", "{shown}");
    }
    // The id is the reference's, unless the object has one.
    let reference = json!({"dataref": to("request"), "id": "mine"}).to_string();
    assert_eq!(world.ask(reference, &[]).await.attributes["request_id"], "mine");
    world.settled().await;
    world.server.history.with(oracle::nothing_was_lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uploaded_image_is_a_request() {
    let world = World::start_with(|builder| {
        builder
            .subscription(REQUEST_SUBSCRIPTION, REQUESTS)
            .bucket("inputs")
            .notification("inputs", REQUESTS, None)
    })
    .await;
    world.upload_declared("conv", "zoo/torch-conv", "image: {}");
    let worker = worker(&world).await;
    let expected: Value = serde_json::from_slice(&model_file("zoo/torch-conv", "expected.json")).unwrap();
    let mut images = 0;
    for case in expected["cases"].as_array().unwrap() {
        let Some(image) = case["image"].as_str() else { continue };
        images += 1;
        let right = if image.ends_with("png") { "image/png" } else { "image/jpeg" };
        let direct = world.ask(model_file("zoo", image), &[("content-type", right)]).await;
        let expected = case["expected"].as_object().unwrap().values().next().unwrap();
        let direct: Value = serde_json::from_slice(&direct.data).unwrap();
        for kind in [right, "", "application/octet-stream"] {
            let name = format!("{image}-{}", kind.replace('/', "-"));
            store(&world, "inputs", &name, model_file("zoo", image), kind);
            let notification = |event: &Event| match &event.what {
                What::Published { topic, message } if **topic == *REQUESTS => {
                    let message = &message.message;
                    (message.attributes.get("objectId") == Some(&name)).then(|| message.message_id.clone())
                }
                _ => None,
            };
            let id = world.server.history.with(|events| events.iter().find_map(notification)).unwrap();
            let response = world.responses(std::slice::from_ref(&id)).await.remove(&id).unwrap();
            let got: Value = serde_json::from_slice(&response.data).unwrap();
            assert_eq!(response.attributes["status"], "ok", "{name}: {got}; {}", worker.log());
            assert_eq!(got["predictions"], direct["predictions"], "{name}");
            assert_eq!(
                got["predictions"][0].as_array().map(Vec::len),
                expected["data"][0].as_array().map(Vec::len)
            );
            assert_eq!(response.attributes["objectId"], name);
        }
    }
    assert_eq!(images, 2);
    // Other notifications of a bucket are answered with an error.
    let target = Target { bucket: "inputs".to_owned(), name: "image.png-".to_owned(), ..Target::default() };
    world.server.storage.delete_object(&target).unwrap();
    let about_deletion = |event: &Event| match &event.what {
        What::Published { topic, message } if **topic == *REQUESTS => {
            let message = &message.message;
            let is_it = message.attributes.get("eventType").is_some_and(|kind| kind == "OBJECT_DELETE");
            is_it.then(|| message.message_id.clone())
        }
        _ => None,
    };
    let id = world.server.history.with(|events| events.iter().find_map(about_deletion)).unwrap();
    let response = world.responses(std::slice::from_ref(&id)).await.remove(&id).unwrap();
    let (code, message) = error(&response);
    assert_eq!(code, "INVALID_INPUT");
    assert!(message.contains("OBJECT_DELETE"), "{message}");
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_allowed_unless_configured() {
    let world = wine_world().await;
    let _worker = world.ready_worker(&[]).await;
    store(&world, "inputs", "a", wine().request(&[1]), "");
    let (code, message) = error(&world.ask(refer("gs://inputs/a"), &[]).await);
    assert_eq!(code, "INPUT_FORBIDDEN");
    assert!(message.contains("requests.allowed_buckets"), "{message}");
    assert_eq!(world.server.history.with(asked_of_storage), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_cannot_be_requests_get_their_errors() {
    let world = wine_world().await;
    let _worker = worker(&world).await;
    let old = store(&world, "inputs", "replaced", wine().request(&[1]), "");
    let new = store(&world, "inputs", "replaced", wine().request(&[2]), "");
    store(&world, "inputs", "large", vec![b' '; (64 << 20) + 1], "");
    store(&world, "inputs", "bomb", gzip(&vec![b' '; 100 << 20]), "");
    store(&world, "inputs", "image", vec![1; 10], "image/gif");
    store(&world, "inputs", "empty", "", "");
    store(&world, "inputs", "chain", refer("gs://inputs/replaced"), "");
    store(&world, "inputs", "far", wine().request(&[1]), "");
    let gzip = ("content-encoding", "gzip");
    let cases = [
        (world.publish(refer("gs://inputs/none"), &[]), "INVALID_INPUT", "gs://inputs/none"),
        (announce(&world, "inputs", "replaced", old, &[]), "INVALID_INPUT", "replaced or deleted"),
        (world.publish(refer("gs://inputs/large"), &[]), "INPUT_TOO_LARGE", "67108864"),
        (
            world.publish("", &[("dataref", "gs://inputs/bomb"), gzip]),
            "INPUT_TOO_LARGE",
            "after decompression",
        ),
        (world.publish(refer("gs://inputs/image"), &[]), "INVALID_INPUT", "image/gif"),
        (world.publish(refer("gs://inputs/empty"), &[]), "INVALID_INPUT", "empty"),
        (world.publish(refer("gs://inputs/chain"), &[]), "INVALID_INPUT", "none of their keys"),
        (world.publish(refer("gs://inputs"), &[]), "INVALID_INPUT", "gs://bucket/object"),
        (world.publish(refer("gs://inputs/far"), &[("model", "beer")]), "MODEL_NOT_FOUND", "beer"),
        (
            announce(&world, "inputs", "far", 1, &[("eventType", "OBJECT_ARCHIVE")]),
            "INVALID_INPUT",
            "OBJECT_ARCHIVE",
        ),
    ];
    let ids: Vec<String> = cases.iter().map(|(id, ..)| id.clone()).collect();
    let responses = world.responses(&ids).await;
    for (id, code, says) in &cases {
        let (got, message) = error(&responses[id]);
        assert_eq!(got, *code, "{message}");
        assert!(message.contains(says), "{message}");
    }
    // Exactly the generation that was announced.
    let id = announce(&world, "inputs", "replaced", new, &[]);
    wine().check(&[2], &world.responses(std::slice::from_ref(&id)).await[&id]);
    world.settled().await;
    world.server.history.with(|events| {
        oracle::nothing_was_lost(events);
        assert!(!asked_of_storage(events).contains(&"inputs/far".to_owned()));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_object_holds_up_only_what_must_follow_it() {
    let world = wine_world().await;
    let _worker = world.ready_worker(&[ALLOWED, ("PREDICTD_INFERENCE__THREADS", "1")]).await;
    store(&world, "inputs", "slow", wine().request(&[1]), "");
    store(&world, "inputs", "fast", wine().request(&[3]), "");
    world.server.faults.inject(MEDIA, Fault::Hang, 1);
    let ordered = |body: String, key: &str| {
        let message =
            PubsubMessage { data: body.into(), ordering_key: key.to_owned(), ..PubsubMessage::default() };
        world.server.pubsub.publish(REQUESTS, vec![message]).unwrap().remove(0)
    };
    let slow = ordered(refer("gs://inputs/slow"), "k");
    let stuck = || world.server.faults.waiting(MEDIA) == 0;
    while !stuck() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let following = [ordered(wine().request(&[4]), "k"), ordered(refer("gs://inputs/fast"), "k")];
    let others = [
        world.publish(wine().request(&[2]), &[]),
        world.publish(refer("gs://inputs/fast"), &[]),
        ordered(refer("gs://inputs/fast"), "other"),
    ];
    let responses = world.responses(&others).await;
    wine().check(&[2], &responses[&others[0]]);
    wine().check(&[3], &responses[&others[1]]);
    let answered = |id: &str| world.server.history.with(|events| oracle::responses(events).contains_key(id));
    assert!(!answered(&slow));
    world.responses(&following).await;
    world.settled().await;
    world.server.history.with(|events| {
        oracle::nothing_was_lost(events);
        let in_order: Vec<&str> = events
            .iter()
            .filter_map(|event| match &event.what {
                What::Published { topic, message }
                    if **topic != *REQUESTS && message.message.ordering_key == "k" =>
                {
                    Some(message.message.attributes["request_message_id"].as_str())
                }
                _ => None,
            })
            .collect();
        assert_eq!(in_order, [&slow, &following[0], &following[1]]);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_in_storage_is_never_answered_wrongly() {
    let world = wine_world().await;
    let worker = worker(&world).await;
    store(&world, "inputs", "a", wine().request(&[5]), "");
    // Over within the worker's own patience.
    for fault in [
        Fault::Fail("UNAVAILABLE".to_owned()),
        Fault::Fail("PERMISSION_DENIED".to_owned()),
        Fault::Corrupt,
        Fault::ResetAfter(10),
    ] {
        world.server.faults.inject(MEDIA, fault, 1);
    }
    wine().check(&[5], &world.ask(refer("gs://inputs/a"), &[]).await);
    assert_eq!(worker.metric("predictd_nacks_total").await, Some(0.0));
    // Longer than that: back to Pub/Sub, and answered once storage is well.
    world.server.faults.inject(MEDIA, Fault::Fail("UNAVAILABLE".to_owned()), 10_000);
    let id = world.publish(refer("gs://inputs/a"), &[]);
    let nacked = world.server.history.wait_until(PATIENCE, |events| {
        events.iter().any(|event| matches!(&event.what, What::Nacked(delivery) if delivery.message_id == id))
    });
    assert!(nacked.await, "{}", worker.log());
    wine().check(&[6], &world.ask(wine().request(&[6]), &[]).await);
    assert!(world.server.history.with(|events| !oracle::responses(events).contains_key(id.as_str())));
    world.server.faults.clear();
    wine().check(&[5], &world.responses(std::slice::from_ref(&id)).await[&id]);
    world.settled().await;
    world.server.history.with(oracle::nothing_was_lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_stays_under_the_byte_cap() {
    let world = wine_world().await;
    let worker = world.ready_worker(&[ALLOWED, ("PREDICTD_REQUESTS__MAX_OUTSTANDING_BYTES", "256KiB")]).await;
    let padded = |size: usize| {
        let mut body = wine().request(&[7]).into_bytes();
        body.resize(size, b' ');
        body
    };
    store(&world, "inputs", "part", padded(100 << 10), "");
    store(&world, "inputs", "beyond", padded(1 << 20), "");
    let packed = Attributes { content_encoding: Some("gzip".to_owned()), ..Attributes::default() };
    store_with(&world, "inputs", "packed", gzip(&padded(200 << 10)), packed);
    // Publishing is delayed, so that all that is fetched stays in flight.
    world.server.faults.inject("Publish", Fault::DelayMs(300), 1000);
    let mut ids: Vec<String> = (0..30)
        .map(|n| world.publish(refer(["gs://inputs/part", "gs://inputs/packed"][n % 2]), &[]))
        .collect();
    ids.extend((0..30).map(|_| world.publish(wine().request(&[7]), &[])));
    let all = ids.clone();
    let answered = async {
        world.responses(&all).await;
    };
    tokio::pin!(answered);
    let mut most = 0.0_f64;
    loop {
        tokio::select! {
            () = &mut answered => break,
            bytes = worker.metric("predictd_bytes_in_hand ") => most = most.max(bytes.unwrap()),
        }
    }
    assert!((100_000.0..=262_144.0).contains(&most), "{most}");
    world.server.faults.clear();
    // One beyond the cap travels alone.
    ids.push(world.publish(refer("gs://inputs/beyond"), &[]));
    let responses = world.responses(&ids).await;
    for id in &ids {
        wine().check(&[7], &responses[id]);
    }
    world.settled().await;
    worker.until_metric("predictd_bytes_in_hand ", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_fetched_at_the_end_comes_again() {
    let world = wine_world().await;
    let mut first = world.ready_worker(&[ALLOWED, ("PREDICTD_SHUTDOWN__GRACE", "1s")]).await;
    store(&world, "inputs", "a", wine().request(&[8]), "");
    world.server.faults.inject(MEDIA, Fault::Hang, 16);
    let ids: Vec<String> = (0..40).map(|_| world.publish(refer("gs://inputs/a"), &[])).collect();
    while world.server.faults.waiting(MEDIA) > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    first.signal("-TERM");
    assert!(first.end().await.success(), "{}", first.log());
    assert!(world.server.history.with(|events| oracle::responses(events).is_empty()));
    let _second = worker(&world).await;
    let responses = world.responses(&ids).await;
    for id in &ids {
        wine().check(&[8], &responses[id]);
    }
    world.settled().await;
    world.server.history.with(oracle::nothing_was_lost);
}
