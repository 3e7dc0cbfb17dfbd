//! Confines panics of libraries that read users' data: one costs only its own version or request.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static IS_CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// `None` when `work` panics, which must then leave no partial state behind.
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    IS_CATCHING.set(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    IS_CATCHING.set(false);
    done.ok()
}

/// True when [`catch_panic`] catches a panic on this thread, so that it is no error of predictd.
pub fn is_catching_panics() -> bool {
    IS_CATCHING.get()
}
