//! A worker survives each of these faults, injected for real and judged by the oracle. tests/GUARANTEES.md is
//! the table of them. `scripts/faults` runs them all and prints what happened.

mod black_hole;
mod hostile_requests;
mod http_clients;
mod http_requests;
mod memory;
mod models;
mod ordering_keys;
mod publishing;
mod receiving;
mod references;
mod requests;
mod restarts;
mod soak;
pub(crate) mod table;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use local_gcp::Builder;
use local_gcp::faults::Fault;
use local_gcp::history::{Delivery, Event, What};
use local_gcp::pubsub::wire::{DeadLetterPolicy, PubsubMessage, Subscription};

use crate::support::harness::{PATIENCE, REQUEST_SUBSCRIPTION, REQUESTS, Worker, World};
use crate::support::oracle::{self, Allowed, End, Verdict, wine};

const DEAD: &str = "projects/demo/topics/dead-letters";
/// Peak memory of a debug build with ONNX Runtime and small messages.
const MEMORY_CAP_MIB: u64 = 512;

/// One fault in a world of its own, and how each of its requests must end.
struct Trial {
    world: World,
    number: u8,
    injected: &'static str,
    promise: &'static str,
    ends: HashMap<String, End>,
    wines: usize,
    peak_mib: u64,
}

fn subscription() -> Subscription {
    Subscription {
        name: REQUEST_SUBSCRIPTION.to_owned(),
        topic: REQUESTS.to_owned(),
        ..Subscription::default()
    }
}

fn with_dead_letters() -> Subscription {
    let policy = DeadLetterPolicy { dead_letter_topic: DEAD.to_owned(), max_delivery_attempts: 5 };
    Subscription { dead_letter_policy: Some(policy), ..subscription() }
}

impl Trial {
    async fn new(number: u8, injected: &'static str, promise: &'static str) -> Self {
        Self::with(subscription(), number, injected, promise).await
    }

    /// On a subscription of another kind. The model is `wine`.
    async fn with(
        subscription: Subscription,
        number: u8,
        injected: &'static str,
        promise: &'static str,
    ) -> Self {
        let change = |builder: Builder| builder.topic(DEAD).subscription_with(subscription);
        let world = World::start_with(change).await;
        world.upload_version("wine/2", "wine", "2");
        Self::of(world, number, injected, promise)
    }

    /// In a world that has what it needs.
    fn of(world: World, number: u8, injected: &'static str, promise: &'static str) -> Self {
        Self { world, number, injected, promise, ends: HashMap::new(), wines: 0, peak_mib: 0 }
    }

    /// A worker whose default model is `wine`, and whose only stream is that of the requests: faults meet no
    /// other.
    async fn worker(&self, variables: &[(&str, &str)]) -> Worker {
        let own = [("PREDICTD_MODELS__DEFAULT", "wine"), ("PREDICTD_MODELS__UPDATES", "")];
        let variables = [&own, variables].concat();
        self.world.ready_worker(&variables).await
    }

    fn request(&mut self, body: impl Into<Bytes>, attributes: &[(&str, &str)], end: End) -> String {
        let id = self.world.publish(body, attributes);
        self.ends.insert(id.clone(), end);
        id
    }

    fn ordered(
        &mut self,
        body: impl Into<Bytes>,
        attributes: &[(&str, &str)],
        key: &str,
        end: End,
    ) -> String {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let message = PubsubMessage {
            data: body.into(),
            attributes: attributes.collect(),
            ordering_key: key.to_owned(),
            ..PubsubMessage::default()
        };
        let id = self.world.server.pubsub.publish(REQUESTS, vec![message]).unwrap().remove(0);
        self.ends.insert(id.clone(), end);
        id
    }

    /// Rows of the next request for wine.
    fn next_wine(&mut self) -> Vec<usize> {
        self.wines += 1;
        vec![self.wines * 7 % wine().rows.len()]
    }

    /// Good requests, one row each.
    fn wines(&mut self, count: usize) -> Vec<String> {
        let one = |_| {
            let rows = self.next_wine();
            self.request(wine().request(&rows), &[], End::Wine(rows))
        };
        (0..count).map(one).collect()
    }

    /// Asks and waits for the answer.
    async fn ask(&mut self, body: impl Into<Bytes>, attributes: &[(&str, &str)], end: End) -> PubsubMessage {
        let id = self.request(body, attributes, end);
        self.world.responses(std::slice::from_ref(&id)).await.remove(&id).unwrap()
    }

    /// The worker is ready and answers with this version of wine; what it answers is judged at the end.
    async fn serves(&mut self, worker: &Worker, version: &str) {
        assert_eq!(worker.get("/ready").await.0, 200);
        let rows = vec![3, 90];
        let response = self.ask(wine().request(&rows), &[], End::Wine(rows)).await;
        assert_eq!(response.attributes["model_version"], version, "{response:?}");
    }

    /// No request was nacked or redelivered.
    fn each_was_delivered_once(&self) {
        assert_eq!(self.count(is_delivery), self.ends.len());
        assert_eq!((self.count(is_nack), self.count(is_expiry)), (0, 0), "given back, and leases that ended");
    }

    fn inject(&self, method: &str, fault: Fault, times: usize) {
        self.world.server.faults.inject(method, fault, times);
    }

    /// Number of the `injected` faults that were met so far.
    fn met(&self, method: &str, injected: usize) -> usize {
        injected - self.world.server.faults.waiting(method)
    }

    async fn until_met(&self, method: &str, injected: usize, times: usize) {
        until(&format!("fault {times} of {method}"), || self.met(method, injected) >= times).await;
    }

    fn expire_leases(&self) {
        self.world.server.pubsub.expire_leases(REQUEST_SUBSCRIPTION).unwrap();
    }

    fn count(&self, is: impl Fn(&Event) -> bool) -> usize {
        self.world.server.history.with(|events| events.iter().filter(|event| is(event)).count())
    }

    async fn until_counted(&self, what: &str, count: usize, is: impl Fn(&Event) -> bool) {
        let history = &self.world.server.history;
        let counted =
            history.wait_until(PATIENCE, |events| events.iter().filter(|event| is(event)).count() >= count);
        assert!(counted.await, "{what} never came {count} times");
    }

    /// The worker's peak memory counts for the judgement: call before it ends.
    fn weigh(&mut self, worker: &Worker) -> u64 {
        let peak = worker.peak_mib();
        self.peak_mib = self.peak_mib.max(peak);
        peak
    }

    /// Waits until every request has ended, judges all that happened, and notes the row of the table.
    async fn judge(&mut self, worker: &Worker, allowed: Allowed, happened: &str) -> Verdict {
        let verdict = self.verdict(worker, allowed).await;
        self.note(&verdict, happened);
        verdict
    }

    async fn verdict(&mut self, worker: &Worker, allowed: Allowed) -> Verdict {
        let answered: Vec<String> =
            self.ends.iter().filter(|(_, end)| !matches!(end, End::Dead)).map(|(id, _)| id.clone()).collect();
        self.world.responses(&answered).await;
        self.world.settled().await;
        // The second response to a redelivered request may not be published yet.
        worker.until_metric("predictd_messages_in_hand", 0.0).await;
        worker.until_ready().await;
        assert_eq!(worker.get("/health").await.0, 200);
        self.weigh(worker);
        assert!(self.peak_mib <= MEMORY_CAP_MIB, "peak memory: {} MiB", self.peak_mib);
        let World { server, contents } = &self.world;
        server.history.with(|events| oracle::judge(events, &self.ends, contents, allowed))
    }

    fn note(&self, verdict: &Verdict, happened: &str) {
        let Verdict { asked, duplicates, dead } = verdict;
        let counts = format!(
            "{asked} requests, {duplicates} duplicates, {dead} dead-lettered, peak {} MiB",
            self.peak_mib
        );
        let happened = if happened.is_empty() { counts } else { format!("{happened}; {counts}") };
        table::row(self.number, self.injected, self.promise, &happened);
    }
}

fn is_delivery(event: &Event) -> bool {
    matches!(&event.what, What::Delivered(delivery) if is_request(delivery))
}

fn is_request(delivery: &Delivery) -> bool {
    *delivery.subscription == *REQUEST_SUBSCRIPTION
}

fn is_nack(event: &Event) -> bool {
    matches!(&event.what, What::Nacked(delivery) if is_request(delivery))
}

fn is_expiry(event: &Event) -> bool {
    matches!(&event.what, What::Expired(delivery) if is_request(delivery))
}

/// Waits for what nobody announces.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what} never came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
