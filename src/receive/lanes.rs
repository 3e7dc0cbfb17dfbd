//! Ordering keys whose next request is away, being fetched from a bucket: the stream waits before it takes what follows under
//! the same key. Had that gone on, it would hold room that the one before it still needs.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// The keys that are away. A fetch comes back by dropping its [`Leave`].
#[derive(Debug, Default)]
pub(super) struct Away {
    keys: Mutex<HashSet<String>>,
    back: Notify,
}

/// A key is away as long as this lives.
#[derive(Debug)]
pub(super) struct Leave {
    of: Arc<Away>,
    key: String,
}

impl Away {
    /// `None` for what has no key: nothing ever waits for it.
    pub(super) fn leave(self: &Arc<Self>, key: &str) -> Option<Leave> {
        if key.is_empty() {
            return None;
        }
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
        Some(Leave { of: Arc::clone(self), key: key.to_owned() })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        !key.is_empty() && self.keys.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// Waits until the key is back; at once when it never left.
    pub(super) async fn returned(&self, key: &str) {
        loop {
            let mut back = std::pin::pin!(self.back.notified());
            // Before looking, so that a return in between is not missed.
            back.as_mut().enable();
            if !self.has(key) {
                return;
            }
            back.await;
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.of.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.of.back.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_same_key_waits() {
        let away = Arc::new(Away::default());
        assert!(away.leave("").is_none());
        let leave = away.leave("a").unwrap();
        away.returned("b").await;
        away.returned("").await;
        let mut waits = std::pin::pin!(away.returned("a"));
        assert!(futures::poll!(waits.as_mut()).is_pending());
        drop(leave);
        waits.await;
        assert!(!away.has("a"));
    }
}
