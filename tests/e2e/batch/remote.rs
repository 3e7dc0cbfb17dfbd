//! A world whose workers take jobs from a topic, with what its tests ask of it.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use local_gcp::Notification;
use local_gcp::history::{Event, What};
use local_gcp::pubsub::wire::{DeadLetterPolicy, PubsubMessage, Subscription};
use local_gcp::storage::ListQuery;
use serde_json::Value;

use super::json_lines;
use crate::support::harness::{PATIENCE, REQUEST_SUBSCRIPTION, REQUESTS, Worker, World, outcome};

pub(super) const BATCHES: &str = "projects/demo/topics/batches";
pub(super) const SUBSCRIPTION: &str = "projects/demo/subscriptions/batches";
pub(super) const DEAD: &str = "projects/demo/topics/dead-batches";
/// Buckets that jobs may use; `secret` is another one.
const ALLOWED: &str = "data,results/here";

pub(super) struct Remote {
    pub(super) world: World,
}

impl Remote {
    /// With wine 2, and a dead-letter policy of so many attempts.
    pub(super) async fn start(attempts: i32) -> Self {
        let policy = DeadLetterPolicy { dead_letter_topic: DEAD.to_owned(), max_delivery_attempts: attempts };
        let subscription = Subscription {
            name: SUBSCRIPTION.to_owned(),
            topic: BATCHES.to_owned(),
            dead_letter_policy: Some(policy),
            ..Subscription::default()
        };
        let options = [
            ("model", "wine"),
            ("output", "gs://results/here/"),
            ("key_field", "id"),
            ("exclude", "note,hint"),
        ];
        let watched = Notification {
            bucket: "data".to_owned(),
            topic: BATCHES.to_owned(),
            prefix: Some("watched/".to_owned()),
            attributes: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        };
        let world = World::start_with(|builder| {
            let builder = builder.subscription(REQUEST_SUBSCRIPTION, REQUESTS).topic(BATCHES).topic(DEAD);
            let builder = builder.bucket("data").bucket("results").bucket("secret");
            builder.subscription_with(subscription).notification_with(watched)
        })
        .await;
        world.upload_version("wine/2", "wine", "2");
        Self { world }
    }

    pub(super) fn unready_worker(&self, more: &[(&str, &str)]) -> Worker {
        let own = [
            ("PREDICTD_FILES__SUBSCRIPTION", "batches"),
            ("PREDICTD_FILES__ALLOWED_BUCKETS", ALLOWED),
            ("PREDICTD_MODELS__DEFAULT", "wine"),
            ("PREDICTD_INFERENCE__THREADS", "1"),
        ];
        self.world.worker(&[&own, more].concat())
    }

    pub(super) async fn worker(&self) -> Worker {
        let worker = self.unready_worker(&[]);
        worker.until_ready().await;
        worker
    }

    pub(super) fn put(&self, name: &str, content: impl Into<Bytes>) -> String {
        self.world.server.storage.put("data", name, content).unwrap();
        format!("gs://data/{name}")
    }

    pub(super) fn batch(&self, arguments: &[&str]) -> Command {
        let mut command = self.world.command();
        command.arg("batch").args(arguments);
        command
    }

    /// `predictd batch` for gs://data/out/`out`.
    pub(super) fn command(&self, model: &str, input: &str, out: &str, more: &[&str]) -> Command {
        let out = format!("gs://data/out/{out}");
        let own = ["--topic", BATCHES, "--model", model, "--input", input, "--output", &out];
        self.batch(&[&own, more].concat())
    }

    /// Runs a job to its end, which must have this code; what it printed.
    pub(super) fn ends(&self, code: i32, model: &str, input: &str, out: &str, more: &[&str]) -> String {
        let (got, stdout, stderr) = outcome(self.command(model, input, out, more), "");
        assert_eq!(got, code, "{stdout}{stderr}");
        stdout + &stderr
    }

    /// The command, running.
    pub(super) fn begin(&self, model: &str, input: &str, out: &str, more: &[&str]) -> Watcher {
        let mut command = self.command(model, input, out, more);
        Watcher(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
    }

    pub(super) fn publish(&self, body: impl Into<Bytes>) -> String {
        let message = PubsubMessage { data: body.into(), ..PubsubMessage::default() };
        self.world.server.pubsub.publish(BATCHES, vec![message]).unwrap().remove(0)
    }

    /// `predictd batch status --json` for gs://data/out/`out`.
    pub(super) fn status(&self, out: &str) -> Value {
        let command = self.batch(&["status", "--json", &format!("gs://data/out/{out}")]);
        let (code, stdout, stderr) = outcome(command, "");
        assert_eq!(code, 0, "{stderr}");
        serde_json::from_str(&stdout).unwrap()
    }

    /// Like [`Self::status`]; none while there is no job.
    pub(super) fn status_if(&self, out: &str) -> Option<Value> {
        let is_planned = !self.objects("data", &format!("out/{out}/job.json")).is_empty();
        is_planned.then(|| self.status(out))
    }

    /// The objects of a bucket that begin so, by the rest of their names.
    pub(super) fn objects(&self, bucket: &str, prefix: &str) -> BTreeMap<String, Bytes> {
        let mut query = ListQuery { prefix: prefix.to_owned(), ..ListQuery::default() };
        let mut found = BTreeMap::new();
        loop {
            let page = self.world.server.storage.list_objects(bucket, &query).unwrap();
            let rest = |name: &str| name[prefix.len()..].to_owned();
            found.extend(page.objects.iter().map(|object| (rest(&object.name), object.body.clone())));
            let Some(token) = page.next_page_token else { return found };
            query.page_token = token;
        }
    }

    /// The results and errors of gs://data/out/`out`, byte for byte.
    pub(super) fn output(&self, out: &str) -> BTreeMap<String, Bytes> {
        let mut objects = self.objects("data", &format!("out/{out}/"));
        objects.retain(|name, _| name.starts_with("prediction."));
        objects
    }

    /// The lines of the results, in order.
    pub(super) fn results(&self, out: &str) -> Vec<Value> {
        let files = self.output(out).into_iter().filter(|(name, _)| name.starts_with("prediction.results-"));
        files.flat_map(|(_, text)| json_lines(std::str::from_utf8(&text).unwrap())).collect()
    }

    /// Number of finished shards so far.
    pub(super) fn finished(&self, out: &str) -> usize {
        self.output(out).keys().filter(|name| name.starts_with("prediction.results-")).count()
    }

    pub(super) async fn until_finished(&self, out: &str, shards: usize) {
        until(&format!("shard {shards} of {out}"), || self.finished(out) >= shards).await;
    }

    /// Waits until no message is left.
    pub(super) async fn settled(&self) {
        until("the last message", || {
            let counts = self.world.server.pubsub.counts(SUBSCRIPTION).unwrap();
            counts.undelivered == 0 && counts.outstanding == 0
        })
        .await;
    }

    pub(super) fn count(&self, is: impl Fn(&What) -> bool) -> usize {
        let is = |event: &&Event| is(&event.what);
        self.world.server.history.with(|events| events.iter().filter(is).count())
    }

    /// The order in which the results and errors of gs://data/out/`out` were written, by their names.
    pub(super) fn order(&self, out: &str) -> Vec<String> {
        let begin = format!("out/{out}/");
        self.world.server.history.with(|events| {
            let name = |event: &Event| match &event.what {
                What::Finalized(written) => written.object.strip_prefix(&begin).map(str::to_owned),
                _ => None,
            };
            events.iter().filter_map(name).collect()
        })
    }

    /// Generations that became live of the results of gs://data/out/`out`.
    pub(super) fn written(&self, out: &str) -> usize {
        let begin = format!("out/{out}/prediction.results-");
        self.count(|what| matches!(what, What::Finalized(written) if written.object.starts_with(&begin)))
    }
}

/// A command that watches its job; killed when dropped.
pub(super) struct Watcher(Option<Child>);

impl Watcher {
    /// Waits for its end: exit code, standard output, standard error. One that does not end is killed.
    pub(super) async fn end(mut self) -> (i32, String, String) {
        let child = self.0.take().unwrap();
        let id = child.id().to_string();
        let ended = tokio::task::spawn_blocking(move || child.wait_with_output());
        let mut ended = std::pin::pin!(ended);
        let output = match tokio::time::timeout(PATIENCE, &mut ended).await {
            Ok(output) => output,
            Err(_) => {
                assert!(Command::new("kill").args(["-KILL", &id]).status().unwrap().success());
                ended.await
            }
        };
        let output = output.unwrap().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code().unwrap_or(-1), stdout, stderr)
    }

    pub(super) fn signal(&self, signal: &str) {
        let id = self.0.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits for what nobody announces.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what} never came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
