//! Leases on entries of the cache: an entry in use is never evicted.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::lock::lock;

/// The number of leases of each entry.
#[derive(Debug, Default, Clone)]
pub(crate) struct Leases(Arc<Mutex<HashMap<PathBuf, usize>>>);

/// The use of an entry, which is not evicted meanwhile.
#[derive(Debug)]
pub struct Lease {
    entry: PathBuf,
    leases: Leases,
    /// False to remove the entry with its last lease.
    stays: bool,
}

impl Leases {
    pub(crate) fn take(&self, entry: &Path, stays: bool) -> Lease {
        *lock(&self.0).entry(entry.to_owned()).or_default() += 1;
        Lease { entry: entry.to_owned(), leases: self.clone(), stays }
    }

    pub(crate) fn contains(&self, entry: &Path) -> bool {
        lock(&self.0).contains_key(entry)
    }
}

impl Lease {
    /// True when the entry outlasts its leases, so that it is kept leased while its version is served.
    pub fn stays(&self) -> bool {
        self.stays
    }

    /// Ends the lease and removes the entry, which holds no version that can be served.
    pub fn discard(mut self) {
        self.stays = false;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = lock(&self.leases.0);
        let left = leases.get_mut(&self.entry).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            leases.remove(&self.entry);
            if !self.stays {
                let _ = fs::remove_dir_all(&self.entry);
            }
        }
    }
}
