//! What libraries do with what users send: a panic costs the one version or request that it is about, and nothing else.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static IS_SURVIVED: Cell<bool> = const { Cell::new(false) };
}

/// `None` where `work`, which must leave nothing half done behind, panics.
pub fn survive<T>(work: impl FnOnce() -> T) -> Option<T> {
    IS_SURVIVED.set(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    IS_SURVIVED.set(false);
    done.ok()
}

/// Whether a panic on this thread is one that [`survive`] catches: no error in predictd.
pub fn is_survived() -> bool {
    IS_SURVIVED.get()
}
