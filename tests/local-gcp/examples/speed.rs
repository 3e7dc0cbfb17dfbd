//! Measures messages a second through publish, StreamingPull and ack together, with a bare client in this
//! process.
//!
//! `cargo run --release -p local-gcp --example speed [messages] [streams]`; prints messages a second and the
//! server's processor time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use local_gcp::Server;
use local_gcp::pubsub::wire::publisher_client::PublisherClient;
use local_gcp::pubsub::wire::subscriber_client::SubscriberClient;
use local_gcp::pubsub::wire::{PublishRequest, PubsubMessage, StreamingPullRequest};
use tonic::transport::{Channel, Endpoint};

const TOPIC: &str = "projects/p/topics/speed";
const SUBSCRIPTION: &str = "projects/p/subscriptions/speed";
const BATCH: usize = 100;
const PUBLISHERS: usize = 4;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let messages = numbers.next().transpose()?.unwrap_or(500_000);
    let streams = numbers.next().transpose()?.unwrap_or(2);
    let server = Server::builder().topic(TOPIC).subscription(SUBSCRIPTION, TOPIC).start().await?;
    let channel = Endpoint::from_shared(server.endpoint())?.connect().await?;
    let started = Instant::now();
    for _ in 0..PUBLISHERS {
        tokio::spawn(publish(channel.clone(), messages / PUBLISHERS));
    }
    let shares: Vec<Arc<AtomicUsize>> = (0..streams).map(|_| Arc::default()).collect();
    for share in &shares {
        let channel = Endpoint::from_shared(server.endpoint())?.connect().await?;
        tokio::spawn(consume(channel, share.clone()));
    }
    let expected = (messages / PUBLISHERS / BATCH * BATCH * PUBLISHERS) as u64;
    while server.pubsub.counts(SUBSCRIPTION)?.acked < expected {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{expected} messages, {streams} streams: {:.0} a second", expected as f64 / seconds);
    println!("shares of the streams: {shares:?}");
    println!("server: {:.2} of a core, {:?}", server_cpu()? / seconds, server.pubsub.counts(SUBSCRIPTION)?);
    Ok(())
}

async fn publish(channel: Channel, count: usize) -> anyhow::Result<()> {
    let mut client = PublisherClient::new(channel);
    let message = PubsubMessage {
        data: vec![b'x'; 100].into(),
        attributes: [("model".to_owned(), "wine".to_owned())].into(),
        ..PubsubMessage::default()
    };
    for _ in 0..count / BATCH {
        client
            .publish(PublishRequest { topic: TOPIC.to_owned(), messages: vec![message.clone(); BATCH] })
            .await?;
    }
    Ok(())
}

async fn consume(channel: Channel, share: Arc<AtomicUsize>) -> anyhow::Result<()> {
    let mut client = SubscriberClient::new(channel);
    let (requests, outgoing) = tokio::sync::mpsc::channel(100);
    let first = StreamingPullRequest {
        subscription: SUBSCRIPTION.to_owned(),
        stream_ack_deadline_seconds: 60,
        max_outstanding_messages: 10_000,
        ..StreamingPullRequest::default()
    };
    requests.send(first).await?;
    let requests_in =
        futures::stream::unfold(outgoing, async |mut outgoing| Some((outgoing.recv().await?, outgoing)));
    let mut responses = client.streaming_pull(requests_in).await?.into_inner();
    while let Some(response) = responses.message().await? {
        share.fetch_add(response.received_messages.len(), Ordering::Relaxed);
        let ack_ids = response.received_messages.into_iter().map(|received| received.ack_id).collect();
        requests.send(StreamingPullRequest { ack_ids, ..StreamingPullRequest::default() }).await?;
    }
    Ok(())
}

/// Seconds of processor time that the server's threads (named `local-gcp`) used.
fn server_cpu() -> anyhow::Result<f64> {
    let mut ticks = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let stat = std::fs::read_to_string(task?.path().join("stat"))?;
        let Some((name, rest)) = stat.rsplit_once(") ") else { continue };
        if name.ends_with("(local-gcp") {
            // utime and stime, the 14th and 15th fields; the kernel counts them in hundredths of a second.
            ticks +=
                rest.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        }
    }
    Ok(ticks as f64 / 100.0)
}
