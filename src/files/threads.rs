//! Threads that end before their caller goes on.

use std::thread::{ScopedJoinHandle, scope};

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
