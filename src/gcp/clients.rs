//! Google's clients. The emulator variables work as in Google's clients for other languages: plaintext to
//! that host, no credentials.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use google_cloud_auth::credentials::anonymous;
use google_cloud_gax::retry_policy::{RetryPolicy, RetryPolicyExt as _};
use google_cloud_pubsub::client::{BasePublisher, SchemaService, Subscriber, SubscriptionAdmin, TopicAdmin};
use google_cloud_storage::client::{Storage, StorageControl};

use crate::backoff;
use crate::lock::lock;

/// Time limit for publishing the messages of one call, retries included: the default of Google's client.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(600);

/// The address in `variable`, which is `host:port` or a URL, as a URL.
pub(super) fn emulator(variable: &str) -> Option<String> {
    let host = std::env::var(variable).ok().filter(|host| !host.is_empty())?;
    Some(if host.contains("://") { host } else { format!("http://{host}") })
}

macro_rules! build {
    ($builder:expr, $emulator:expr) => {{
        let mut builder = $builder;
        if let Some(endpoint) = $emulator {
            builder = builder.with_endpoint(endpoint).with_credentials(anonymous::Builder::new().build());
        }
        builder.build().await.context("cannot set up Google's client")
    }};
}

/// The emulator that lists the objects of buckets.
pub(super) fn listing_emulator() -> Option<String> {
    emulator("STORAGE_EMULATOR_HOST_GRPC").or_else(|| emulator("STORAGE_EMULATOR_HOST"))
}

/// The emulators in use, each as its variable and address.
pub fn emulators() -> Vec<String> {
    let variables = ["PUBSUB_EMULATOR_HOST", "STORAGE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST_GRPC"];
    let named = variables.into_iter().filter_map(|variable| Some((variable, emulator(variable)?)));
    named.map(|(variable, address)| format!("{variable} ({address})")).collect()
}

/// True when every service in use is an emulator.
pub fn needs_no_credentials(uses_storage: bool) -> bool {
    let is_set = |variable| emulator(variable).is_some();
    is_set("PUBSUB_EMULATOR_HOST") && (is_set("STORAGE_EMULATOR_HOST") || !uses_storage)
}

pub async fn subscriber() -> anyhow::Result<Subscriber> {
    build!(Subscriber::builder(), emulator("PUBSUB_EMULATOR_HOST"))
}

/// A publisher that retries what `policy` allows, up to `PUBLISH_TIMEOUT`.
pub async fn publisher(policy: impl RetryPolicy + 'static) -> anyhow::Result<BasePublisher> {
    let policy = policy.with_time_limit(PUBLISH_TIMEOUT);
    let builder = BasePublisher::builder().with_retry_policy(policy).with_backoff_policy(backoff::publish());
    build!(builder, emulator("PUBSUB_EMULATOR_HOST"))
}

/// The time of the server's last refusal. A server that refuses is alive; a dead connection refuses nothing.
#[derive(Debug)]
pub struct LastRefusal(Mutex<Instant>);

impl Default for LastRefusal {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl LastRefusal {
    pub fn record(&self) {
        *lock(&self.0) = Instant::now();
    }

    /// The time since the last refusal; since the start where there was none.
    pub fn age(&self) -> Duration {
        lock(&self.0).elapsed()
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
    build!(StorageControl::builder(), listing_emulator())
}

/// The name of an error's gRPC code; `None` when no answer came.
pub fn code(error: &google_cloud_gax::error::Error) -> Option<&'static str> {
    error.status().map(|status| status.code.name())
}
