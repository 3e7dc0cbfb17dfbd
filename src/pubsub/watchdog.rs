//! Detects two faults that Google's stream does not report: silence, and one reset after the other.
//!
//! The client opens a broken stream again by itself, at once and without a word, and swallows the server's
//! signs of life. But every one of these wakes the future that waits for a message, so [`Guard::watch`] wakes
//! are counted: too many without a message are slowed down, and none at all for a while is told. Costs one
//! atomic swap a message.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use tokio::time::Sleep;

/// Wakes without a message that are free; opening a stream takes about four.
const BURST: u32 = 64;
/// Beyond them: one wake in so long. A server that accepts and resets is asked about every other second.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct WakeFlag {
    is_set: AtomicBool,
    task: AtomicWaker,
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_set.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// Watches one stream; lives as long as it.
#[derive(Debug)]
pub struct Guard {
    wake_flag: Arc<WakeFlag>,
    waker: Waker,
    silence: Duration,
    last_sign: Instant,
    alarm: Option<Pin<Box<Sleep>>>,
    budget: u32,
    pause: Option<Pin<Box<Sleep>>>,
    slowed: Arc<AtomicBool>,
}

impl Guard {
    /// `silence`: how long no sign of life may come while one is waited for.
    pub fn new(silence: Duration) -> Self {
        let wake_flag = Arc::new(WakeFlag::default());
        Self {
            waker: Waker::from(Arc::clone(&wake_flag)),
            wake_flag,
            silence,
            last_sign: Instant::now(),
            alarm: None,
            budget: BURST,
            pause: None,
            slowed: Arc::default(),
        }
    }

    /// True while the stream is being slowed down.
    pub fn slowed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.slowed)
    }

    /// The same future, pinned, under watch: `None` when nothing came for too long.
    pub fn watch<'a, F>(&'a mut self, next: Pin<&'a mut F>) -> Watched<'a, F> {
        Watched { guard: self, next, waits: false }
    }

    /// True when a wake may be followed now; otherwise `pause` says when.
    fn spend(&mut self) -> bool {
        let now = Instant::now();
        let earned = now.duration_since(self.last_sign).as_millis() / PAUSE.as_millis();
        self.budget = self.budget.saturating_add(u32::try_from(earned).unwrap_or(BURST)).min(BURST);
        self.last_sign = now;
        if self.budget > 0 {
            self.budget -= 1;
            return true;
        }
        self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
        false
    }

    fn poll_alarm(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let silence = self.silence;
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
            if alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            // Set once and corrected here, so that a sign of life costs no timer.
            let since = self.last_sign.elapsed();
            if since >= silence {
                return Poll::Ready(());
            }
            self.alarm = Some(Box::pin(tokio::time::sleep(silence - since)));
        }
    }
}

/// See [`Guard::watch`].
#[derive(Debug)]
pub struct Watched<'a, F> {
    guard: &'a mut Guard,
    next: Pin<&'a mut F>,
    /// True once it was polled.
    waits: bool,
}

impl<F: Future> Future for Watched<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let guard = &mut *this.guard;
        guard.wake_flag.task.register(context.waker());
        if let Some(pause) = &mut guard.pause {
            if pause.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            guard.pause = None;
        } else if this.waits {
            if !guard.wake_flag.is_set.swap(false, Ordering::AcqRel) {
                return guard.poll_alarm(context).map(|()| None);
            }
            if !guard.spend() {
                guard.slowed.store(true, Ordering::Relaxed);
                // Registers the pause just made with the task.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        match this.next.as_mut().poll(&mut Context::from_waker(&guard.waker)) {
            Poll::Ready(item) => {
                if guard.budget < BURST {
                    guard.budget = BURST;
                    guard.slowed.store(false, Ordering::Relaxed);
                }
                Poll::Ready(Some(item))
            }
            Poll::Pending => {
                if !this.waits {
                    this.waits = true;
                    guard.last_sign = Instant::now();
                }
                // The inner future may have woken between the poll and here; then the flag has woken the
                // task.
                guard.poll_alarm(context).map(|()| None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, poll_fn};
    use std::pin::pin;

    #[tokio::test]
    async fn silence_is_told() {
        let mut guard = Guard::new(Duration::ZERO);
        assert_eq!(guard.watch(pin!(pending::<()>())).await, None);
        assert_eq!(guard.watch(pin!(async { 7 })).await, Some(7));
    }

    #[tokio::test]
    async fn a_future_that_wakes_for_nothing_is_slowed_down() {
        let mut guard = Guard::new(Duration::from_secs(60));
        let slowed = guard.slowed();
        let mut polls = 0;
        let restless = pin!(poll_fn(|context| {
            polls += 1;
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        let ended = tokio::time::timeout(PAUSE * 3, guard.watch(restless)).await;
        assert!(ended.is_err() && slowed.load(Ordering::Relaxed));
        assert!((BURST..BURST + 8).contains(&polls), "{polls}");
    }
}
