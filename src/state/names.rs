//! Producer ids and producer names.
//!
//! A name keeps its id while it is used at least once an expiry; registering it again raises the epoch, which fences the
//! older holder at once in this shard. Ids are `incarnation << 40 | counter`, so that no two lives of a cluster hand out
//! the same one.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::model::checkpoint::NameRecord;
use crate::model::{LogTime, ProducerId};

/// Producer names that a shard remembers; the longest idle goes first.
pub(super) const MAX_NAMES: usize = 16_384;
/// The largest epoch that a record batch can carry (16 bits, signed).
const MAX_EPOCH: u16 = i16::MAX as u16;

/// The named producers of a shard.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    by_name: OrdMap<String, Arc<NameRecord>>,
    by_id: OrdMap<ProducerId, String>,
    idle: OrdSet<(LogTime, ProducerId)>,
}

impl Names {
    /// Registers `name`: the id it has with the next epoch, or `fresh` with epoch 0. The second value is whether `fresh` was used.
    pub(super) fn register(
        &mut self,
        name: &str,
        fresh: ProducerId,
        now: LogTime,
        cutoff: LogTime,
    ) -> (ProducerId, u16, bool) {
        let known = self.by_name.get(name).cloned();
        if let Some(known) = &known {
            self.forget(known.id);
        }
        let (id, epoch, used) = match known {
            Some(known) if known.last_used >= cutoff && known.epoch < MAX_EPOCH => (known.id, known.epoch + 1, false),
            _ => (fresh, 0, true),
        };
        self.restore(NameRecord { name: name.to_owned(), id, epoch, last_used: now });
        if self.by_name.len() > MAX_NAMES {
            self.drop_longest_idle();
        }
        (id, epoch, used)
    }

    /// The id and the epoch last handed out under `name`.
    pub(super) fn find(&self, name: &str) -> Option<(ProducerId, u16)> {
        self.by_name.get(name).map(|record| (record.id, record.epoch))
    }

    /// The epoch last handed out for `id`, if it has a name that is still remembered.
    pub(super) fn epoch(&self, id: ProducerId, cutoff: LogTime) -> Option<u16> {
        let record = self.by_name.get(self.by_id.get(&id)?)?;
        (record.last_used >= cutoff).then_some(record.epoch)
    }

    /// Notes that `id` wrote at `now`; kept only to within `grain`, so that an append rarely touches this table.
    pub(super) fn touch(&mut self, id: ProducerId, now: LogTime, grain: u64) {
        let Some(record) = self.by_id.get(&id).and_then(|name| self.by_name.get_mut(name)) else { return };
        if record.last_used.saturating_add(grain) < now {
            self.idle.remove(&(record.last_used, id));
            Arc::make_mut(record).last_used = now;
            self.idle.insert((now, id));
        }
    }

    /// Drops names last used before `cutoff`, at most `bound` of them.
    pub(super) fn expire(&mut self, cutoff: LogTime, bound: usize) {
        for _ in 0..bound {
            if self.idle.get_min().is_none_or(|(last_used, _)| *last_used >= cutoff) {
                return;
            }
            self.drop_longest_idle();
        }
    }

    fn drop_longest_idle(&mut self) {
        if let Some((_, id)) = self.idle.get_min().copied() {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: ProducerId) {
        let Some(name) = self.by_id.remove(&id) else { return };
        if let Some(record) = self.by_name.remove(&name) {
            self.idle.remove(&(record.last_used, id));
        }
    }

    /// As a checkpoint holds them.
    pub(super) fn records(&self) -> impl Iterator<Item = NameRecord> + '_ {
        self.by_name.values().map(|record| NameRecord::clone(record))
    }

    /// Takes a name back from a checkpoint.
    pub(super) fn restore(&mut self, record: NameRecord) {
        self.idle.insert((record.last_used, record.id));
        self.by_id.insert(record.id, record.name.clone());
        self.by_name.insert(record.name.clone(), Arc::new(record));
    }
}
