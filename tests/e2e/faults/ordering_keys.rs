//! The state kept for an ordering key ends with its last message.

use local_gcp::pubsub::wire::Subscription;

use super::{Trial, subscription};
use crate::support::oracle::{self, Allowed, End, wine};

/// Messages before the first measurement, and between it and the second. The publisher is replaced after
/// 10,000.
const MESSAGES: usize = 10_500;
/// Google's client keeps some 9 KB for every key, 90 MiB for those of a round. What is freed is used again,
/// but not all of it.
const MOST_GROWTH_KIB: u64 = 45 << 10;
/// Keys that are used throughout, among many that are used once.
const LASTING: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn many_ordering_keys_leave_nothing_behind() {
    let ordering = Subscription { enable_message_ordering: true, ..subscription() };
    let mut trial = Trial::with(ordering, 0, "", "").await;
    let worker = trial.worker(&[]).await;
    let mut lasting: Vec<Vec<String>> = vec![Vec::new(); LASTING];
    let mut memory = Vec::new();
    for round in 0..2 {
        for n in 0..MESSAGES {
            let rows = trial.next_wine();
            let place = n % (10 * LASTING);
            let key = if place < LASTING { format!("key-{place}") } else { format!("once-{round}-{n}") };
            let id = trial.ordered(wine().request(&rows), &[], &key, End::Wine(rows));
            if place < LASTING {
                lasting[place].push(id);
            }
        }
        // Before the verdict, which looks at every event again while it waits.
        trial.world.settled().await;
        trial.verdict(&worker, Allowed::default()).await;
        memory.push(worker.resident_kib());
    }
    assert!(memory[1] < memory[0] + MOST_GROWTH_KIB, "the memory grows with the keys: {memory:?} KiB");
    trial.each_was_delivered_once();
    trial.world.server.history.with(|events| {
        for key in &lasting {
            oracle::in_order(events, key.iter().map(String::as_str));
        }
    });
}
