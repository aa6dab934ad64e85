//! A small cache of decoded values with a bound on their weight: footers, which are cheap to keep and dear to decode.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::ObjectId;

/// Keeps what was used last. Objects are immutable, so nothing here is ever wrong, only gone.
#[derive(Debug)]
pub(super) struct Recent<T> {
    inner: Mutex<Inner<T>>,
    limit: u64,
}

#[derive(Debug)]
struct Inner<T> {
    entries: HashMap<ObjectId, Entry<T>>,
    weight: u64,
    tick: u64,
}

#[derive(Debug)]
struct Entry<T> {
    value: Arc<T>,
    weight: u64,
    used: u64,
}

/// Entries at most, so that looking for the oldest stays short.
const MAX_ENTRIES: usize = 512;

impl<T> Recent<T> {
    /// Holds at most `limit` bytes, as its callers weigh them.
    pub(super) fn new(limit: u64) -> Self {
        Self { inner: Mutex::new(Inner { entries: HashMap::new(), weight: 0, tick: 0 }), limit }
    }

    pub(super) fn get(&self, id: ObjectId) -> Option<Arc<T>> {
        let mut inner = self.lock();
        inner.tick += 1;
        let tick = inner.tick;
        let entry = inner.entries.get_mut(&id)?;
        entry.used = tick;
        Some(Arc::clone(&entry.value))
    }

    pub(super) fn insert(&self, id: ObjectId, value: T, weight: u64) -> Arc<T> {
        let value = Arc::new(value);
        let mut inner = self.lock();
        inner.tick += 1;
        let entry = Entry { value: Arc::clone(&value), weight, used: inner.tick };
        inner.weight += weight;
        if let Some(replaced) = inner.entries.insert(id, entry) {
            inner.weight -= replaced.weight;
        }
        // The one just inserted stays, whatever it weighs.
        while inner.entries.len() > 1 && (inner.weight > self.limit || inner.entries.len() > MAX_ENTRIES) {
            let oldest = inner.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(id, _)| *id);
            let Some(evicted) = oldest.and_then(|id| inner.entries.remove(&id)) else { break };
            inner.weight -= evicted.weight;
        }
        value
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // Values are immutable; a panic elsewhere leaves at worst a wrong weight.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_the_weight_is_too_much() {
        let recent = Recent::new(10);
        recent.insert(ObjectId(1), "one", 4);
        recent.insert(ObjectId(2), "two", 4);
        assert!(recent.get(ObjectId(1)).is_some());
        recent.insert(ObjectId(3), "three", 4);
        assert!(recent.get(ObjectId(2)).is_none(), "one was used after it");
        assert_eq!(recent.get(ObjectId(1)).as_deref(), Some(&"one"));
        recent.insert(ObjectId(4), "large", 100);
        assert_eq!(recent.get(ObjectId(4)).as_deref(), Some(&"large"));
        assert!(recent.get(ObjectId(1)).is_none() && recent.get(ObjectId(3)).is_none());
        recent.insert(ObjectId(4), "small", 1);
        recent.insert(ObjectId(5), "fits beside it", 9);
        assert!(recent.get(ObjectId(4)).is_some());
    }
}
