//! The binary's command line and its file: the same resources in both.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use serde::Deserialize;

use crate::pubsub::wire;
use crate::server::{Builder, Notification, Server};

/// Google Pub/Sub and Cloud Storage on one local port, in memory.
#[derive(Debug, Parser)]
#[command(name = "local-gcp", version)]
pub struct Options {
    /// Address to listen on; port 0 takes a free one and prints it
    #[arg(long, default_value = "127.0.0.1:8085")]
    listen: SocketAddr,
    /// Project of every resource that is named without one
    #[arg(long, default_value = "demo")]
    project: String,
    /// Topic to create
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// Subscription to create; keys: ack-deadline, dead-letter-topic, max-attempts, ordering, exactly-once,
    /// filter
    #[arg(long, value_name = "NAME=TOPIC[,KEY=VALUE…]")]
    subscription: Vec<String>,
    /// Bucket to create
    #[arg(long, value_name = "NAME")]
    bucket: Vec<String>,
    /// Notifications of a bucket's objects to a topic, of those whose name begins with a prefix, with
    /// attributes of their own
    #[arg(long, value_name = "BUCKET=TOPIC[,prefix=PREFIX][,attribute.NAME=VALUE…]")]
    notification: Vec<String>,
    /// Let IAM policies count: for Google's service agents, and on the ports that --as opens. The first port
    /// stays the owner's
    #[arg(long)]
    enforce_iam: bool,
    /// One port more, where every call is this member's, such as
    /// serviceAccount:worker@demo.iam.gserviceaccount.com=127.0.0.1:0
    #[arg(long = "as", value_name = "MEMBER=HOST:PORT", requires = "enforce_iam")]
    callers: Vec<String>,
    /// JSON file with project, topics, subscriptions, buckets and notifications, written as on the command
    /// line
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    project: Option<String>,
    topics: Vec<String>,
    subscriptions: Vec<String>,
    buckets: Vec<String>,
    notifications: Vec<String>,
}

impl Options {
    /// The server that the command line and the file describe, every name completed.
    pub fn builder(self) -> anyhow::Result<Builder> {
        let file = self.file.as_deref().map(read).transpose()?.unwrap_or_default();
        let project = file.project.unwrap_or(self.project);
        let both = |file: Vec<String>, line: Vec<String>| file.into_iter().chain(line);
        let mut builder = Server::builder().listen(self.listen);
        if self.enforce_iam {
            builder = builder.enforce_iam();
        }
        for text in self.callers {
            let (member, address) = text
                .rsplit_once('=')
                .with_context(|| format!("expected MEMBER=HOST:PORT, found no \"=\" in {text:?}"))?;
            let address = address.parse().with_context(|| format!("not HOST:PORT: {address:?}"))?;
            builder = builder.calls_as(member, Some(address));
        }
        for name in both(file.topics, self.topic) {
            builder = builder.topic(full(&project, "topics", &name));
        }
        for text in both(file.subscriptions, self.subscription) {
            let subscription =
                subscription(&project, &text).with_context(|| format!("subscription {text:?}"))?;
            builder = builder.subscription_with(subscription);
        }
        for name in both(file.buckets, self.bucket) {
            builder = builder.bucket(name);
        }
        for text in both(file.notifications, self.notification) {
            let notification =
                notification(&project, &text).with_context(|| format!("notification {text:?}"))?;
            builder = builder.notification_with(notification);
        }
        Ok(builder)
    }
}

fn read(path: &Path) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))
}

fn full(project: &str, kind: &str, name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("projects/{project}/{kind}/{name}") }
}

struct Line<'a> {
    name: &'a str,
    target: &'a str,
    settings: Vec<(&'a str, &'a str)>,
}

// `NAME=TARGET` and the settings after it. A filter holds commas and equal signs itself, so it takes the rest
// of the text.
fn split(text: &str) -> anyhow::Result<Line<'_>> {
    let (name, rest) = text.split_once('=').context("expected NAME=TOPIC, found no \"=\"")?;
    let (target, mut rest) = rest.split_once(',').unwrap_or((rest, ""));
    ensure!(!name.is_empty() && !target.is_empty(), "expected NAME=TOPIC, one of them is empty");
    let mut settings = Vec::new();
    while !rest.is_empty() {
        if let Some(filter) = rest.strip_prefix("filter=") {
            settings.push(("filter", filter));
            break;
        }
        let (setting, after) = rest.split_once(',').unwrap_or((rest, ""));
        settings.push(setting.split_once('=').unwrap_or((setting, "true")));
        rest = after;
    }
    Ok(Line { name, target, settings })
}

fn subscription(project: &str, text: &str) -> anyhow::Result<wire::Subscription> {
    let Line { name, target: topic, settings } = split(text)?;
    let mut subscription = wire::Subscription {
        name: full(project, "subscriptions", name),
        topic: full(project, "topics", topic),
        ..wire::Subscription::default()
    };
    let mut dead_letter = wire::DeadLetterPolicy::default();
    for (key, value) in settings {
        let number =
            || value.parse().with_context(|| format!("{key}: expected a whole number, not {value:?}"));
        let flag = || value.parse().with_context(|| format!("{key}: expected true or false, not {value:?}"));
        match key {
            "ack-deadline" => subscription.ack_deadline_seconds = number()?,
            "dead-letter-topic" => dead_letter.dead_letter_topic = full(project, "topics", value),
            "max-attempts" => dead_letter.max_delivery_attempts = number()?,
            "ordering" => subscription.enable_message_ordering = flag()?,
            "exactly-once" => subscription.enable_exactly_once_delivery = flag()?,
            "filter" => subscription.filter = value.to_owned(),
            other => bail!(
                "unknown setting {other:?}: expected ack-deadline, dead-letter-topic, max-attempts, ordering, exactly-once or filter"
            ),
        }
    }
    if !dead_letter.dead_letter_topic.is_empty() {
        subscription.dead_letter_policy = Some(dead_letter);
    } else if dead_letter.max_delivery_attempts != 0 {
        bail!("max-attempts means nothing without dead-letter-topic");
    }
    Ok(subscription)
}

fn notification(project: &str, text: &str) -> anyhow::Result<Notification> {
    let Line { name: bucket, target: topic, settings } = split(text)?;
    let (mut prefix, mut attributes) = (None, BTreeMap::new());
    for (key, value) in settings {
        match (key, key.strip_prefix("attribute.")) {
            ("prefix", _) => prefix = Some(value.to_owned()),
            (_, Some(name)) if !name.is_empty() => {
                attributes.insert(name.to_owned(), value.to_owned());
            }
            (other, _) => bail!("unknown setting {other:?}: expected prefix or attribute.NAME"),
        }
    }
    Ok(Notification { bucket: bucket.to_owned(), topic: full(project, "topics", topic), prefix, attributes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_subscriptions() {
        let read =
            subscription("demo", r#"s=a,ack-deadline=20,ordering,filter=attributes.x = "1,2""#).unwrap();
        assert_eq!(read.name, "projects/demo/subscriptions/s");
        assert_eq!(read.topic, "projects/demo/topics/a");
        assert_eq!(read.ack_deadline_seconds, 20);
        assert!(read.enable_message_ordering);
        assert_eq!(read.filter, r#"attributes.x = "1,2""#);
        let read =
            subscription("demo", "s=projects/q/topics/a,dead-letter-topic=dead,max-attempts=7").unwrap();
        assert_eq!(read.topic, "projects/q/topics/a");
        let policy = read.dead_letter_policy.unwrap();
        assert_eq!(
            (policy.dead_letter_topic.as_str(), policy.max_delivery_attempts),
            ("projects/demo/topics/dead", 7)
        );
        for wrong in ["s", "s=", "s=a,colour=red", "s=a,ack-deadline=soon", "s=a,max-attempts=5"] {
            assert!(subscription("demo", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn reads_notifications() {
        let read = notification("demo", "models=updates,prefix=models/").unwrap();
        assert_eq!(read.bucket, "models");
        assert_eq!(read.topic, "projects/demo/topics/updates");
        assert_eq!(read.prefix.as_deref(), Some("models/"));
        let read = notification("demo", "tables=batches,attribute.model=wine,attribute.output=gs://out/a=b")
            .unwrap();
        assert_eq!((read.prefix, read.attributes.len()), (None, 2));
        assert_eq!((&*read.attributes["model"], &*read.attributes["output"]), ("wine", "gs://out/a=b"));
        for wrong in ["tables=batches,model=wine", "tables=batches,attribute.=wine"] {
            assert!(notification("demo", wrong).is_err(), "{wrong}");
        }
    }
}
