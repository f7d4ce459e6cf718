//! Control streams that are open in this process: which one of a worker is the newest.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The control streams of this process: the number of the newest one of each worker.
#[derive(Default)]
pub(super) struct Connections {
    newest: Mutex<(u64, BTreeMap<String, u64>)>,
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<String, u64>)> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection and returns its number.
    pub(super) fn add(&self, worker: &str) -> u64 {
        let mut all = self.lock();
        all.0 += 1;
        let number = all.0;
        all.1.insert(worker.to_owned(), number);
        number
    }

    /// Removes a connection. False: a newer connection of the worker has replaced it.
    pub(super) fn remove(&self, worker: &str, number: u64) -> bool {
        let mut all = self.lock();
        let is_newest = all.1.get(worker) == Some(&number);
        if is_newest {
            all.1.remove(worker);
        }
        is_newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_connection_of_a_worker_counts() {
        let all = Connections::default();
        let (old, new) = (all.add("w"), all.add("w"));
        assert!(!all.remove("w", old));
        assert!(all.remove("w", new));
        assert!(!all.remove("w", new));
    }
}
