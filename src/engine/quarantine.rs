//! Requests that may have ended the process before: each is decoded and run alone, so that one that does it
//! again takes no other along.
//!
//! Pub/Sub's count of deliveries is the only memory that survives a crash. A request that is delivered for
//! the third time to a worker that has just started is not even decompressed before the quarantined request
//! ahead of it was answered and acknowledged. Nothing tells which of them ended the process, so every second
//! delivery turns the order round: whoever stood behind the offending one then stands before it, is answered,
//! and only the offending one goes on to the dead-letter topic. Only with a dead-letter policy; requests with
//! an ordering key keep their order instead.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::lock::lock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

/// Delivery from which on a request is quarantined: a lost machine or a broken stream may cost it two.
const SUSPECT_FROM: u32 = 3;
/// Time after the start of a worker in which requests are quarantined: an offending one is redelivered when
/// its lease is over, well within it.
const WINDOW: Duration = Duration::from_secs(120);
/// The client sends acknowledgements every tenth of a second; the next quarantined request begins after that.
const ACK_TIME: Duration = Duration::from_millis(200);

/// One right to be alone, and who waits for it.
#[derive(Debug)]
pub struct Quarantine {
    ends: Instant,
    /// Held by one quarantined request, from before it is decoded until it is settled.
    alone: Arc<Semaphore>,
    waiting: Mutex<Vec<(Place, oneshot::Sender<OwnedSemaphorePermit>)>>,
}

/// The least comes first.
type Place = (u32, u64);

impl Quarantine {
    /// For a worker that starts now.
    pub fn starting() -> Self {
        Self { ends: Instant::now() + WINDOW, alone: Arc::new(Semaphore::new(1)), waiting: Mutex::default() }
    }

    /// True for a request that must wait for its [`Self::turn`] before it is decoded.
    /// `attempt` is the number of its delivery, from 1.
    pub fn holds(&self, attempt: u32) -> bool {
        attempt >= SUSPECT_FROM && Instant::now() < self.ends
    }

    /// Waits until no other quarantined request is in flight. `None` where it need not: none is quarantined
    /// after a while, and at `stop` those that are left go together, for the drain has no time for one
    /// after the other.
    pub async fn turn(
        &self,
        message_id: &str,
        attempt: u32,
        stop: &CancellationToken,
    ) -> Option<OwnedSemaphorePermit> {
        self.turn_of(place(message_id, attempt), stop).await
    }

    async fn turn_of(&self, place: Place, stop: &CancellationToken) -> Option<OwnedSemaphorePermit> {
        let (grant, mut granted) = oneshot::channel();
        self.waiting().push((place, grant));
        let end = tokio::time::sleep_until(self.ends.into());
        let mut end = std::pin::pin!(end);
        loop {
            // A waiter that gets the right hands it to the first of those that wait then, which may be
            // another one.
            let next = async {
                let right = Arc::clone(&self.alone).acquire_owned().await;
                tokio::time::sleep(ACK_TIME).await;
                right.ok()
            };
            tokio::select! {
                biased;
                right = &mut granted => return right.ok(),
                () = stop.cancelled() => return None,
                () = &mut end => return None,
                right = next => self.grant(right?),
            }
        }
    }

    fn grant(&self, mut right: OwnedSemaphorePermit) {
        loop {
            let mut waiting = self.waiting();
            let first = (0..waiting.len()).min_by_key(|index| waiting[*index].0);
            let Some(first) = first.map(|index| waiting.swap_remove(index)) else { return };
            drop(waiting);
            match first.1.send(right) {
                Ok(()) => return,
                // It waits no more.
                Err(unused) => right = unused,
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(Place, oneshot::Sender<OwnedSemaphorePermit>)>> {
        lock(&self.waiting)
    }
}

/// Two deliveries share an order, the second has it backwards; then comes another order, should there be two
/// offending ones.
fn place(message_id: &str, attempt: u32) -> Place {
    let mut hasher = DefaultHasher::new();
    (message_id, attempt.div_ceil(2)).hash(&mut hasher);
    let place = hasher.finish();
    (attempt, if attempt.is_multiple_of(2) { !place } else { place })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_behind_is_before_the_next_time() {
        let ids: Vec<String> = (0..100).map(|id: u32| id.to_string()).collect();
        let order = |attempt| {
            let mut sorted = ids.clone();
            sorted.sort_by_key(|id| place(id, attempt));
            sorted
        };
        let mut backwards = order(4);
        backwards.reverse();
        assert_eq!(order(3), backwards);
        assert_ne!(order(5), order(3));
    }

    /// However many wait: one at a time, the first of them, and all at once at the stop.
    #[tokio::test]
    async fn one_is_alone_at_a_time_in_the_order_of_their_places() {
        let (quarantine, stop) = (Quarantine::starting(), CancellationToken::new());
        let done = Mutex::new(Vec::new());
        let take = async |number: u64| {
            let right = quarantine.turn_of((3, number), &stop).await;
            assert!(right.is_some() && quarantine.alone.available_permits() == 0);
            done.lock().unwrap().push(number);
        };
        // One that gives up holds up no other.
        assert!(futures::poll!(std::pin::pin!(quarantine.turn_of((3, 0), &stop))).is_pending());
        tokio::join!(take(3), take(1), take(2));
        assert_eq!(*done.lock().unwrap(), [1, 2, 3]);
        let held = quarantine.turn_of((3, 1), &stop).await;
        let waiting =
            async { tokio::join!(quarantine.turn_of((3, 2), &stop), quarantine.turn_of((3, 3), &stop)) };
        let stopping = async { stop.cancel() };
        let ((second, third), ()) = tokio::join!(waiting, stopping);
        assert!(held.is_some() && second.is_none() && third.is_none());
    }
}
