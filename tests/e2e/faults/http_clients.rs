//! Faults 55 to 57: clients that take connections, time and answers from the HTTP server, and more models
//! than people read of.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{Trial, until};
use crate::support::harness::{PATIENCE, Worker, World, model_file, skip};
use crate::support::oracle::{Allowed, End, wine};

/// Kubernetes' probes give up after a second. A machine that runs many tests at once gets more.
const PROBE: Duration = Duration::from_secs(10);
const GET_HEALTH: &str = "GET /health HTTP/1.1\r\nhost: worker\r\n\r\n";

/// The worker that [`Trial::worker`] starts, which may have `files` open at most.
async fn worker_with(files: u32, world: &World) -> Worker {
    let own = [("PREDICTD_MODELS__DEFAULT", "wine"), ("PREDICTD_MODELS__UPDATES", "")];
    let run = world.run(&own);
    let mut limited = Command::new("sh");
    limited
        .args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")])
        .arg(run.get_program())
        .args(run.get_args())
        .envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let worker = Worker::spawn(limited);
    worker.until_ready().await;
    worker
}

fn open_files(worker: &Worker) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", worker.process())).unwrap().count()
}

async fn probe(worker: &Worker) {
    let answered = tokio::time::timeout(PROBE, worker.get("/health")).await;
    let (status, said) = answered.unwrap_or_else(|_| panic!("no answer of /health within {PROBE:?}"));
    assert_eq!((status, said.as_str()), (200, "ok\n"));
}

/// Writes, and reads one answer of `/health`.
fn ask(mut client: &TcpStream, request: &str) -> std::io::Result<bool> {
    use std::io::Read as _;
    client.set_read_timeout(Some(PATIENCE))?;
    client.write_all(request.as_bytes())?;
    let mut answer = [0; 256];
    let size = client.read(&mut answer)?;
    Ok(answer[..size].starts_with(b"HTTP/1.1 200 "))
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_55_more_connections_than_files() {
    let injected = "300 idle connections to a worker that may have 256 files open; then no file left at all";
    let promise = "/health and requests are answered";
    let mut trial = Trial::new(55, injected, promise).await;
    let worker = worker_with(256, &trial.world).await;
    let address = worker.address().await;
    let connect = || TcpStream::connect(&address).unwrap();
    let mut idle = Vec::new();
    for number in 0..300 {
        let client = connect();
        if number % 2 == 0 {
            (&client).write_all(b"GET /health HTT").unwrap();
        }
        idle.push(client);
    }
    probe(&worker).await;
    until("half of the files free for other use", || open_files(&worker) < 128 + 64).await;
    trial.wines(100);
    let (newest, oldest) = (idle.pop().unwrap(), idle.swap_remove(1));
    assert!(ask(&newest, GET_HEALTH).unwrap(), "the newest is open");
    assert!(!ask(&oldest, GET_HEALTH).unwrap_or(false), "the oldest has been closed for it");
    drop(idle);
    until("no connection", || open_files(&worker) < 64).await;

    // A connection in use lives on while one that waits is closed for the one that cannot be accepted.
    let waiting: Vec<TcpStream> = (0..20).map(|_| connect()).collect();
    assert!(waiting.iter().all(|client| ask(client, GET_HEALTH).unwrap()));
    probe(&worker).await;
    let process = Pid::from_raw(i32::try_from(worker.process()).unwrap());
    let limit = |files| {
        let current = Some(files);
        prlimit(process, Resource::Nofile, Rlimit { current, maximum: Some(256) }).unwrap();
    };
    limit(open_files(&worker) as u64);
    let used = worker.processor_time();
    let since = Instant::now();
    let more: Vec<TcpStream> = (0..5).map(|_| connect()).collect();
    for client in &more {
        let client = client.try_clone().unwrap();
        assert!(spawn_blocking(move || ask(&client, GET_HEALTH).unwrap()).await.unwrap());
    }
    worker.until_log("cannot accept an HTTP connection").await;
    let (used, took) = (worker.processor_time() - used, since.elapsed());
    assert!(took < PROBE, "five connections took {took:?}");
    assert!(used < took / 2 + Duration::from_millis(300), "{used:?} of processor time in {took:?}");
    limit(256);
    drop((waiting, more));
    probe(&worker).await;
    trial.wines(100);
    trial.judge(&worker, Allowed::default(), "").await;
    trial.each_was_delivered_once();
}

/// Ends once the worker has closed the connection: how long that took.
fn until_closed(
    client: TcpStream,
    mut act: impl FnMut(&TcpStream) -> std::io::Result<()> + Send + 'static,
) -> JoinHandle<Duration> {
    spawn_blocking(move || {
        let started = Instant::now();
        client.set_write_timeout(Some(PATIENCE)).unwrap();
        while act(&client).is_ok() {
            assert!(started.elapsed() < PATIENCE, "the connection is never closed");
        }
        started.elapsed()
    })
}

/// Waits a moment for the worker to close the connection; an error when it has.
fn await_end(client: &TcpStream) -> std::io::Result<()> {
    use std::io::{ErrorKind, Read as _};
    client.set_read_timeout(Some(Duration::from_millis(300)))?;
    let mut client = client;
    match client.read(&mut [0; 1024]) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(error),
        _ => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_56_slow_clients() {
    let injected =
        "connections without a request, heads and bodies a byte at a time, answers that nobody reads";
    let mut trial = Trial::new(56, injected, "each is ended in its time, others are answered").await;
    let worker = trial.worker(&[]).await;
    let address = worker.address().await;
    let connect = |first: &str| {
        let client = TcpStream::connect(&address).unwrap();
        (&client).write_all(first.as_bytes()).unwrap();
        client
    };
    let kept = connect("");
    assert!(ask(&kept, GET_HEALTH).unwrap());
    let drip = |client: &TcpStream| {
        let mut writer = client;
        writer.write_all(b"x").and_then(|()| await_end(client))
    };
    let silent = until_closed(connect(""), await_end);
    let slow_head = until_closed(connect("GET /health HTTP/1.1\r\nx-slow: "), drip);
    let late_head = connect("");
    assert!(ask(&late_head, GET_HEALTH).unwrap());
    let late_head = until_closed(late_head, drip);
    let slow_body = until_closed(connect("POST /health HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n"), drip);
    let unread: Vec<_> = (0..8)
        .map(|_| {
            let client = TcpStream::connect(&address).unwrap();
            set_socket_recv_buffer_size(&client, 4096).unwrap();
            until_closed(client, |mut client| {
                client.write_all(b"GET /metrics HTTP/1.1\r\nhost: worker\r\n\r\n")
            })
        })
        .collect();
    let ends = async {
        for (what, end, limit) in [
            ("silent", silent, 10),
            ("slow head", slow_head, 10),
            ("slow head of a second request", late_head, 10),
            ("slow body", slow_body, 0),
        ] {
            let took = end.await.unwrap();
            let limit = Duration::from_secs(limit);
            assert!(took + Duration::from_secs(1) >= limit && took < limit + PROBE, "{what}: {took:?}");
        }
        let mut longest = Duration::ZERO;
        for unread in unread {
            longest = longest.max(unread.await.unwrap());
        }
        longest
    };
    tokio::pin!(ends);
    let longest = loop {
        tokio::select! {
            longest = &mut ends => break longest,
            () = tokio::time::sleep(Duration::from_millis(500)) => {
                probe(&worker).await;
                trial.wines(5);
            }
        }
    };
    assert!(longest > Duration::from_secs(29) && longest < PATIENCE / 2, "unread: {longest:?}");
    assert!(ask(&kept, GET_HEALTH).unwrap(), "a connection may be idle between two requests");
    trial.judge(&worker, Allowed::default(), &format!("unread answers ended after {longest:.1?}")).await;
    trial.each_was_delivered_once();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_57_many_models() {
    const MODELS: usize = 500;
    let injected = "500 models (in place of 2000), each asked once, 40 requests for others, 200 clients that do not read /metrics";
    let promise = "small errors, /metrics under 1.5 MB, memory under the cap";
    let mut trial = Trial::new(57, injected, promise).await;
    let model = model_file("types/int64/1", "model.onnx");
    for number in 0..MODELS {
        trial.world.upload(&format!("models/numbers-{number:04}/1/model.onnx"), model.clone());
    }
    let worker = trial.worker(&[]).await;
    // Requests are received before all models are loaded, where that takes long.
    worker.until_metric("predictd_models_serving ", MODELS as f64 + 1.0).await;
    let row = r#"{"instances": [[1, 2, 3]]}"#;
    let answer = || End::Contains("\"changed\":[-2,-3,-4]".to_owned());
    let mut ids: Vec<String> = (0..MODELS)
        .map(|number| trial.request(row, &[("model", &format!("numbers-{number:04}"))], answer()))
        .collect();
    for _ in 0..10 {
        for (name, expected) in [
            ("numbers-01234", "did you mean numbers-0123, "),
            ("numbers-01234", "? 501 models are served"),
            (
                "beer",
                "served: numbers-0000, numbers-0001, numbers-0002, numbers-0003, numbers-0004 and 496 more",
            ),
            (&*"numbers-".repeat(50), "… is not served"),
        ] {
            let error = trial.ask(row, &[("model", name)], End::Code("MODEL_NOT_FOUND")).await;
            let body = String::from_utf8(error.data.to_vec()).unwrap();
            assert!(body.len() < 400 && body.contains(expected), "{body}");
        }
    }
    ids.extend(trial.wines(100));
    trial.world.responses(&ids).await;
    worker.until_metric("predictd_messages_in_hand", 0.0).await;
    let asked = Instant::now();
    let (_, metrics) = worker.get("/metrics").await;
    let took = asked.elapsed();
    assert!(metrics.len() < 1_500_000, "/metrics has {} bytes", metrics.len());
    let count = |line: &str| metrics.lines().filter(|found| found.starts_with(line)).count();
    assert_eq!(count("predictd_inference_seconds_count{"), 101);
    assert_eq!(count("predictd_rows_total{model=\"numbers-"), MODELS);
    let address = worker.address().await;
    let unread: Vec<TcpStream> = (0..200)
        .map(|_| {
            let client = TcpStream::connect(&address).unwrap();
            set_socket_recv_buffer_size(&client, 4096).unwrap();
            (&client).write_all(b"GET /metrics HTTP/1.1\r\nhost: worker\r\n\r\n").unwrap();
            client
        })
        .collect();
    probe(&worker).await;
    let asked = Instant::now();
    worker.get("/metrics").await;
    assert!(asked.elapsed() < PROBE / 2, "behind 200 others, /metrics took {:?}", asked.elapsed());
    let happened = format!("/metrics has {} KiB in {took:.2?}", metrics.len() / 1024);
    trial.judge(&worker, Allowed::default(), &happened).await;
    drop(unread);
    trial.each_was_delivered_once();
}

/// Stops these threads until its input ends. Exits with 3 where it may not.
const STOP_THREADS: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
SEIZE, INTERRUPT, EVERY_THREAD = 0x4206, 0x4207, 0x40000000
for thread in map(int, sys.argv[1:]):
    for request in SEIZE, INTERRUPT:
        if libc.ptrace(request, thread, None, None) == -1:
            print(os.strerror(ctypes.get_errno()), file=sys.stderr)
            sys.exit(3)
    os.waitpid(thread, EVERY_THREAD)
print("stopped", flush=True)
sys.stdin.read()
"#;

/// Threads that decode large bodies for as long as the test lasts would look the same to a probe.
#[tokio::test(flavor = "multi_thread")]
async fn a_probe_is_answered_while_all_threads_that_decode_are_busy() {
    let world = World::start().await;
    world.upload_version("wine/2", "wine", "2");
    let worker = world.ready_worker(&[("TOKIO_WORKER_THREADS", "1")]).await;
    let tasks = format!("/proc/{}/task", worker.process());
    let decodes = |thread: &std::fs::DirEntry| {
        std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.starts_with("tokio-"))
    };
    let threads = std::fs::read_dir(tasks).unwrap().map(Result::unwrap).filter(decodes);
    let threads: Vec<_> = threads.map(|thread| thread.file_name()).collect();
    assert!(!threads.is_empty());
    let mut python = Command::new("python3");
    python.args(["-c", STOP_THREADS]).args(threads).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut stopper = python.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(stopper.stdout.take().unwrap()).read_line(&mut said).unwrap();
    if said != "stopped\n" {
        assert_eq!(stopper.wait().unwrap().code(), Some(3));
        return skip("a probe beside busy threads: threads of another process may not be stopped here");
    }
    let id = world.publish(wine().request(&[0]), &[]);
    probe(&worker).await;
    drop(stopper.stdin.take());
    stopper.wait().unwrap();
    let responses = world.responses(std::slice::from_ref(&id)).await;
    assert_eq!(responses[&id].attributes["status"], "ok");
}
