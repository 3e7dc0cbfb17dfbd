//! `local-gcp`: the server as a program.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use clap::Parser;
use local_gcp::proto::pubsub::{DeadLetterPolicy, Subscription};
use local_gcp::server::{Builder, Notification};
use tokio::signal::unix::{SignalKind, signal};

/// Google Pub/Sub and Cloud Storage on one local port, in memory.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Port 0 takes any free one; the first line of the output names it.
    #[arg(long, default_value = "127.0.0.1:8085")]
    listen: SocketAddr,
    /// The project of all short names.
    #[arg(long, default_value = "demo")]
    project: String,
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// NAME=TOPIC, then options: ack-deadline=SECONDS, dead-letter-topic=TOPIC, max-attempts=N, filter=TEXT, ordering, exactly-once.
    #[arg(long, value_name = "NAME=TOPIC[,OPTION…]")]
    subscription: Vec<String>,
    #[arg(long, value_name = "NAME")]
    bucket: Vec<String>,
    /// BUCKET=TOPIC, then optionally prefix=PREFIX.
    #[arg(long, value_name = "BUCKET=TOPIC[,prefix=PREFIX]")]
    notification: Vec<String>,
}

fn topic_name(project: &str, topic: &str) -> String {
    if topic.contains('/') { topic.to_owned() } else { format!("projects/{project}/topics/{topic}") }
}

fn subscription(project: &str, text: &str) -> anyhow::Result<Subscription> {
    let mut parts = text.split(',');
    let (name, topic) = parts.next().unwrap_or_default().split_once('=').context("expected NAME=TOPIC")?;
    let mut made = Subscription {
        name: format!("projects/{project}/subscriptions/{name}"),
        topic: topic_name(project, topic),
        ..Default::default()
    };
    for option in parts {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "ack-deadline" => made.ack_deadline_seconds = value.parse()?,
            "dead-letter-topic" => {
                made.dead_letter_policy.get_or_insert_default().dead_letter_topic =
                    topic_name(project, value);
            }
            "max-attempts" => {
                let policy: &mut DeadLetterPolicy = made.dead_letter_policy.get_or_insert_default();
                policy.max_delivery_attempts = value.parse()?;
            }
            "filter" => made.filter = value.to_owned(),
            "ordering" => made.enable_message_ordering = true,
            "exactly-once" => made.enable_exactly_once_delivery = true,
            other => bail!("unknown option {other:?}"),
        }
    }
    Ok(made)
}

fn notification(project: &str, text: &str) -> anyhow::Result<Notification> {
    let (target, prefix) = match text.split_once(",prefix=") {
        Some((target, prefix)) => (target, Some(prefix.to_owned())),
        None => (text, None),
    };
    let (bucket, topic) = target.split_once('=').context("expected BUCKET=TOPIC")?;
    Ok(Notification { bucket: bucket.to_owned(), topic: topic_name(project, topic), prefix })
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let args = Args::parse();
    let project = &args.project;
    let all = |texts: &[String]| -> anyhow::Result<Vec<Subscription>> {
        texts
            .iter()
            .map(|text| subscription(project, text).with_context(|| format!("--subscription {text}")))
            .collect()
    };
    let notifications: anyhow::Result<Vec<Notification>> = args
        .notification
        .iter()
        .map(|text| notification(project, text).with_context(|| format!("--notification {text}")))
        .collect();
    let builder = Builder {
        listen: Some(args.listen),
        record: false,
        topics: args.topic.iter().map(|topic| topic_name(project, topic)).collect(),
        subscriptions: all(&args.subscription)?,
        buckets: args.bucket.clone(),
        notifications: notifications?,
    };
    let server = builder.start().await?;
    println!("listening on http://{}", server.address);
    std::io::stdout().flush()?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
