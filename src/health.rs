//! What `/ready` says: whether each part that must work does, and if not, why.

use std::sync::{Mutex, PoisonError};

/// The parts that a ready worker needs, in the order of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Models,
    Requests,
    Responses,
}

const PARTS: usize = 3;

/// Each part's trouble; `None` when it works.
#[derive(Debug)]
pub struct Health(Mutex<[Option<String>; PARTS]>);

impl Health {
    /// Nothing works yet.
    pub fn starting() -> Self {
        Self(Mutex::new([
            Some("no model is serving yet".to_owned()),
            Some("the request subscription is not connected yet".to_owned()),
            None,
        ]))
    }

    /// Whether this changed anything: what must be logged once.
    pub fn works(&self, part: Part) -> bool {
        self.lock()[part as usize].take().is_some()
    }

    pub fn fails(&self, part: Part, why: impl Into<String>) -> bool {
        let why = Some(why.into());
        let mut parts = self.lock();
        let changed = parts[part as usize] != why;
        parts[part as usize] = why;
        changed
    }

    /// Every trouble there is; empty when ready.
    pub fn troubles(&self) -> Vec<String> {
        self.lock().iter().flatten().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, [Option<String>; PARTS]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
