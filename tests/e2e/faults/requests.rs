//! Faults 15 to 21: what requests say.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use local_gcp::history::What;

use crate::support::harness::{REQUEST_SUBSCRIPTION, RESPONSES, model_file};
use crate::support::oracle::{Allowed, End, wine};

use super::{Trial, with_dead_letters};

#[tokio::test(flavor = "multi_thread")]
async fn fault_15_invalid_requests() {
    let promise = "INVALID_INPUT, acked, neighbours fine";
    let mut trial = Trial::new(15, "invalid JSON and shapes among good requests", promise).await;
    let bad: [&[u8]; 8] = [
        b"not JSON",
        b"{\"instances\": [[1, 2, 3]]}",
        b"{\"instances\": [[1,2,3,4,5,6,7,8,9,10,11,12,\"thirteen\"]]}",
        b"{\"instances\": []}",
        b"{\"instances\": [[1,2",
        b"\xff\xfe\x00",
        b"[]",
        b"{\"inputs\": [{\"name\": \"unknown\", \"shape\": [1], \"datatype\": \"FP32\", \"data\": [1]}]}",
    ];
    for body in bad.iter().cycle().take(40) {
        trial.request(*body, &[("content-type", "application/json")], End::Code("INVALID_INPUT"));
        trial.wines(3);
    }
    // After the requests, so that good and bad share batches.
    let worker = trial.worker(&[]).await;
    trial.judge(&worker, Allowed::default(), "40 bad ones").await;
}

/// The least whole number divided by -1 ends the process with SIGFPE, inside ONNX Runtime. The test starts
/// the next one.
#[tokio::test(flavor = "multi_thread")]
async fn fault_16_a_request_that_kills_the_process() {
    let injected = "a row that fails in ONNX Runtime; one that ends the process (SIGFPE)";
    let promise =
        "INFERENCE_FAILED for the one; the other dead-lettered after 5 attempts, neighbours answered";
    let mut trial = Trial::with(with_dead_letters(), 16, injected, promise).await;
    trial.world.upload_version("types/fragile/1", "fragile", "1");
    trial.world.upload_version("faults/divide/1", "divide", "1");
    // All are there before the worker: they share their batches.
    for n in 0..20 {
        let (row, end) =
            if n == 7 { (99, End::Code("INFERENCE_FAILED")) } else { (3, End::Contains("40".to_owned())) };
        trial.request(format!("{{\"instances\": [{row}]}}"), &[("model", "fragile")], end);
    }
    let worker = trial.world.worker(&[("PREDICTD_MODELS__DEFAULT", "wine")]);
    trial.world.settled().await;
    drop(worker);
    let divide = [("model", "divide")];
    for n in 0..20 {
        let end = End::Contains(format!("{}", i64::MIN / 2));
        trial.request("{\"instances\": [2]}", &divide, end);
        if n == 5 {
            trial.request("{\"instances\": [-1]}", &divide, End::Dead);
        }
    }
    let mut crashes = 0;
    let last = loop {
        let mut worker = trial.world.worker(&[("PREDICTD_MODELS__DEFAULT", "wine")]);
        loop {
            if !worker.is_alive() {
                crashes += 1;
                // Its requests in flight are redelivered at once, not after 20 s; to the next worker, not to
                // the connection of the dead one, which would cost an attempt each time until the server
                // notices.
                trial.world.server.reset_streams();
                trial.expire_leases();
                break;
            }
            if trial
                .world
                .server
                .pubsub
                .counts(crate::support::harness::REQUEST_SUBSCRIPTION)
                .unwrap()
                .dead_lettered
                > 0
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if worker.is_alive() {
            break worker;
        }
        assert!(crashes < 6, "{crashes} crashes");
    };
    // A delivery to the connection of the worker that is just dying counts for Pub/Sub too.
    assert!((3..=5).contains(&crashes), "{crashes} crashes");
    trial.wines(20);
    let verdict = trial.judge(&last, Allowed { duplicates: 40 }, &format!("{crashes} crashes")).await;
    assert_eq!(verdict.dead, 1);
}

/// While a request that is delivered for the third time is decoded by a new worker, no other one is in flight
/// with it: the next is not read before that one was acknowledged. Those that are refused would all be
/// answered at once otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn fault_16_a_suspect_is_decoded_alone() {
    let injected =
        "10 requests that are delivered for the third time, 7 of them invalid, 3 of these in a bucket";
    let promise = "each is decoded and answered alone, new ones beside them";
    let mut trial = Trial::with(with_dead_letters(), 16, injected, promise).await;
    let mut suspects = trial.wines(3);
    let refused = End::Code("INVALID_INPUT");
    suspects.extend((0..4).map(|_| trial.request("{\"instances\": [", &[], refused.clone())));
    trial.world.upload("requests/invalid", b"{\"instances\": [".to_vec());
    let reference = "{\"dataref\": \"gs://models/requests/invalid\"}";
    suspects.extend((0..3).map(|_| trial.request(reference, &[], refused.clone())));
    let pubsub = &trial.world.server.pubsub;
    for _ in 0..2 {
        let pulled = pubsub.pull(REQUEST_SUBSCRIPTION, 100, true).await.unwrap();
        assert_eq!(pulled.len(), suspects.len());
        let ids: Vec<String> = pulled.into_iter().map(|message| message.ack_id).collect();
        pubsub.modify_ack_deadline(REQUEST_SUBSCRIPTION, &ids, 0).unwrap();
    }
    trial.wines(20);
    let worker = trial.worker(&[("PREDICTD_REQUESTS__ALLOWED_BUCKETS", "models/requests")]).await;
    let verdict = trial.judge(&worker, Allowed::default(), "").await;
    assert_eq!(verdict.dead, 0);
    let mut answered = None;
    trial.world.server.history.with(|events| {
        for event in events {
            match &event.what {
                What::Published { topic, message: stored } if **topic == *RESPONSES => {
                    let id = &stored.message.attributes["request_message_id"];
                    if suspects.contains(id) {
                        assert_eq!(
                            answered.replace(id.clone()),
                            None,
                            "{id} was answered beside another one"
                        );
                    }
                }
                What::Acked(delivery) if answered.as_ref() == Some(&delivery.message_id) => answered = None,
                _ => {}
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_17_hostile_json() {
    let injected = "JSON 1000 deep, 100k elements, NaN, endless numbers";
    let mut trial = Trial::new(17, injected, "INVALID_INPUT in bounded time").await;
    let worker = trial.worker(&[]).await;
    let deep = format!("{{\"instances\": {}1{}}}", "[".repeat(1000), "]".repeat(1000));
    let wide = format!("{{\"instances\": [[{}1]]}}", "1,".repeat(100_000));
    let nan = wine().request(&[0]).replacen("[[", "[[NaN, ", 1);
    let keys = format!("{{{}\"instances\": [[1]]}}", "\"a\": 1,".repeat(100_000));
    let digits = format!("{{\"instances\": [[{}]]}}", "9".repeat(1_000_000));
    let open = "[".repeat(1_000_000);
    let started = Instant::now();
    let mut ids = Vec::new();
    for body in [deep, wide, nan, keys, digits, open] {
        ids.push(trial.request(body, &[("content-type", "application/json")], End::Code("INVALID_INPUT")));
        ids.extend(trial.wines(5));
    }
    trial.world.responses(&ids).await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    trial.judge(&worker, Allowed::default(), &format!("all answered in {} ms", took.as_millis())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_18_an_image_of_50_000_by_50_000() {
    let promise = "INPUT_TOO_LARGE before allocating";
    let mut trial =
        Trial::new(18, "images whose headers say 50,000 x 50,000 and 10,000 x 10,000", promise).await;
    trial.world.upload_declared("conv", "zoo/torch-conv", "image: {}");
    let worker = trial.worker(&[]).await;
    let mut png = model_file("images", "rgb.png");
    png[16..24].copy_from_slice(&[0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50]);
    png[29..33].copy_from_slice(&[0xc4, 0xcd, 0xaa, 0x9d]); // The header's checksum.
    let mut jpeg = model_file("zoo", "image.jpg");
    let frame = jpeg.windows(2).position(|marker| matches!(marker, [0xff, 0xc0 | 0xc2])).unwrap();
    // 10,000 x 10,000: less than what its scans may cost.
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x27, 0x10, 0x27, 0x10]);
    let image = [("model", "conv")];
    trial.request(model_file("zoo", "image.png"), &image, End::Contains("predictions".to_owned()));
    trial.wines(20);
    trial.judge(&worker, Allowed::default(), "").await;
    let before = trial.weigh(&worker);
    for _ in 0..10 {
        trial.request(png.clone(), &image, End::Code("INPUT_TOO_LARGE"));
        trial.request(jpeg.clone(), &image, End::Code("INPUT_TOO_LARGE"));
    }
    trial.judge(&worker, Allowed::default(), "20 such images").await;
    // Decoded, one would take 7.5 GB.
    assert!(trial.peak_mib - before <= 32, "{before} MiB before, then {}", trial.peak_mib);
}

fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{seconds:.3}"), "+%Y-%m-%dT%H:%M:%S.%3NZ"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_19_deadlines() {
    let injected = "deadlines passed before admission and while waiting for inference";
    let mut trial = Trial::new(19, injected, "DEADLINE_EXCEEDED, no inference").await;
    trial.world.upload_version("faults/slow/1", "slow", "1");
    let worker = trial.worker(&[("PREDICTD_INFERENCE__THREADS", "1")]).await;
    let now = SystemTime::now();
    let passed = [("deadline", &*rfc3339(now - Duration::from_secs(2))), ("model", "slow")];
    let coming = rfc3339(now + Duration::from_secs(600));
    for _ in 0..10 {
        trial.request("{\"instances\": [1]}", &passed, End::Code("DEADLINE_EXCEEDED"));
    }
    trial.request(
        "{\"instances\": [1]}",
        &[("deadline", "soon"), ("model", "slow")],
        End::Code("INVALID_INPUT"),
    );
    let rows = trial.next_wine();
    trial.request(wine().request(&rows), &[("deadline", &coming)], End::Wine(rows));
    trial.judge(&worker, Allowed::default(), "").await;
    let rows_of = "predictd_rows_total{model=\"slow\",version=\"1\"}";
    assert_eq!(worker.metric(rows_of).await, Some(0.0));
    let waited =
        worker.metric("predictd_queue_wait_seconds_count{model=\"slow\",version=\"1\"}").await.unwrap_or(0.0);
    // One that takes seconds, and behind it those whose deadline is sooner.
    let long = End::Contains("90000".to_owned());
    trial.request("{\"instances\": [90000]}", &[("model", "slow")], long);
    // In a batch of its own: those that follow wait behind it.
    worker
        .until_metric("predictd_queue_wait_seconds_count{model=\"slow\",version=\"1\"}", 1.0 + waited)
        .await;
    let soon = rfc3339(SystemTime::now() + Duration::from_millis(500));
    for _ in 0..10 {
        let attributes = [("deadline", &*soon), ("model", "slow")];
        trial.request("{\"instances\": [1]}", &attributes, End::Code("DEADLINE_EXCEEDED"));
    }
    trial.judge(&worker, Allowed::default(), "20 expired, none computed").await;
    assert_eq!(worker.metric(rows_of).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_21_a_response_over_10_mb() {
    let mut trial = Trial::new(21, "a response over 10 MB", "RESPONSE_TOO_LARGE").await;
    trial.world.upload_version("types/strings/1", "strings", "1");
    let worker = trial.worker(&[]).await;
    let body = |length| serde_json::json!({ "instances": [["a".repeat(length), "b"]] }).to_string();
    let strings = [("model", "strings")];
    for _ in 0..3 {
        // The model gives it back twice.
        trial.request(body(6_000_000), &strings, End::Code("RESPONSE_TOO_LARGE"));
        trial.request(body(4_000_000), &strings, End::Contains("aaaab".to_owned()));
        trial.wines(5);
    }
    trial.judge(&worker, Allowed::default(), "12 MB refused, 8 MB published").await;
}
