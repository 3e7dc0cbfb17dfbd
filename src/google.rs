//! Google's clients, built in one place. The emulator variables mean what they mean for Google's other clients:
//! plaintext to that host, no credentials.

use std::time::Duration;

use anyhow::Context as _;
use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::client::{BasePublisher, Subscriber, SubscriptionAdmin};
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

pub async fn subscriber() -> anyhow::Result<Subscriber> {
    build!(Subscriber::builder(), emulator("PUBSUB_EMULATOR_HOST"))
}

pub async fn publisher() -> anyhow::Result<BasePublisher> {
    build!(BasePublisher::builder(), emulator("PUBSUB_EMULATOR_HOST"))
}

pub async fn subscription_admin() -> anyhow::Result<SubscriptionAdmin> {
    build!(SubscriptionAdmin::builder(), emulator("PUBSUB_EMULATOR_HOST"))
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
