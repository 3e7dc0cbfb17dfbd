//! Pauses between attempts: every policy of the worker, in one place. Each doubles the pause and adds jitter,
//! except for publishing, whose pauses grow fourfold in Google's client.

use std::time::Duration;

use ::backoff::{BackoffBuilder as _, ExponentialBuilder};
use google_cloud_gax::backoff_policy::BackoffPolicy;
use google_cloud_gax::exponential_backoff::ExponentialBackoffBuilder;

/// Longest pause between two attempts to publish. Google's default of a minute is too long to distinguish a
/// server that refuses from a dead connection.
pub const LONGEST_PUBLISH_PAUSE: Duration = Duration::from_secs(10);
/// Attempts to download one object, the first included.
pub const DOWNLOAD_ATTEMPTS: usize = 6;
/// Attempts to read or write one object of a request, the first included.
const OBJECT_ATTEMPTS: usize = 7;

/// Opening a stream: without end, up to 30 s apart. A closed stream is open again within a second, and a
/// server that resets every stream is asked rarely.
pub fn reconnect() -> impl Iterator<Item = Duration> {
    doubling(Duration::from_millis(100)).with_max_delay(Duration::from_secs(30)).without_max_times().build()
}

/// Reading or writing an object of a request: about six seconds where each attempt fails at once. After that
/// Pub/Sub's own retry is better, which may choose another worker and ends in the dead-letter topic.
pub fn object() -> impl Iterator<Item = Duration> {
    doubling(Duration::from_millis(100)).with_max_times(OBJECT_ATTEMPTS - 1).build()
}

/// Downloading a file of a model version.
pub fn download() -> impl Iterator<Item = Duration> {
    let delays = doubling(Duration::from_millis(200)).with_max_delay(Duration::from_secs(10));
    delays.with_max_times(DOWNLOAD_ATTEMPTS - 1).build()
}

/// Exporting telemetry: a few attempts, within the time limit of the export.
pub fn export() -> ExponentialBuilder {
    doubling(Duration::from_millis(100)).with_max_times(3)
}

/// Publishing, inside Google's client.
pub fn publish() -> impl BackoffPolicy + 'static {
    let delays =
        ExponentialBackoffBuilder::new().with_initial_delay(Duration::from_millis(100)).with_scaling(4);
    delays.with_maximum_delay(LONGEST_PUBLISH_PAUSE).clamp()
}

fn doubling(first: Duration) -> ExponentialBuilder {
    ExponentialBuilder::default().with_min_delay(first).with_factor(2.0).with_jitter()
}
