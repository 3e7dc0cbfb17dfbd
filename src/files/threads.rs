//! Threads that end before their caller goes on.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{ScopedJoinHandle, scope};

use crate::lock::lock;

/// Results of `work` for all items, in their order, `at_once` of them at the same time.
pub fn map<T: Sync, U: Send>(items: &[T], at_once: usize, work: impl Fn(&T) -> U + Sync) -> Vec<U> {
    let mut results = Vec::with_capacity(items.len());
    for some in items.chunks(at_once) {
        scope(|scope| {
            let working: Vec<_> = some.iter().map(|item| scope.spawn(|| work(item))).collect();
            results.extend(working.into_iter().map(join));
        });
    }
    results
}

/// The result of a thread; its panic goes on.
fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Lets so many threads work at the same time.
#[derive(Debug)]
pub struct ConcurrencyLimit {
    free: Mutex<usize>,
    left: Condvar,
}

/// The right to work, until it is dropped.
#[derive(Debug)]
pub struct Permit<'a>(&'a ConcurrencyLimit);

impl ConcurrencyLimit {
    pub fn new(threads: usize) -> Self {
        Self { free: Mutex::new(threads.max(1)), left: Condvar::new() }
    }

    pub fn acquire(&self) -> Permit<'_> {
        let none_free = |free: &mut usize| *free == 0;
        let free = self.left.wait_while(lock(&self.free), none_free);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        Permit(self)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.left.notify_one();
    }
}
