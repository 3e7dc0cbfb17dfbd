//! Faults 60 to 63: clients of predictions that break off, lie, or come by the thousand, and the end of the
//! worker under their load. Pub/Sub in the same worker is unaffected.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{Trial, until};
use crate::support::harness::{PATIENCE, Worker, http};
use crate::support::oracle::{Allowed, wine};

fn head(length: usize) -> String {
    format!("POST /predict HTTP/1.1\r\nhost: worker\r\ncontent-length: {length}\r\n\r\n")
}

fn sockets(worker: &Worker) -> usize {
    let all = std::fs::read_dir(format!("/proc/{}/fd", worker.process())).unwrap();
    let is_socket = |path: std::path::PathBuf| path.to_string_lossy().starts_with("socket:");
    all.filter(|entry| {
        entry.as_ref().is_ok_and(|entry| std::fs::read_link(entry.path()).is_ok_and(is_socket))
    })
    .count()
}

/// All that the worker still sends on a connection.
fn rest(mut client: &TcpStream) -> String {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_60_bodies_that_break_off_and_lengths_that_lie() {
    let injected = "bodies cut off, shorter and longer than they say, sent without end, half-closed sockets";
    let mut trial = Trial::new(60, injected, "each ends in its time, nothing is kept, Pub/Sub goes on").await;
    let worker = trial.worker(&[("PREDICTD_HTTP__TIMEOUT", "2s"), ("PREDICTD_HTTP__MAX_BODY", "1MiB")]).await;
    let address = worker.address().await;
    let body = wine().request(&[0]);
    trial.wines(100);
    let before = sockets(&worker);
    let connect = |sent: String| {
        let client = TcpStream::connect(&address).unwrap();
        (&client).write_all(sent.as_bytes()).unwrap();
        client
    };
    let mut ended = Vec::new();
    for round in 0..20 {
        // Cut off in the middle: by a close of both directions, and by one of the client's own.
        drop(connect(head(body.len()) + &body[..body.len() / 2]));
        let half = connect(head(body.len()) + &body[..body.len() / 2]);
        half.shutdown(Shutdown::Write).unwrap();
        // A length that is longer than the body, and one beyond the limit.
        let longer = connect(head(body.len() + 7) + &body);
        let huge = connect(head(64 << 30) + &body);
        // More than it says: the rest is no request.
        let shorter = connect(head(body.len()) + &body + "\r\n\r\nnonsense\r\n\r\n");
        // Chunks without end.
        let endless =
            connect("POST /predict HTTP/1.1\r\nhost: w\r\ntransfer-encoding: chunked\r\n\r\n".to_owned());
        ended.push(spawn_blocking(move || {
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(1 << 16));
            let mut writer = &endless;
            while writer.write_all(chunk.as_bytes()).is_ok() {}
            (round, [rest(&half), rest(&longer), rest(&huge), rest(&shorter)])
        }));
    }
    for ended in ended {
        let (round, [half, longer, huge, shorter]) = ended.await.unwrap();
        assert!(!half.contains(" 200 "), "{round}: {half}");
        assert!(longer.starts_with("HTTP/1.1 504"), "{round}: {longer}");
        assert!(huge.starts_with("HTTP/1.1 413"), "{round}: {huge}");
        assert!(shorter.starts_with("HTTP/1.1 200"), "{round}: {shorter}");
    }
    until("no socket of theirs", || sockets(&worker) <= before + 2).await;
    worker.until_metric("predictd_bytes_in_hand ", 0.0).await;
    trial.judge(&worker, Allowed::default(), "").await;
    trial.each_was_delivered_once();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_61_100_000_connections() {
    const CONNECTIONS: usize = 100_000;
    let injected = "100,000 connections, each with one request or none";
    let mut trial = Trial::new(61, injected, "memory and sockets stay level, Pub/Sub goes on").await;
    let worker = trial.worker(&[]).await;
    let address = worker.address().await;
    let request = {
        let body = wine().request(&[0]);
        head(body.len()).replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n") + &body
    };
    let open = |count: usize| {
        let (address, request) = (address.clone(), request.clone());
        spawn_blocking(move || {
            for number in 0..count {
                let client = TcpStream::connect(&address).unwrap();
                if number % 10 == 0 {
                    (&client).write_all(request.as_bytes()).unwrap();
                    assert!(rest(&client).starts_with("HTTP/1.1 200"));
                }
            }
        })
    };
    open(CONNECTIONS / 10).await.unwrap();
    let (level, before) = (worker.resident_kib(), sockets(&worker));
    let tasks: Vec<JoinHandle<()>> = (0..4).map(|_| open(CONNECTIONS * 9 / 40)).collect();
    trial.wines(200);
    for task in tasks {
        task.await.unwrap();
    }
    until("no socket of theirs", || sockets(&worker) <= before.min(32) + 8).await;
    let grown = worker.resident_kib().saturating_sub(level) / 1024;
    assert!(grown < 48, "{grown} MiB more after {CONNECTIONS} connections");
    trial.judge(&worker, Allowed::default(), &format!("{grown} MiB more")).await;
    trial.each_was_delivered_once();
}

/// Clients that ask as fast as they get answers, until `stop`.
fn load(address: &str, stop: &CancellationToken, answered: &Arc<AtomicUsize>) -> Vec<JoinHandle<Vec<u16>>> {
    let ask = |place: usize| {
        let (url, stop) = (format!("http://{address}/predict"), stop.clone());
        let answered = Arc::clone(answered);
        tokio::spawn(async move {
            let (client, mut statuses) = (http(), Vec::new());
            while !stop.is_cancelled() {
                let row = [place % wine().rows.len()];
                // No answer at all: the worker is gone.
                let Ok(response) = client.post(&url).body(wine().request(&row)).send().await else { break };
                let status = response.status().as_u16();
                let Ok(body) = response.bytes().await else { panic!("an answer was cut off") };
                let body: serde_json::Value = serde_json::from_slice(&body).expect("a whole answer");
                assert_eq!(body["predictions"].is_array(), status == 200);
                statuses.push(status);
                answered.fetch_add(1, Ordering::Relaxed);
            }
            statuses
        })
    };
    (0..16).map(ask).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_62_sigterm_under_load_over_http() {
    let injected = "SIGTERM while 16 clients ask over HTTP, and Pub/Sub";
    let mut trial =
        Trial::new(62, injected, "every answer is whole, new requests get 503, nothing is lost").await;
    let mut worker = trial.worker(&[]).await;
    let (stop, answered) = (CancellationToken::new(), Arc::<AtomicUsize>::default());
    let clients = load(&worker.address().await, &stop, &answered);
    trial.wines(500);
    until("answers", || answered.load(Ordering::Relaxed) > 200).await;
    worker.signal("-TERM");
    let begun = Instant::now();
    assert!(worker.end().await.success());
    let took = begun.elapsed();
    stop.cancel();
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await.unwrap());
    }
    assert!(all.iter().all(|status| matches!(status, 200 | 503)), "{all:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    let next = trial.worker(&[]).await;
    trial.judge(&next, Allowed { duplicates: 500 }, &format!("{} answers", all.len())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_63_sigkill_under_load_over_http() {
    let injected = "SIGKILL while 16 clients ask over HTTP, and Pub/Sub";
    let mut trial = Trial::new(63, injected, "no wrong answer, Pub/Sub's requests are redelivered").await;
    let mut worker = trial.worker(&[]).await;
    let (stop, answered) = (CancellationToken::new(), Arc::<AtomicUsize>::default());
    let address = worker.address().await;
    let url = format!("http://{address}/predict");
    let clients: Vec<JoinHandle<usize>> = (0..16)
        .map(|_| {
            let (url, stop, answered) = (url.clone(), stop.clone(), Arc::clone(&answered));
            tokio::spawn(async move {
                let (client, mut count) = (http(), 0);
                while !stop.is_cancelled() {
                    let Ok(response) = client.post(&url).body(wine().request(&[0])).send().await else {
                        break;
                    };
                    // A cut answer is an error of the client, never a short body.
                    let Ok(body) = response.bytes().await else { break };
                    let body: serde_json::Value = serde_json::from_slice(&body).expect("a whole answer");
                    assert_eq!(body["predictions"][0]["label"], 0);
                    count += 1;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                count
            })
        })
        .collect();
    trial.wines(500);
    until("answers", || answered.load(Ordering::Relaxed) > 200).await;
    worker.signal("-KILL");
    worker.end().await;
    stop.cancel();
    for client in clients {
        client.await.unwrap();
    }
    trial.expire_leases();
    let next = trial.worker(&[]).await;
    trial.judge(&next, Allowed { duplicates: 500 }, "").await;
}
