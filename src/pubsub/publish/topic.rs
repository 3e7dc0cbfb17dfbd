//! Keeps `/ready` truthful about the response topic before the first response, and while none is published.

use std::time::Duration;

use crate::gcp::probes::{Resource, Servers, Verdict};
use crate::ops::health::{Health, Part, UNCHECKED_TOPIC};

const INTERVAL: Duration = Duration::from_secs(5);

/// Checks the topic at once, and again while it cannot be used. Never ends.
pub async fn watch(servers: Servers, topic: Resource, health: &Health) {
    loop {
        if health.trouble(Part::Topic).is_some() {
            look(&servers, &topic, health).await;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn look(servers: &Servers, topic: &Resource, health: &Health) {
    let verdict = servers.ask(topic).await;
    let Some(known) = health.trouble(Part::Topic) else { return };
    let is_unchecked = known == UNCHECKED_TOPIC;
    let of_checks = format!("the response topic {:?} cannot be used: ", topic.name);
    match verdict {
        Verdict::Fine => {
            health.works(Part::Topic);
            tracing::info!(topic = topic.name, "the response topic exists and may be published to");
        }
        Verdict::Unknown(why) if is_unchecked => {
            health.works(Part::Topic);
            tracing::info!(topic = topic.name, why, "the response topic is not checked");
        }
        Verdict::Unknown(_) => {}
        Verdict::Refused { why, hint } => {
            // A refused publish, reported with the server's own words, is not overwritten.
            let may_report = is_unchecked || known.starts_with(&of_checks);
            if may_report && health.fails(Part::Topic, format!("{of_checks}{why}; {hint}")) {
                tracing::error!(topic = topic.name, why, hint, "the response topic cannot be used");
            }
        }
    }
}
