//! One value for each shard: set once, read without a lock, never taken out. A node hosts every shard, and shards are only added.

use std::sync::OnceLock;

use crate::model::ShardId;
use crate::model::catalog::MAX_SHARDS;

/// See the module.
#[derive(Debug)]
pub(crate) struct Slots<T>(Box<[OnceLock<T>]>);

impl<T> Slots<T> {
    /// Nothing for any shard.
    pub(crate) fn new() -> Self {
        Self((0..MAX_SHARDS).map(|_| OnceLock::new()).collect())
    }

    /// What is there for `shard`.
    pub(crate) fn get(&self, shard: ShardId) -> Option<&T> {
        self.slot(shard)?.get()
    }

    /// What is there for `shard`, made by `make` if nothing is; `None` for a number that no shard has.
    pub(crate) fn get_or_init(&self, shard: ShardId, make: impl FnOnce() -> T) -> Option<&T> {
        Some(self.slot(shard)?.get_or_init(make))
    }

    /// Puts `value` there. The first one stays.
    pub(crate) fn set(&self, shard: ShardId, value: T) {
        if let Some(slot) = self.slot(shard) {
            let _ = slot.set(value);
        }
    }

    /// All that are there, by shard.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ShardId, &T)> {
        (0..).map(ShardId).zip(&self.0).filter_map(|(shard, slot)| Some((shard, slot.get()?)))
    }

    fn slot(&self, shard: ShardId) -> Option<&OnceLock<T>> {
        self.0.get(usize::try_from(shard.0).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_set_once_and_only_for_numbers_that_shards_have() {
        let slots = Slots::new();
        assert_eq!(slots.get(ShardId(2)), None);
        slots.set(ShardId(2), "a");
        slots.set(ShardId(2), "b");
        slots.set(ShardId(MAX_SHARDS), "c");
        assert_eq!(slots.get_or_init(ShardId(0), || "zero"), Some(&"zero"));
        assert_eq!(slots.get_or_init(ShardId(MAX_SHARDS), || "none"), None);
        assert_eq!(slots.iter().collect::<Vec<_>>(), [(ShardId(0), &"zero"), (ShardId(2), &"a")]);
    }
}
