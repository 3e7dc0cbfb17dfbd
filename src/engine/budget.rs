//! Bytes of requests and responses in flight: `requests.max_outstanding_bytes`, for all that is received
//! together.
//!
//! A message waits for room for its body, decompressed, before any of it is decoded. Growth afterwards (the
//! decoded request, its response) is counted at once and never waits, since the requests that it would wait
//! for may wait for it: the budget is then overdrawn, and nothing more is received until the debt is paid.
//! Debts stay small: large bodies are decoded one at a time, and no batch is formed while too many bytes of
//! responses wait to be accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ops::metrics::Metrics;
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Unit of the budget: a semaphore counts to 2^32 at most in one acquisition.
const UNIT: usize = 1 << 10;

/// See the module.
#[derive(Debug, Clone)]
pub struct Budget {
    pool: Arc<Pool>,
    /// Half of the room, for objects that are being fetched: requests that came whole seldom wait for them.
    fetching: Arc<Semaphore>,
    units: usize,
}

#[derive(Debug)]
struct Pool {
    free: Semaphore,
    /// Units that are taken beyond the budget.
    debt: AtomicUsize,
    paid: Notify,
    /// Units of responses that wait for Pub/Sub alone.
    responses: AtomicUsize,
    left: Notify,
    /// Held while a large body is decoded.
    decoding: Mutex<()>,
}

impl Pool {
    fn release(&self, units: usize) {
        let pay = |debt: usize| (debt > 0).then(|| debt.saturating_sub(units));
        let paid = match self.debt.fetch_update(Ordering::AcqRel, Ordering::Acquire, pay) {
            Ok(debt) => {
                if debt <= units {
                    self.paid.notify_waiters();
                }
                debt.min(units)
            }
            Err(_) => 0,
        };
        self.free.add_permits(units - paid);
    }
}

impl Budget {
    pub fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT).max(1);
        let pool = Pool {
            free: Semaphore::new(units),
            debt: AtomicUsize::new(0),
            paid: Notify::new(),
            responses: AtomicUsize::new(0),
            left: Notify::new(),
            decoding: Mutex::const_new(()),
        };
        Self { pool: Arc::new(pool), fetching: Arc::new(Semaphore::new((units / 2).max(1))), units }
    }

    /// A request beyond `most` units takes all of them and travels alone.
    fn units(bytes: usize, most: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT).clamp(1, most)).unwrap_or(u32::MAX)
    }

    fn own(&self, permit: SemaphorePermit<'_>, units: u32) -> Room {
        permit.forget();
        Room { pool: Arc::clone(&self.pool), units: units as usize, responding: 0 }
    }

    /// Room, if there is some right now.
    pub fn try_take(&self, bytes: usize) -> Option<Room> {
        let units = Self::units(bytes, self.units);
        self.pool.free.try_acquire_many(units).ok().map(|permit| self.own(permit, units))
    }

    /// Makes `room` so many bytes where there is room for them. False, and unchanged, where there is none.
    pub fn try_grow(&self, room: &mut Room, bytes: usize) -> bool {
        let units = (Self::units(bytes, self.units) as usize).max(room.units);
        let more = u32::try_from(units - room.units).unwrap_or(u32::MAX);
        let Ok(permit) = self.pool.free.try_acquire_many(more) else { return false };
        permit.forget();
        room.units = units;
        true
    }

    /// Waits for room. The caller must hold none: others release theirs without it.
    pub async fn take(&self, bytes: usize) -> Room {
        let units = Self::units(bytes, self.units);
        self.own(self.pool.free.acquire_many(units).await.expect("the budget is never closed"), units)
    }

    /// Waits for room for what is fetched; the permit is to be kept until it is there.
    pub async fn take_to_fetch(&self, bytes: usize) -> (OwnedSemaphorePermit, Room) {
        let share = Self::units(bytes, (self.units / 2).max(1));
        let fetching = Arc::clone(&self.fetching).acquire_many_owned(share).await;
        (fetching.expect("the budget is never closed"), self.take(bytes).await)
    }

    /// Waits for the right to decode a large body, which lasts as long as the guard: one at a time, and once
    /// there is no debt. The requests that caused the debt must not wait for the caller.
    pub async fn decoding(&self) -> tokio::sync::MutexGuard<'_, ()> {
        let guard = self.pool.decoding.lock().await;
        loop {
            let mut paid = std::pin::pin!(self.pool.paid.notified());
            paid.as_mut().enable();
            if self.pool.debt.load(Ordering::Acquire) == 0 {
                return guard;
            }
            paid.await;
        }
    }

    /// True when responses take more than half of the budget.
    pub fn is_full_of_responses(&self) -> bool {
        self.pool.responses.load(Ordering::Acquire) > self.units / 2
    }

    /// Waits until responses take no more than half of the budget.
    pub async fn responses_left(&self) {
        loop {
            let mut left = std::pin::pin!(self.pool.left.notified());
            left.as_mut().enable();
            if !self.is_full_of_responses() {
                return;
            }
            left.await;
        }
    }
}

/// The share of the budget that one message has, until it is dropped.
#[derive(Debug)]
pub struct Room {
    pool: Arc<Pool>,
    units: usize,
    /// Units of the response while it waits for Pub/Sub alone; 0 for one that fits into the unit of every
    /// message.
    responding: usize,
}

impl Room {
    /// Makes it so many bytes, at once.
    pub fn resize(&mut self, bytes: usize) {
        let units = bytes.div_ceil(UNIT).max(1);
        if units > self.units {
            let more = units - self.units;
            let taken = self.pool.free.forget_permits(more);
            if taken < more {
                self.pool.debt.fetch_add(more - taken, Ordering::AcqRel);
            }
        } else if units < self.units {
            self.pool.release(self.units - units);
        }
        self.units = units;
    }

    /// Counts a response of so many bytes among those that wait to be accepted; 0: no more.
    pub fn respond(&mut self, bytes: usize) {
        let units = if bytes > UNIT { bytes.div_ceil(UNIT) } else { 0 };
        if units > self.responding {
            self.pool.responses.fetch_add(units - self.responding, Ordering::AcqRel);
        } else if units < self.responding {
            self.pool.responses.fetch_sub(self.responding - units, Ordering::AcqRel);
            self.pool.left.notify_waiters();
        }
        self.responding = units;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.respond(0);
        self.pool.release(self.units);
    }
}

/// The memory of one request while it is in flight: its room under the budget, and its share of
/// `predictd_bytes_in_hand`.
#[derive(Debug)]
pub struct Memory {
    metrics: Arc<Metrics>,
    /// Bytes of its body, decompressed.
    body: usize,
    /// Its share of the metric.
    bytes: usize,
    /// Released with this. None while the request lies in a bucket.
    room: Option<Room>,
}

impl Memory {
    /// For a request that has no body yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, body: 0, bytes: 0, room: None }
    }

    /// Counts the request's body, which has so many `bytes` and takes this room.
    pub fn hold(&mut self, bytes: usize, room: Room) {
        debug_assert!(self.room.is_none(), "a request has one body");
        self.room = Some(room);
        self.body = bytes;
        self.count(bytes);
    }

    /// Bytes that the request takes now.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts the decoded request with the response that is expected.
    pub fn decoded(&mut self, bytes: usize) {
        let Some(room) = &mut self.room else { return };
        let bytes = bytes.max(self.body);
        room.resize(bytes);
        self.count(bytes);
    }

    /// Counts the response, which is all that is left of the request.
    pub fn respond(&mut self, bytes: usize) {
        self.decoded(bytes);
        self.waits_to_be_sent(bytes);
    }

    /// Counts so many bytes of the response as waiting for its receiver alone; 0 while it waits for an older
    /// response.
    pub fn waits_to_be_sent(&mut self, bytes: usize) {
        if let Some(room) = &mut self.room {
            room.respond(bytes);
        }
    }

    fn count(&mut self, bytes: usize) {
        if bytes != self.bytes {
            self.metrics.bytes_in_flight.inc_by(signed(bytes) - signed(self.bytes));
            self.bytes = bytes;
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.metrics.bytes_in_flight.dec_by(signed(self.bytes));
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_fetched_leaves_half_of_the_room() {
        let budget = Budget::new(100 << 10);
        let (fetching, first) = budget.take_to_fetch(50 << 10).await;
        let mut second = std::pin::pin!(budget.take_to_fetch(1));
        assert!(futures::poll!(second.as_mut()).is_pending());
        let whole = budget.try_take(50 << 10).unwrap();
        assert!(budget.try_take(1).is_none());
        drop((fetching, first, whole));
        drop(second.await);
        // Beyond the cap it takes all of it.
        let (_fetching, _all) = budget.take_to_fetch(1 << 30).await;
        assert!(budget.try_take(1).is_none());
    }

    #[tokio::test]
    async fn an_overdrawn_budget_is_paid_back_before_more_is_taken() {
        let budget = Budget::new(100 << 10);
        let mut grown = budget.try_take(1).unwrap();
        let other = budget.try_take(9 << 10).unwrap();
        grown.resize(150 << 10);
        assert!(budget.try_take(1).is_none());
        let mut decoding = Box::pin(budget.decoding());
        assert!(futures::poll!(decoding.as_mut()).is_pending());
        // 159 KiB are taken, of 100.
        drop(other);
        assert!(futures::poll!(decoding.as_mut()).is_pending());
        grown.resize(99 << 10);
        assert!(futures::poll!(decoding.as_mut()).is_ready());
        let last = budget.try_take(1).unwrap();
        assert!(budget.try_take(1).is_none());
        drop((grown, last));
        assert!(budget.try_take(100 << 10).is_some());
    }

    #[tokio::test]
    async fn responses_are_waited_for_unless_they_are_small_or_set_aside() {
        let budget = Budget::new(100 << 10);
        let mut large = budget.try_take(1).unwrap();
        let mut small: Vec<Room> = (0..60).map(|_| budget.try_take(1).unwrap()).collect();
        small.iter_mut().for_each(|room| room.respond(1000));
        large.respond(50 << 10);
        budget.responses_left().await;
        large.respond(51 << 10);
        let mut left = Box::pin(budget.responses_left());
        assert!(futures::poll!(left.as_mut()).is_pending());
        large.respond(0);
        assert!(futures::poll!(left.as_mut()).is_ready());
        large.respond(51 << 10);
        drop(large);
        budget.responses_left().await;
    }
}
