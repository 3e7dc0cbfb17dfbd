//! Hints that the bucket of models has changed.

use std::sync::Arc;
use std::time::Duration;

use google_cloud_pubsub::client::Subscriber;
use google_cloud_pubsub::model::Message;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::backoff;
use crate::lifecycle::source::Source;
use crate::pubsub::receive::SILENCE;
use crate::pubsub::watchdog::Guard;

/// A bucket's notifications, as hints for the model watch. Runs until `stop`; trouble is logged and tried
/// again.
pub async fn run(
    subscriber: Subscriber,
    subscription: String,
    source: Arc<Source>,
    hint: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut delays = backoff::reconnect();
    loop {
        let mut stream = subscriber.subscribe(&subscription).build();
        let token = stream.shutdown_token();
        let mut guard = Guard::new(SILENCE);
        let why = loop {
            let next = std::pin::pin!(stream.next());
            let next = tokio::select! {
                next = guard.watch(next) => next,
                () = stop.cancelled() => {
                    token.shutdown().await;
                    return;
                }
            };
            match next {
                Some(Some(Ok((message, handler)))) => {
                    delays = backoff::reconnect();
                    if announces(&message, &source) {
                        hint.notify_one();
                    }
                    handler.ack();
                }
                Some(Some(Err(error))) => break error.to_string(),
                Some(None) => break "the server closed the stream".to_owned(),
                None => break "no sign of life".to_owned(),
            }
        };
        tracing::warn!(
            subscription,
            why,
            "no notifications of model updates for now, the poll finds them meanwhile"
        );
        tokio::select! {
            () = tokio::time::sleep(delays.next().unwrap_or(Duration::from_secs(30))) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Anyone who can publish can forge a notification: it only ever makes the watch look at its own source.
fn announces(message: &Message, source: &Source) -> bool {
    let attribute = |name: &str| message.attributes.get(name).map(String::as_str);
    match (attribute("bucketId"), attribute("objectId")) {
        (Some(bucket), Some(object)) => source.covers(bucket, object),
        _ => false,
    }
}
