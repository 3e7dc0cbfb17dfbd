//! Google's clients, built in one place. The emulator variables mean what they mean for Google's other clients:
//! plaintext to that host, no credentials.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use google_cloud_auth::credentials::anonymous;
use google_cloud_gax::exponential_backoff::ExponentialBackoffBuilder;
use google_cloud_gax::retry_policy::{RetryPolicy, RetryPolicyExt as _};
use google_cloud_pubsub::client::{BasePublisher, SchemaService, Subscriber, SubscriptionAdmin, TopicAdmin};
use google_cloud_storage::client::{Storage, StorageControl};

/// How long a start-up or a probing call may take before the server counts as unreachable.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// `host:port` or a URL in `variable`, as a URL.
fn emulator(variable: &str) -> Option<String> {
    let host = std::env::var(variable).ok().filter(|host| !host.is_empty())?;
    Some(if host.contains("://") { host } else { format!("http://{host}") })
}

macro_rules! build {
    ($builder:expr, $emulator:expr) => {{
        let builder = $builder;
        let builder = match $emulator {
            Some(endpoint) => {
                builder.with_endpoint(endpoint).with_credentials(anonymous::Builder::new().build())
            }
            None => builder,
        };
        builder.build().await.context("cannot set up Google's client")
    }};
}

/// Where Pub/Sub is, as a message to a person says it.
pub fn pubsub_address() -> String {
    emulator("PUBSUB_EMULATOR_HOST").unwrap_or_else(|| "Google Pub/Sub".to_owned())
}

/// The same for Cloud Storage's listings.
pub fn storage_address() -> String {
    storage_control_endpoint().unwrap_or_else(|| "Google Cloud Storage".to_owned())
}

fn storage_control_endpoint() -> Option<String> {
    emulator("STORAGE_EMULATOR_HOST_GRPC").or_else(|| emulator("STORAGE_EMULATOR_HOST"))
}

/// The emulators in use, as their variables name them.
pub fn emulators() -> Vec<String> {
    let variables = ["PUBSUB_EMULATOR_HOST", "STORAGE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST_GRPC"];
    let named = variables.into_iter().filter_map(|variable| Some((variable, emulator(variable)?)));
    named.map(|(variable, address)| format!("{variable} ({address})")).collect()
}

/// Every service that is called is an emulator.
pub fn needs_no_credentials(uses_storage: bool) -> bool {
    let is_set = |variable| emulator(variable).is_some();
    is_set("PUBSUB_EMULATOR_HOST") && (is_set("STORAGE_EMULATOR_HOST") || !uses_storage)
}

pub async fn subscriber() -> anyhow::Result<Subscriber> {
    build!(Subscriber::builder(), emulator("PUBSUB_EMULATOR_HOST"))
}

/// `policy` decides what is tried again, for `PUBLISH_TIME` at most.
pub async fn publisher(policy: impl RetryPolicy + 'static) -> anyhow::Result<BasePublisher> {
    let policy = policy.with_time_limit(PUBLISH_TIME);
    let backoff = ExponentialBackoffBuilder::new()
        .with_initial_delay(Duration::from_millis(100))
        .with_maximum_delay(PUBLISH_BACKOFF)
        .with_scaling(4)
        .clamp();
    let builder = BasePublisher::builder().with_retry_policy(policy).with_backoff_policy(backoff);
    build!(builder, emulator("PUBSUB_EMULATOR_HOST"))
}

/// Between two attempts at most, where the client has a minute: a server in trouble is heard of often enough to be told from a
/// dead connection.
pub const PUBLISH_BACKOFF: Duration = Duration::from_secs(10);

/// How long the client tries to publish one call's messages, as it does by itself.
const PUBLISH_TIME: Duration = Duration::from_secs(600);

/// When the server last refused an attempt: what tells a server in trouble from a dead connection, which refuses nothing.
#[derive(Debug)]
pub struct Heard {
    born: Instant,
    /// Milliseconds after `born`.
    last: AtomicU64,
}

impl Default for Heard {
    fn default() -> Self {
        Self { born: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl Heard {
    pub fn now(&self) {
        let since = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }

    pub fn ago(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.born.elapsed().saturating_sub(last)
    }
}

pub async fn subscription_admin() -> anyhow::Result<SubscriptionAdmin> {
    build!(SubscriptionAdmin::builder(), emulator("PUBSUB_EMULATOR_HOST"))
}

pub async fn topic_admin() -> anyhow::Result<TopicAdmin> {
    build!(TopicAdmin::builder(), emulator("PUBSUB_EMULATOR_HOST"))
}

pub async fn schema_service() -> anyhow::Result<SchemaService> {
    build!(SchemaService::builder(), emulator("PUBSUB_EMULATOR_HOST"))
}

pub async fn storage() -> anyhow::Result<Storage> {
    build!(Storage::builder(), emulator("STORAGE_EMULATOR_HOST"))
}

pub async fn storage_control() -> anyhow::Result<StorageControl> {
    build!(StorageControl::builder(), storage_control_endpoint())
}

/// The gRPC code's name of a refused call, or `None` when no answer came at all.
pub fn code(error: &google_cloud_pubsub::Error) -> Option<&'static str> {
    error.status().map(|status| status.code.name())
}
