//! Attributes of requests and responses, and CloudEvents in both modes.

use serde_json::{Value, json};

use super::forms::{ROWS, csv, gunzip, gzip, wine_world};
use crate::support::harness::World;
use crate::support::oracle::{self, wine};

#[tokio::test(flavor = "multi_thread")]
async fn response_attributes_are_as_promised() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    let _worker = world.ready_worker(&[]).await;
    let given =
        [("tenant", "t1"), ("ce-id", "7"), ("content-type", "application/json"), ("request_id", "mine")];
    let id = world.publish(wine().request(&[0]), &given);
    let response = world.responses(std::slice::from_ref(&id)).await.remove(&id).unwrap();
    let mut attributes: Vec<(&str, &str)> =
        response.attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    attributes.sort_unstable();
    let expected = [
        ("content-type", "application/json"),
        ("model", "wine"),
        ("model_version", "1"),
        ("request_id", "mine"),
        ("request_message_id", &id),
        ("status", "ok"),
        ("tenant", "t1"),
    ];
    assert_eq!(attributes, expected);
    let with_id = wine().request(&[0]).replace("{\"instances\"", "{\"id\": \"body-id\", \"instances\"");
    let response = world.ask(with_id, &[]).await;
    assert_eq!(response.attributes["request_id"], "body-id");
    let body: serde_json::Value = serde_json::from_slice(&response.data).unwrap();
    assert_eq!(body["id"], "body-id");
}

/// HTTP's spelling, as Google's clients and the CloudEvents SDK for Go send it: it is read, and the response
/// has lower case alone.
#[tokio::test(flavor = "multi_thread")]
async fn attribute_names_are_matched_in_any_case() {
    let (world, _worker) = wine_world().await;
    let table = csv(&ROWS, None, &(0..13).collect::<Vec<_>>(), "\n");
    let event = [("CE-SpecVersion", "1.0"), ("Ce-Id", "order-7"), ("ce-source", "//test"), ("ce-type", "t")];
    let asked =
        [&event[..], &[("Content-Type", "text/csv"), ("Request_ID", "mine"), ("Model", "wine")]].concat();
    let response = world.ask(table.clone(), &asked).await;
    wine().check(&ROWS, &response);
    let mut names: Vec<&str> = response.attributes.keys().map(String::as_str).collect();
    names.sort_unstable();
    let expected = [
        "ce-causationid",
        "ce-id",
        "ce-source",
        "ce-specversion",
        "ce-time",
        "ce-type",
        "content-type",
        "model",
        "model_version",
        "request_id",
        "request_message_id",
        "status",
    ];
    assert_eq!(names, expected);
    assert_eq!(response.attributes["content-type"], "application/json");
    assert_eq!(response.attributes["request_id"], "mine");

    let event = json!({
        "specversion": "1.0", "id": "order-8", "source": "//test", "type": "t",
        "data": {"instances": [wine().rows[3]]},
    });
    let asked = [("Content-Type", "application/cloudevents+json")];
    let mut response = world.ask(event.to_string(), &asked).await;
    assert_eq!(response.attributes["content-type"], "application/cloudevents+json");
    assert!(!response.attributes.contains_key("Content-Type"), "{response:?}");
    let answer: Value = serde_json::from_slice(&response.data).unwrap();
    response.data = answer["data"].to_string().into();
    wine().check(&[3], &response);

    let asked = [("CONTENT-TYPE", "text/csv"), ("Content-Encoding", "gzip"), ("Accept-Encoding", "gzip")];
    let mut response = world.ask(gzip(table.as_bytes()), &asked).await;
    assert_eq!(response.attributes["content-encoding"], "gzip");
    response.data = gunzip(&response.data).into();
    wine().check(&ROWS, &response);

    for (name, value, code) in [
        ("Deadline", "2001-01-31T12:00:00Z", "DEADLINE_EXCEEDED"),
        ("Model_Version", "9", "MODEL_NOT_FOUND"),
        ("DataRef", "gs://elsewhere/object", "INPUT_FORBIDDEN"),
    ] {
        let response = world.ask(wine().request(&ROWS), &[(name, value)]).await;
        assert_eq!(response.attributes["error_code"], code, "{name}");
        assert!(!response.attributes.contains_key(name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_answered_by_events() {
    let (world, _worker) = wine_world().await;
    let given = [
        ("ce-specversion", "1.0"),
        ("ce-id", "order-7"),
        ("ce-source", "//test"),
        ("ce-type", "wine.asked"),
        ("ce-subject", "cellar"),
        ("ce-correlationid", "c1"),
        ("ce-extra", "stays behind"),
        ("ce-datacontenttype", "application/json"),
        ("tenant", "t"),
    ];
    let id = world.publish(wine().request(&ROWS), &given);
    let response = world.responses(std::slice::from_ref(&id)).await.remove(&id).unwrap();
    wine().check(&ROWS, &response);
    let attribute = |name: &str| response.attributes.get(name).map(String::as_str);
    let event_id = format!("prediction-{id}");
    for (name, expected) in [
        ("ce-specversion", Some("1.0")),
        ("ce-id", Some(&*event_id)),
        ("ce-source", Some("//predictd/wine")),
        ("ce-type", Some("dev.predictd.prediction.v1")),
        ("ce-subject", Some("cellar")),
        ("ce-causationid", Some("order-7")),
        ("ce-correlationid", Some("c1")),
        ("ce-extra", None),
        ("ce-datacontenttype", None),
        ("content-type", Some("application/json")),
        ("request_id", Some("order-7")),
        ("request_message_id", Some(&*id)),
        ("tenant", Some("t")),
    ] {
        assert_eq!(attribute(name), expected, "{name}");
    }
    assert!(attribute("ce-time").is_some_and(|time| time.len() == 24 && time.ends_with('Z')), "{response:?}");

    let response = world.ask("{}", &given).await;
    assert_eq!(response.attributes["ce-type"], "dev.predictd.error.v1");
    assert_eq!(response.attributes["error_code"], "INVALID_INPUT");
    let response = world.ask("[]", &[&given[..], &[("model", "beer")]].concat()).await;
    assert_eq!(
        (&*response.attributes["ce-source"], &*response.attributes["error_code"]),
        ("//predictd", "MODEL_NOT_FOUND")
    );

    let structured = [("content-type", "application/cloudevents+json")];
    let mut event = json!({
        "specversion": "1.0", "id": "order-8", "source": "//test", "type": "wine.asked", "subject": "cellar",
        "correlationid": "c2", "data": {"instances": [wine().rows[3]], "id": "inner"},
    });
    let id = world.publish(event.to_string(), &structured);
    let mut response = world.responses(std::slice::from_ref(&id)).await.remove(&id).unwrap();
    assert_eq!(response.attributes["content-type"], "application/cloudevents+json");
    assert_eq!(response.attributes["request_id"], "inner");
    assert!(!response.attributes.contains_key("ce-id"));
    let answer: Value = serde_json::from_slice(&response.data).unwrap();
    for (name, expected) in [
        ("specversion", "1.0"),
        ("id", &format!("prediction-{id}")),
        ("source", "//predictd/wine"),
        ("type", "dev.predictd.prediction.v1"),
        ("subject", "cellar"),
        ("causationid", "order-8"),
        ("correlationid", "c2"),
        ("datacontenttype", "application/json"),
    ] {
        assert_eq!(answer[name], expected, "{name}");
    }
    assert_eq!(answer["data"]["id"], "inner");
    response.data = answer["data"].to_string().into();
    wine().check(&[3], &response);

    event["data"] = json!({"instances": [[1]]});
    let response = world.ask(event.to_string(), &structured).await;
    let answer: Value = serde_json::from_slice(&response.data).unwrap();
    assert_eq!(answer["type"], "dev.predictd.error.v1");
    assert_eq!(answer["data"]["error"]["code"], "INVALID_INPUT");
    let batch = world.ask("[]", &[("content-type", "application/cloudevents-batch+json")]).await;
    assert!(String::from_utf8_lossy(&batch.data).contains("send each event as a request"), "{batch:?}");
    world.settled().await;
    world.server.history.with(oracle::nothing_was_lost);
}
