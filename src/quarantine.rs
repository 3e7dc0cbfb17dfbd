//! Requests that may have ended the process before: each goes alone, so that the guilty one does not take the others along.
//!
//! Pub/Sub's count of deliveries is the only memory that survives a crash. A request that comes for the third time to a worker
//! that has just started runs alone, after the suspect before it was answered and acknowledged. Which one is guilty is not
//! known, so every second delivery turns the order round: whoever stood behind the guilty one then stands before it, is
//! answered, and only the guilty one goes on to the dead-letter topic. Only with a dead-letter policy; requests with an
//! ordering key keep their order instead.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::message::{Origin, Pending};

/// A request may meet bad luck twice (a lost machine, a broken stream) before it is suspected.
const SUSPECT_FROM: u32 = 3;
/// How long after its start a worker suspects anything: a guilty request comes again when its lease is over, well within it.
const WINDOW: Duration = Duration::from_secs(120);
/// The client sends acknowledgements every tenth of a second; the next suspect runs after that.
const ACK_TIME: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub struct Quarantine {
    ends: Instant,
    is_over: bool,
    suspects: Vec<Pending>,
    /// Held by the one that runs, until it is settled.
    alone: Arc<Semaphore>,
    /// The right to run the next, and from when on.
    next: Option<(OwnedSemaphorePermit, Instant)>,
}

impl Quarantine {
    /// For a worker that starts now.
    pub fn starting() -> Self {
        Self {
            ends: Instant::now() + WINDOW,
            is_over: false,
            suspects: Vec::new(),
            alone: Arc::new(Semaphore::new(1)),
            next: None,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.suspects.is_empty()
    }

    /// Puts requests where they wait: suspects here, all others into `waiting`.
    pub fn admit(&mut self, requests: Vec<Pending>, waiting: &mut VecDeque<Pending>) {
        if self.is_over {
            waiting.extend(requests);
            return;
        }
        self.is_over = Instant::now() >= self.ends;
        for request in requests {
            if is_suspect(&request.origin) && !self.is_over {
                self.suspects.push(request);
            } else {
                waiting.push_back(request);
            }
        }
        if self.is_over {
            waiting.extend(self.suspects.drain(..));
        }
    }

    /// The next suspect, once the one before it is settled. Loses nothing when dropped.
    pub async fn next(&mut self) -> Option<Pending> {
        let from = match &self.next {
            Some((_, from)) => *from,
            None => self.reserve(Arc::clone(&self.alone).acquire_owned().await.ok()?),
        };
        tokio::time::sleep_until(from.into()).await;
        self.take()
    }

    /// The same without waiting.
    pub fn next_now(&mut self) -> Option<Pending> {
        let from = match &self.next {
            _ if self.is_empty() => return None,
            Some((_, from)) => *from,
            None => self.reserve(Arc::clone(&self.alone).try_acquire_owned().ok()?),
        };
        if Instant::now() < from { None } else { self.take() }
    }

    fn reserve(&mut self, alone: OwnedSemaphorePermit) -> Instant {
        let from = Instant::now() + ACK_TIME;
        self.next = Some((alone, from));
        from
    }

    fn take(&mut self) -> Option<Pending> {
        let place = |request: &Pending| place(&request.origin.message_id, request.origin.attempt);
        let index = (0..self.suspects.len()).min_by_key(|index| place(&self.suspects[*index]))?;
        let mut suspect = self.suspects.swap_remove(index);
        let (alone, _) = self.next.take()?;
        suspect.alone = true;
        suspect.origin.ticket.keep_alone(alone);
        Some(suspect)
    }

    /// All that are left, for the end.
    pub fn release(&mut self) -> impl Iterator<Item = Pending> {
        self.suspects.drain(..)
    }
}

fn is_suspect(origin: &Origin) -> bool {
    origin.attempt >= SUSPECT_FROM && origin.turn.is_none()
}

/// Two deliveries share an order, the second has it backwards; then comes another order, should there be two guilty ones.
fn place(message_id: &str, attempt: u32) -> (u32, u64) {
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
}
