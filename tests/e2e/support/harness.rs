//! A world for one test: its own server on a free port, its own worker process, all gone at its end.

use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use local_gcp::history::{Delivery, Event, What};
use local_gcp::pubsub::wire::{PubsubMessage, Subscription};
use local_gcp::{Builder, Server};

use crate::support::oracle::Contents;

pub(crate) const REQUESTS: &str = "projects/demo/topics/prediction-requests";
pub(crate) const RESPONSES: &str = "projects/demo/topics/prediction-responses";
pub(crate) const REQUEST_SUBSCRIPTION: &str = "projects/demo/subscriptions/prediction-requests";
const UPDATES: &str = "projects/demo/topics/model-updates";
/// Far more than any wait takes: a condition that does not hold by then has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn model_file(version: &str, file: &str) -> Vec<u8> {
    std::fs::read(repository().join("tests/models").join(version).join(file)).unwrap()
}

/// A checksum in the form of Cloud Storage.
pub(crate) fn crc(data: &[u8]) -> String {
    predictd::model::bundle::base64_be(crc32c::crc32c(data))
}

/// ONNX Runtime's library, fetched once.
pub(crate) fn onnxruntime() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Ok(path) = std::env::var("ORT_DYLIB_PATH") {
            return path;
        }
        let output = Command::new(repository().join("scripts/fetch-onnxruntime")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

/// Says that the test that runs leaves something out, and why: cargo shows no word of a test that passes, so
/// `scripts/test` lists these at its end.
pub(crate) fn skip(what: &str) {
    eprintln!("SKIPPED: {what}");
    let folder = repository().join("target/skipped");
    std::fs::create_dir_all(&folder).unwrap();
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("unnamed").replace("::", ".");
    let mut file = std::fs::File::options().create(true).append(true).open(folder.join(test)).unwrap();
    writeln!(file, "{what}").unwrap();
}

/// A client; the choice of the TLS library is the program's, even where none is spoken.
pub(crate) fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

pub(crate) struct World {
    pub(crate) server: Server,
    /// Uploaded model files, for the judge.
    pub(crate) contents: Contents,
}

impl World {
    /// Starts a server with every resource that config/local.yaml names, which records all events.
    pub(crate) async fn start() -> Self {
        Self::start_with(|builder| {
            builder.subscription("projects/demo/subscriptions/prediction-requests", REQUESTS)
        })
        .await
    }

    pub(crate) async fn start_with(change: impl FnOnce(Builder) -> Builder) -> Self {
        let builder = Server::builder()
            .record()
            .topic(REQUESTS)
            .topic(RESPONSES)
            .topic(UPDATES)
            .subscription("projects/demo/subscriptions/model-updates", UPDATES)
            .bucket("models")
            .notification("models", UPDATES, Some("models/".to_owned()));
        Self { server: change(builder).start().await.unwrap(), contents: Contents::default() }
    }

    /// A world whose requests keep the order of their keys.
    pub(crate) async fn start_ordered(change: impl FnOnce(Builder) -> Builder) -> Self {
        let requests = Subscription {
            name: REQUEST_SUBSCRIPTION.to_owned(),
            topic: REQUESTS.to_owned(),
            enable_message_ordering: true,
            ..Subscription::default()
        };
        Self::start_with(|builder| change(builder.subscription_with(requests))).await
    }

    pub(crate) fn upload(&self, object: &str, data: Vec<u8>) {
        let stored = self.server.storage.put("models", object, data.clone()).unwrap();
        self.contents.uploaded(stored.generation, &data);
    }

    pub(crate) fn delete(&self, object: &str) {
        let target = local_gcp::storage::Target {
            bucket: "models".to_owned(),
            name: object.to_owned(),
            generation: None,
            conditions: local_gcp::storage::Conditions::default(),
        };
        self.server.storage.delete_object(&target).unwrap();
    }

    /// A version of tests/models, the model file last.
    pub(crate) fn upload_version(&self, from: &str, model: &str, version: &str) {
        if repository().join("tests/models").join(from).join("MLmodel").exists() {
            self.upload(&format!("models/{model}/{version}/MLmodel"), model_file(from, "MLmodel"));
        }
        self.upload(&format!("models/{model}/{version}/model.onnx"), model_file(from, "model.onnx"));
    }

    /// Version 1 of a model from this folder of tests/models, with a declaration unless that is empty.
    pub(crate) fn upload_declared(&self, model: &str, from: &str, declaration: &str) {
        if !declaration.is_empty() {
            self.upload(&format!("models/{model}/1/model.yaml"), declaration.as_bytes().to_vec());
        }
        self.upload(&format!("models/{model}/1/model.onnx"), model_file(from, "model.onnx"));
    }

    /// The message id.
    pub(crate) fn publish(&self, body: impl Into<Bytes>, attributes: &[(&str, &str)]) -> String {
        let attributes =
            attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let message = PubsubMessage { data: body.into(), attributes, ..Default::default() };
        self.server.pubsub.publish(REQUESTS, vec![message]).unwrap().remove(0)
    }

    /// Waits until every one of these requests has a response; the responses by request message id.
    pub(crate) async fn responses(&self, ids: &[String]) -> HashMap<String, PubsubMessage> {
        let mut waiting: HashSet<&str> = ids.iter().map(String::as_str).collect();
        let mut seen = 0;
        let complete = self
            .server
            .history
            .wait_until(PATIENCE, |events| {
                // Only what is new: to go through a long history at every event would leave the server no
                // time.
                for id in crate::support::oracle::responses(&events[seen..]).into_keys() {
                    waiting.remove(id);
                }
                seen = events.len();
                waiting.is_empty()
            })
            .await;
        self.server.history.with(|events| {
            let answered = crate::support::oracle::responses(events);
            let missing: Vec<_> = ids.iter().filter(|id| !answered.contains_key(id.as_str())).collect();
            assert!(
                complete && missing.is_empty(),
                "{} of {} requests have no response: {missing:.5?}",
                missing.len(),
                ids.len()
            );
            ids.iter().map(|id| (id.clone(), PubsubMessage::clone(answered[id.as_str()][0]))).collect()
        })
    }

    pub(crate) async fn ask(&self, body: impl Into<Bytes>, attributes: &[(&str, &str)]) -> PubsubMessage {
        let id = self.publish(body, attributes);
        self.responses(std::slice::from_ref(&id)).await.remove(&id).unwrap()
    }

    /// Waits until every request is acknowledged.
    pub(crate) async fn settled(&self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let counts = self.server.pubsub.counts(REQUEST_SUBSCRIPTION).unwrap();
            if counts.undelivered == 0 && counts.outstanding == 0 {
                return;
            }
            assert!(Instant::now() < end, "some requests were never acknowledged: {counts:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until this request was acknowledged.
    pub(crate) async fn acknowledged(&self, id: &str) {
        let is_ack =
            |event: &Event| matches!(&event.what, What::Acked(delivery) if *delivery.message_id == *id);
        let acked = self.server.history.wait_until(PATIENCE, |events| events.iter().any(is_ack));
        assert!(acked.await, "{id} was never acknowledged");
    }

    /// Waits until so many requests were delivered to workers.
    pub(crate) async fn delivered(&self, requests: usize) {
        let is_delivery = |event: &Event| matches!(&event.what, What::Delivered(Delivery { subscription, .. }) if **subscription == *REQUEST_SUBSCRIPTION);
        let delivered = self.server.history.wait_until(PATIENCE, |events| {
            events.iter().filter(|event| is_delivery(event)).count() >= requests
        });
        assert!(delivered.await, "fewer than {requests} requests were delivered");
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_predictd"));
        command
            .env("ORT_DYLIB_PATH", onnxruntime())
            .env("PUBSUB_EMULATOR_HOST", self.server.host())
            .env("STORAGE_EMULATOR_HOST", self.server.host());
        command
    }

    /// A worker with config/local.yaml and these variables over it.
    pub(crate) fn worker(&self, variables: &[(&str, &str)]) -> Worker {
        Worker::spawn(self.run(variables))
    }

    /// The command of [`World::worker`].
    pub(crate) fn run(&self, variables: &[(&str, &str)]) -> Command {
        let mut command = self.command();
        command
            .args(["run", "--config"])
            .arg(repository().join("config/local.yaml"))
            .env("PREDICTD_HTTP__LISTEN", "127.0.0.1:0")
            .envs(variables.iter().copied());
        command
    }

    pub(crate) async fn ready_worker(&self, variables: &[(&str, &str)]) -> Worker {
        let worker = self.worker(variables);
        worker.until_ready().await;
        worker
    }
}

/// A running worker; killed when dropped.
pub(crate) struct Worker {
    child: Child,
    log: Arc<Mutex<Log>>,
}

/// The log of a worker, read from its pipe.
struct Log {
    pipe: ChildStderr,
    written: Vec<u8>,
    has_ended: bool,
}

impl Log {
    /// Reads all that the worker has written by now, without waiting for more.
    fn read(&mut self) {
        let mut chunk = [0; 1 << 16];
        while !self.has_ended {
            match self.pipe.read(&mut chunk) {
                Ok(0) => self.has_ended = true,
                Ok(size) => self.written.extend_from_slice(&chunk[..size]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
            }
        }
    }

    /// The lines so far, without one that is only written in part.
    fn lines(&mut self) -> String {
        self.read();
        let whole = self.written.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        let end = if self.has_ended { self.written.len() } else { whole };
        String::from_utf8_lossy(&self.written[..end]).trim_end().to_owned()
    }
}

impl Worker {
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let pipe = child.stderr.take().unwrap();
        rustix::io::ioctl_fionbio(&pipe, true).unwrap();
        let log = Arc::new(Mutex::new(Log { pipe, written: Vec::new(), has_ended: false }));
        let read_along = Arc::clone(&log);
        // A worker would wait for a reader of a full pipe.
        std::thread::spawn(move || {
            loop {
                let mut log = read_along.lock().unwrap();
                log.read();
                if log.has_ended {
                    return;
                }
                drop(log);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { child, log }
    }

    /// The lines that the worker has logged by now; all of them, once it has ended.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().lines()
    }

    /// Asks until the condition holds, for state that the worker reports only when asked.
    pub(crate) async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, ask: impl Fn() -> F) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(Instant::now() < end, "{what} never came; the worker's log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn address(&self) -> String {
        self.until("the http address", async || {
            self.log().lines().find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                Some(line.get("address")?.as_str()?.to_owned())
            })
        })
        .await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.address().await);
        let response = http().get(url).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Waits until the worker has logged this, running or not.
    pub(crate) async fn until_log(&self, text: &str) {
        self.until(&format!("{text:?} in the log"), async || self.log().contains(text).then_some(())).await;
    }

    pub(crate) async fn until_ready(&self) {
        self.until("readiness", async || (self.get("/ready").await.0 == 200).then_some(())).await;
    }

    pub(crate) async fn until_not_ready(&self, because: &str) {
        self.until("a reason not to be ready", async || {
            let (status, text) = self.get("/ready").await;
            (status == 503 && text.contains(because)).then_some(())
        })
        .await;
    }

    pub(crate) async fn info(&self) -> serde_json::Value {
        serde_json::from_str(&self.get("/info").await.1).unwrap()
    }

    /// Waits until `/info` says so; what it said.
    pub(crate) async fn until_info(
        &self,
        what: &str,
        holds: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        self.until(what, async || {
            let info = self.info().await;
            holds(&info).then_some(info)
        })
        .await
    }

    pub(crate) async fn until_serving(&self, model: &str, version: &str) {
        self.until_info(&format!("version {version}"), |info| {
            info["models"][model]["serving"]["version"] == version
        })
        .await;
    }

    /// The value of the first line of `/metrics` that begins so.
    pub(crate) async fn metric(&self, line: &str) -> Option<f64> {
        let (_, metrics) = self.get("/metrics").await;
        let found = metrics.lines().find(|found| found.starts_with(line))?;
        found.rsplit(' ').next()?.parse().ok()
    }

    pub(crate) async fn until_metric(&self, line: &str, value: f64) {
        self.until(&format!("{line} {value}"), async || {
            self.metric(line).await.filter(|found| *found == value)
        })
        .await;
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// The most memory that it ever had, in MiB.
    pub(crate) fn peak_mib(&self) -> u64 {
        self.status_kib("VmHWM:") / 1024
    }

    /// The memory that it has now.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// 0 once the process has ended.
    fn status_kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0 kB");
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    /// Processor time so far, of all its threads; in hundredths of a second.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name in parentheses may hold blanks; `utime` and `stime` are the 12th and 13th after it.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks: u64 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Exit status; none while it runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// True while it runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.ended().is_none()
    }

    /// Waits for the end; the exit status.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < end, "the worker does not end; its log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the worker's log:\n{}", self.log());
        }
    }
}

/// A command's exit code, standard output and standard error.
pub(crate) fn outcome(mut command: Command, input: &str) -> (i32, String, String) {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    (child.wait().unwrap().code().unwrap(), stdout, stderr)
}

pub(crate) fn temporary(name: &str, content: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    (folder, path)
}
