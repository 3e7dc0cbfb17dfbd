//! Load, reloads, restarts and random faults together: what no single fault shows.
//!
//! A seed fixes what is done in which order; how it meets the worker's threads differs from run to run.
//! `scripts/soak` sets `SOAK_SECONDS` (else 10) and `SOAK_SEED` (else drawn).

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use local_gcp::faults::Fault;
use local_gcp::pubsub::wire::Subscription;
use tempfile::TempDir;

use super::hostile_requests::{self, Hostile};
use super::models::SIGFPE;
use super::{Trial, subscription};
use crate::support::harness::{PATIENCE, REQUEST_SUBSCRIPTION, Worker};
use crate::support::oracle::{self, Allowed, End, Verdict, wine};

const KEYS: usize = 5;
/// Requests that wait at most; more would only make the run longer, not harder.
const MOST_WAITING: u64 = 2000;
const MEDIA: &str = "storage.objects.get.media";
/// Models that no worker serves: sizes that no memory holds, a call without end, a crash of ONNX Runtime.
const BAD_MODELS: [&str; 5] = ["huge", "huge-rows", "huge-sequence", "endless", ABORT];
const ABORT: &str = "abort";

fn variable(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }

    fn fault(&mut self) -> (&'static str, Fault, usize) {
        let unavailable = || Fault::Fail("UNAVAILABLE".to_owned());
        let some = self.below(200);
        let times = 1 + self.below(3) as usize;
        let (method, fault) = match self.below(17) {
            0 => ("StreamingPull", Fault::ResetAfter(some)),
            1 => ("StreamingPull", Fault::CloseAfter(some)),
            2 => ("StreamingPull", Fault::DeliverTwice),
            3 => ("StreamingPull", Fault::IgnoreFlowControl),
            4 => ("StreamingPull", unavailable()),
            5 => ("Publish", unavailable()),
            6 => ("Publish", Fault::LoseReply),
            7 => ("Publish", Fault::DelayMs(some)),
            8 => ("Publish", Fault::FewerIds),
            // Not INVALID_ARGUMENT: several in a row are rightly answered with an error (fault 46).
            9 => ("Publish", Fault::Fail("PERMISSION_DENIED".to_owned())),
            10 => ("Acknowledge", unavailable()),
            11 => ("Acknowledge", Fault::LoseReply),
            12 => ("ModifyAckDeadline", unavailable()),
            13 => ("GetSubscription", unavailable()),
            14 => (MEDIA, Fault::Corrupt),
            15 => (MEDIA, Fault::ResetAfter(some * 50)),
            _ => (MEDIA, unavailable()),
        };
        (method, fault, times)
    }
}

struct Soak {
    trial: Trial,
    dice: Dice,
    worker: Worker,
    version: u64,
    /// The ids of every ordering key's requests, oldest first.
    ordered: HashMap<String, Vec<String>>,
    hostile: Vec<Hostile>,
    /// Temporary folder of all workers: it keeps the records of loads that ended them.
    temporary: TempDir,
    aborting: u64,
    crashes: u64,
    done: HashMap<&'static str, u64>,
}

impl Soak {
    async fn start(seed: u64) -> Self {
        let ordered = Subscription { enable_message_ordering: true, ..subscription() };
        let trial = Trial::with(ordered, 0, "", "").await;
        hostile_requests::upload(&trial.world);
        let temporary = tempfile::tempdir().unwrap();
        let worker = Self::worker(&trial, &temporary);
        worker.until_ready().await;
        let (ordered, done) = (HashMap::new(), HashMap::new());
        let hostile = hostile_requests::one_of_each();
        let (dice, version, aborting, crashes) = (Dice(seed), 2, 0, 0);
        Self { trial, dice, worker, version, ordered, hostile, temporary, aborting, crashes, done }
    }

    fn worker(trial: &Trial, temporary: &TempDir) -> Worker {
        trial.world.worker(&[
            ("PREDICTD_MODELS__DEFAULT", "wine"),
            ("PREDICTD_MODELS__POLL_INTERVAL", "1s"),
            ("PREDICTD_MODELS__LOAD_TIMEOUT", "10s"),
            ("TMPDIR", temporary.path().to_str().unwrap()),
        ])
    }

    fn restart(&mut self) {
        self.worker = Self::worker(&self.trial, &self.temporary);
    }

    fn upload_good_version(&mut self) -> String {
        self.version += 1;
        let (files, version) = (2 - self.version % 2, self.version.to_string());
        self.trial.world.upload_version(&format!("wine/{files}"), "wine", &version);
        version
    }

    async fn step(&mut self) {
        let did = match self.dice.below(100) {
            0..40 => {
                let count = 1 + self.dice.below(60);
                self.trial.wines(count as usize);
                "bursts"
            }
            40..50 => {
                let key = format!("key-{}", self.dice.below(KEYS as u64));
                for _ in 0..1 + self.dice.below(20) {
                    let rows = self.trial.next_wine();
                    let id = self.trial.ordered(wine().request(&rows), &[], &key, End::Wine(rows));
                    self.ordered.entry(key.clone()).or_default().push(id);
                }
                "ordered bursts"
            }
            50..53 => {
                let Hostile { body, attributes, end } =
                    &self.hostile[self.dice.below(self.hostile.len() as u64) as usize];
                self.trial.request(body.clone(), attributes, end.clone());
                "hostile requests"
            }
            53..55 => {
                self.trial.request(r#"{"instances": [[1, 2]]}"#, &[], End::Code("INVALID_INPUT"));
                self.trial.request("", &[("model", "nobody")], End::Code("MODEL_NOT_FOUND"));
                "bad requests"
            }
            55..60 => {
                self.upload_good_version();
                "good versions"
            }
            60 => {
                self.version += 1;
                let model = BAD_MODELS[self.dice.below(BAD_MODELS.len() as u64) as usize];
                self.aborting += u64::from(model == ABORT);
                let from = format!("faults/{model}/1");
                self.trial.world.upload_version(&from, "wine", &self.version.to_string());
                "hostile versions"
            }
            61 => {
                self.version += 1;
                self.trial
                    .world
                    .upload(&format!("models/wine/{}/model.onnx", self.version), b"no model".to_vec());
                "bad versions"
            }
            62..85 => {
                let (method, fault, times) = self.dice.fault();
                self.trial.inject(method, fault, times);
                if method == "StreamingPull" {
                    self.trial.world.server.reset_streams();
                }
                "faults"
            }
            85..87 => {
                self.trial.world.server.reset_streams();
                "resets"
            }
            87..89 => {
                self.trial.weigh(&self.worker);
                self.worker.signal("-TERM");
                let ended = self.worker.end().await;
                assert!(ended.success() || self.may_end_by_itself(ended), "{ended} {}", self.worker.log());
                self.restart();
                "stops"
            }
            89 => {
                self.trial.weigh(&self.worker);
                self.worker.signal("-KILL");
                self.worker.end().await;
                self.restart();
                "kills"
            }
            _ => {
                let pause = self.dice.below(500);
                tokio::time::sleep(Duration::from_millis(pause)).await;
                "pauses"
            }
        };
        *self.done.entry(did).or_default() += 1;
        self.supervise();
        let end = Instant::now() + PATIENCE;
        while self.waiting() > MOST_WAITING {
            self.supervise();
            assert!(Instant::now() < end, "{} requests wait:\n{}", self.waiting(), self.worker.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(self.dice.below(100))).await;
    }

    /// A start that meets servers in trouble says so and ends.
    fn never_began(&self) -> bool {
        let log = self.worker.log();
        // An empty log: it was stopped before it could write.
        log.is_empty() || log.contains("\"why\":\"cannot reach")
    }

    /// A version that crashes ONNX Runtime may do so twice.
    fn may_end_by_itself(&mut self, ended: ExitStatus) -> bool {
        if ended.signal() == Some(SIGFPE) {
            self.crashes += 1;
            return self.crashes <= 2 * self.aborting;
        }
        self.never_began()
    }

    /// Restarts a worker that has ended. Only crashing versions and unreachable servers may end one.
    fn supervise(&mut self) {
        if let Some(ended) = self.worker.ended() {
            let log = self.worker.log();
            assert!(self.may_end_by_itself(ended), "the worker ended by itself: {ended}\n{log}");
            self.restart();
            *self.done.entry("unasked ends").or_default() += 1;
        }
    }

    /// Waits for a last good version, which ends the attempts to load those before it.
    async fn until_a_last_version_is_served(&mut self) {
        let last = self.upload_good_version();
        let served = format!("\"gs://models/models/wine/{last}\",\"message\":\"version in service\"");
        let end = Instant::now() + PATIENCE;
        loop {
            self.supervise();
            if self.worker.log().contains(&served) {
                return;
            }
            assert!(Instant::now() < end, "wine {last} is not served:\n{}", self.worker.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn waiting(&self) -> u64 {
        let counts = self.trial.world.server.pubsub.counts(REQUEST_SUBSCRIPTION).unwrap();
        (counts.undelivered + counts.outstanding) as u64
    }

    /// Everything is well again: what has become of all that was asked?
    async fn judge(&mut self) -> Verdict {
        self.trial.world.server.faults.clear();
        self.until_a_last_version_is_served().await;
        let verdict = self.trial.verdict(&self.worker, Allowed::EXPLAINED).await;
        self.trial.world.server.history.with(|events| {
            for ids in self.ordered.values() {
                oracle::in_order(events, ids.iter().map(String::as_str));
            }
        });
        verdict
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_at_once() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = variable("SOAK_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    let duration = Duration::from_secs(variable("SOAK_SECONDS").unwrap_or(10));
    println!("scripts/soak {} {seed}", duration.as_secs().div_ceil(60));
    let mut soak = Soak::start(seed).await;
    let end = Instant::now() + duration;
    while Instant::now() < end {
        soak.step().await;
    }
    let Verdict { asked, duplicates, dead } = soak.judge().await;
    assert_eq!(dead, 0);
    println!(
        "{asked} requests, {duplicates} duplicates, {} crashes, peak {} MiB; {:?}",
        soak.crashes, soak.trial.peak_mib, soak.done
    );
}
