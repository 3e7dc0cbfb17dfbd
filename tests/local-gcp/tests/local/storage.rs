//! The local Cloud Storage under Google's Rust client: what is written is read, listed, guarded and told.

use crate::support::{BUCKET, BUCKET_PATH, Local, pattern};
use bytes::Bytes;
use google_cloud_gax::error::rpc::Code;
use google_cloud_storage::client::Storage as Client;
use google_cloud_storage::model_ext::ReadRange;
use local_gcp::history::What;
use serde_json::{Value, json};

async fn read(client: &Client, object: &str) -> Result<Vec<u8>, google_cloud_storage::Error> {
    let mut reader = client.read_object(BUCKET_PATH, object).send().await?;
    let mut all = Vec::new();
    while let Some(chunk) = reader.next().await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all)
}

async fn write(client: &Client, object: &str, body: impl Into<Bytes>) -> google_cloud_storage::model::Object {
    client.write_object(BUCKET_PATH, object, body.into()).send_buffered().await.unwrap()
}

#[tokio::test]
async fn written_bytes_are_read_back_with_their_metadata() {
    let local = Local::start().await;
    let (client, control) = (local.client().await, local.control().await);
    let body = pattern(700_000);
    let written = client
        .write_object(BUCKET_PATH, "a/b c/ü.bin", Bytes::from(body.clone()))
        .set_content_type("application/x-model")
        .set_metadata([("owner", "tests")])
        .send_buffered()
        .await
        .unwrap();
    assert_eq!(read(&client, "a/b c/ü.bin").await.unwrap(), body);

    let got = control.get_object().set_bucket(BUCKET_PATH).set_object("a/b c/ü.bin").send().await.unwrap();
    assert_eq!(got.generation, written.generation);
    assert_eq!(got.size, 700_000);
    assert_eq!(got.content_type, "application/x-model");
    assert_eq!(got.metadata["owner"], "tests");
    assert_eq!(got.checksums.as_ref().unwrap().crc32c, Some(crc32c::crc32c(&body)));
    assert_eq!(got.checksums, written.checksums);

    let bucket = control.get_bucket().set_name(BUCKET_PATH).send().await.unwrap();
    assert_eq!(bucket.bucket_id, BUCKET);
}

#[tokio::test]
async fn a_streamed_upload_sends_its_checksum_last() {
    let local = Local::start().await;
    let client = local.client().await;
    let body = pattern(2_200_000); // more than the 2 MB that axum allows by default
    client.write_object(BUCKET_PATH, "streamed", Bytes::from(body.clone())).send_unbuffered().await.unwrap();
    assert_eq!(read(&client, "streamed").await.unwrap(), body);
}

#[tokio::test]
async fn ranges_and_generations_are_exact() {
    let local = Local::start().await;
    let client = local.client().await;
    let first = write(&client, "model", pattern(1000)).await;
    for (range, expected) in [
        (ReadRange::segment(10, 5), 10..15),
        (ReadRange::offset(990), 990..1000),
        (ReadRange::tail(3), 997..1000),
    ] {
        let mut reader = client.read_object(BUCKET_PATH, "model").set_read_range(range).send().await.unwrap();
        let mut got = Vec::new();
        while let Some(chunk) = reader.next().await {
            got.extend_from_slice(&chunk.unwrap());
        }
        assert_eq!(got, pattern(1000)[expected]);
    }
    let second = write(&client, "model", "second").await;
    assert!(second.generation > first.generation);
    let old = client.read_object(BUCKET_PATH, "model").set_generation(first.generation).send().await;
    assert_eq!(old.err().unwrap().http_status_code(), Some(404), "no versioning, no old generation");

    let patch = json!({ "versioning": { "enabled": true } });
    reqwest::Client::new()
        .patch(local.url(""))
        .json(&patch)
        .send()
        .await
        .unwrap()
        .error_for_status()
        .unwrap();
    write(&client, "model", "third").await;
    let mut old =
        client.read_object(BUCKET_PATH, "model").set_generation(second.generation).send().await.unwrap();
    assert_eq!(old.next().await.unwrap().unwrap(), "second");
    assert_eq!(read(&client, "model").await.unwrap(), b"third");
}

#[tokio::test]
async fn listings_page_through_everything_once() {
    let local = Local::start().await;
    let (client, control) = (local.client().await, local.control().await);
    for name in ["a", "m/1/x", "m/1/y", "m/2/x", "m/3", "z"] {
        write(&client, name, name).await;
    }
    let (mut names, mut prefixes, mut token, mut pages) = (Vec::new(), Vec::new(), String::new(), 0);
    loop {
        let request = control.list_objects().set_parent(BUCKET_PATH).set_page_size(1).set_page_token(&token);
        let page = request.set_prefix("m/").set_delimiter("/").send().await.unwrap();
        names.extend(page.objects.into_iter().map(|object| object.name));
        prefixes.extend(page.prefixes);
        pages += 1;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((names, prefixes, pages), (vec!["m/3".to_owned()], vec!["m/1/".to_owned(), "m/2/".into()], 3));

    let mut names = Vec::new();
    let mut query = vec![("maxResults", "2".to_owned()), ("startOffset", "m/1/y".to_owned())];
    loop {
        let query_string: Vec<String> = query.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let url = local.url(&format!("/o?{}", query_string.join("&")));
        let page: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        names.extend(page["items"].as_array().unwrap().iter().map(|item| item["name"].clone()));
        let Some(token) = page["nextPageToken"].as_str() else { break };
        query.retain(|(key, _)| *key != "pageToken");
        query.push(("pageToken", token.to_owned()));
    }
    assert_eq!(names, ["m/1/y", "m/2/x", "m/3", "z"]);

    let missing = control.list_objects().set_parent("projects/_/buckets/none").send().await.err().unwrap();
    assert_eq!(missing.status().unwrap().code, Code::NotFound);
}

#[tokio::test]
async fn preconditions_guard_every_write() {
    let local = Local::start().await;
    let (client, control) = (local.client().await, local.control().await);
    let create = |body: &'static str| {
        client.write_object(BUCKET_PATH, "lock", Bytes::from(body)).set_if_generation_match(0_i64)
    };
    let first = create("mine").send_buffered().await.unwrap();
    let second = create("theirs").send_buffered().await.err().unwrap();
    assert_eq!(second.http_status_code(), Some(412));
    assert_eq!(read(&client, "lock").await.unwrap(), b"mine");

    let delete = control.delete_object().set_bucket(BUCKET_PATH).set_object("lock");
    let refused = delete.clone().set_if_generation_match(first.generation + 1).send().await.err().unwrap();
    assert_eq!(refused.status().unwrap().code, Code::FailedPrecondition);
    delete.set_if_generation_match(first.generation).send().await.unwrap();
    let gone = control.get_object().set_bucket(BUCKET_PATH).set_object("lock").send().await.err().unwrap();
    assert_eq!(gone.status().unwrap().code, Code::NotFound);

    let object = write(&client, "kept", "x").await;
    let unchanged = format!("{}?ifGenerationNotMatch={}", local.url("/o/kept"), object.generation);
    assert_eq!(reqwest::get(unchanged).await.unwrap().status(), 304);
    let missing = reqwest::get(local.url("/o/none")).await.unwrap();
    assert_eq!(missing.status(), 404);
    let body: Value = missing.json().await.unwrap();
    let message = "No such object: models/none";
    let detail = json!({ "message": message, "domain": "global", "reason": "notFound" });
    assert_eq!(body, json!({ "error": { "code": 404, "message": message, "errors": [detail] } }));
}

#[tokio::test]
async fn bytes_that_belie_their_checksum_are_not_stored() {
    let local = Local::start().await;
    let client = local.client().await;
    let wrong = client.write_object(BUCKET_PATH, "x", Bytes::from("abc")).with_known_crc32c(1_u32);
    assert_eq!(wrong.send_buffered().await.err().unwrap().http_status_code(), Some(400));
    let http = reqwest::Client::new();
    let upload = format!("{}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=x", local.base);
    for (header, value) in [("x-goog-hash", "crc32c=AAAAAA=="), ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")] {
        let answer = http.post(&upload).header(header, value).body("abc").send().await.unwrap();
        assert_eq!(answer.status(), 400, "{header}");
    }
    assert_eq!(reqwest::get(local.url("/o/x")).await.unwrap().status(), 404);
    // The MD5 is RFC 1321's value for "abc".
    let right =
        format!("crc32c={},md5=kAFQmDzST7DWlj99KOF/cg==", base64(&crc32c::crc32c(b"abc").to_be_bytes()));
    let answer = http.post(&upload).header("x-goog-hash", right).body("abc").send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_resumable_upload_survives_a_lost_reply() {
    let local = Local::start().await;
    let client = local.client().await;
    let body = pattern(3 * 256 * 1024 + 77);
    // The opening answer passes, the answers to the first two chunks are lost.
    local.faults.inject("storage.objects.insert", local_gcp::faults::Fault::DelayMs(0), 1);
    local.faults.inject("storage.objects.insert", local_gcp::faults::Fault::LoseReply, 2);
    client
        .write_object(BUCKET_PATH, "big", Bytes::from(body.clone()))
        .with_resumable_upload_threshold(0_usize)
        .with_resumable_upload_buffer_size(256 * 1024_usize)
        .send_buffered()
        .await
        .unwrap();
    assert_eq!(local.faults.waiting("storage.objects.insert"), 0);
    assert_eq!(read(&client, "big").await.unwrap(), body);
    let events = local.object_events();
    assert!(matches!(events[..], [What::Finalized(_), What::Read(_)]), "{events:?}");
}

#[tokio::test]
async fn terraform_gets_200_for_308_and_posts_its_chunks() {
    let local = Local::start().await;
    let http = reqwest::Client::new();
    let open = format!("{}/upload/storage/v1/b/{BUCKET}/o?uploadType=resumable&name=tf", local.base);
    let opened = http.post(open).json(&json!({ "contentType": "text/plain" })).send().await.unwrap();
    let session = opened.headers()["location"].to_str().unwrap().to_owned();
    let body = pattern(256 * 1024 + 10);
    let chunk = |range: String, data: &[u8]| {
        let request = http.post(&session).header("x-guploader-no-308", "yes").header("content-range", range);
        request.body(data.to_vec()).send()
    };
    let first = chunk("bytes 0-262143/*".into(), &body[..262_144]).await.unwrap();
    assert_eq!(first.status(), 200);
    assert_eq!(first.headers()["x-http-status-code-override"], "308");
    assert_eq!(first.headers()["range"], "bytes=0-262143");
    let query = http.put(&session).header("content-range", "bytes */*").send().await.unwrap();
    assert_eq!(
        (query.status().as_u16(), &query.headers()["range"]),
        (308, &"bytes=0-262143".parse().unwrap())
    );
    let hole = chunk("bytes 262150-262153/262154".into(), &body[262_150..]).await.unwrap();
    assert_eq!(hole.status(), 400);
    let last = chunk("bytes 262144-262153/262154".into(), &body[262_144..]).await.unwrap();
    let object: Value = last.json().await.unwrap();
    assert_eq!((&object["size"], &object["contentType"]), (&json!("262154"), &json!("text/plain")));
    let media = reqwest::get(local.url("/o/tf?alt=media")).await.unwrap().bytes().await.unwrap();
    assert_eq!(media, body);
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}
