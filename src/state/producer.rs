//! The idempotent producers of one partition: epochs, sequences and the last batches of each.
//!
//! The rules are Kafka's: a producer id has an epoch, and within it the sequence of a batch's first record counts the
//! records before it, modulo 2^31. The last five batches are remembered so that a retry gets the offsets of the first
//! attempt. A producer that has been idle for the expiry is unknown again, whether or not it has been dropped yet.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::model::checkpoint::{ProducerRecord, REMEMBERED_BATCHES, RememberedBatch};
use crate::model::producer::{SEQUENCE_MODULUS, advance_sequence};
use crate::model::{Appended, LogTime, Offset, ProducerId, Rejection, Triple};

/// The producers that a partition remembers.
#[derive(Debug, Clone, Default)]
pub struct Producers {
    by_id: OrdMap<ProducerId, Arc<Producer>>,
    /// Longest idle first.
    idle: OrdSet<(LogTime, ProducerId)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: u16,
    /// Records written in this epoch; the next sequence is this modulo 2^31.
    written: u64,
    last_used: LogTime,
    /// Oldest first.
    batches: Vec<RememberedBatch>,
}

/// How far a producer got in a partition: what it needs to resume after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerPosition {
    /// The newest epoch seen.
    pub epoch: u16,
    /// Sequence of the last record written.
    pub last_sequence: Option<u32>,
    /// Offset of the last record written.
    pub last_offset: Option<Offset>,
}

impl Producers {
    /// How far `id` got, if it is remembered.
    #[must_use]
    pub fn position(&self, id: ProducerId) -> Option<ProducerPosition> {
        let producer = self.by_id.get(&id)?;
        let last = producer.batches.last();
        Some(ProducerPosition {
            epoch: producer.epoch,
            last_sequence: last.map(|batch| advance_sequence(batch.sequence, batch.count.saturating_sub(1))),
            last_offset: last.map(|batch| batch.base_offset + u64::from(batch.count.saturating_sub(1))),
        })
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether a batch of `count` records under `triple` may be written: `None` if so, the first answer if it was written
    /// before. Producers last used before `cutoff` are unknown.
    pub(super) fn check(
        &self,
        triple: &Triple,
        count: u32,
        digest: u128,
        cutoff: LogTime,
    ) -> Result<Option<Appended>, Rejection> {
        let Some(known) = self.by_id.get(&triple.id).filter(|known| known.last_used >= cutoff) else {
            return if triple.sequence == 0 { Ok(None) } else { Err(Rejection::UnknownProducer) };
        };
        if triple.epoch < known.epoch {
            return Err(Rejection::ProducerFenced { current: known.epoch });
        }
        if triple.epoch > known.epoch {
            return if triple.sequence == 0 { Ok(None) } else { Err(Rejection::SequenceGap { expected: 0 }) };
        }
        known.check(triple.sequence, count, digest)
    }

    /// Remembers a batch that was just written under `triple`. At most `bound` producers stay; the longest idle goes first.
    pub(super) fn record(
        &mut self,
        triple: &Triple,
        batch: RememberedBatch,
        now: LogTime,
        cutoff: LogTime,
        bound: u32,
    ) {
        let fresh = Producer { epoch: triple.epoch, written: 0, last_used: now, batches: Vec::new() };
        let entry = self.by_id.entry(triple.id).or_insert_with(|| Arc::new(fresh.clone()));
        let producer = Arc::make_mut(entry);
        if producer.last_used != now || producer.batches.is_empty() {
            self.idle.remove(&(producer.last_used, triple.id));
            self.idle.insert((now, triple.id));
        }
        if producer.epoch != triple.epoch || producer.last_used < cutoff {
            *producer = fresh;
        }
        producer.last_used = now;
        producer.written += u64::from(batch.count);
        if producer.batches.len() >= REMEMBERED_BATCHES {
            producer.batches.remove(0);
        }
        producer.batches.push(batch);
        if self.by_id.len() > bound.max(1) as usize {
            self.drop_longest_idle();
        }
    }

    /// Drops producers last used before `cutoff`, at most `bound` of them; gives the last use of the longest idle one left.
    pub(super) fn expire(&mut self, cutoff: LogTime, bound: usize) -> Option<LogTime> {
        for _ in 0..bound {
            if self.longest_idle()? >= cutoff {
                break;
            }
            self.drop_longest_idle();
        }
        self.longest_idle()
    }

    fn longest_idle(&self) -> Option<LogTime> {
        self.idle.get_min().map(|(last_used, _)| *last_used)
    }

    fn drop_longest_idle(&mut self) {
        if let Some((_, id)) = self.idle.remove_min() {
            self.by_id.remove(&id);
        }
    }

    /// As a checkpoint holds them.
    pub(super) fn records(&self, slot: u32) -> impl Iterator<Item = ProducerRecord> + '_ {
        self.by_id.iter().map(move |(id, producer)| ProducerRecord {
            slot,
            id: *id,
            epoch: producer.epoch,
            written: producer.written,
            last_used: producer.last_used,
            batches: producer.batches.clone(),
        })
    }

    /// Takes a producer back from a checkpoint.
    pub(super) fn restore(&mut self, record: ProducerRecord) {
        let ProducerRecord { id, epoch, written, last_used, batches, .. } = record;
        self.idle.insert((last_used, id));
        self.by_id.insert(id, Arc::new(Producer { epoch, written, last_used, batches }));
    }
}

impl Producer {
    /// The same for a batch of the current epoch.
    fn check(&self, sequence: u32, count: u32, digest: u128) -> Result<Option<Appended>, Rejection> {
        let next = (self.written % u64::from(SEQUENCE_MODULUS)) as u32;
        if sequence == next {
            return Ok(None);
        }
        if let Some(batch) = self.batches.iter().find(|batch| batch.sequence == sequence) {
            if batch.count != count || batch.digest != digest {
                return Err(Rejection::SequenceReused);
            }
            return Ok(Some(Appended {
                base_offset: batch.base_offset,
                count,
                duplicate: true,
                log_index: batch.log_index,
            }));
        }
        let behind = distance(next, sequence);
        if behind >= SEQUENCE_MODULUS / 2 || u64::from(behind) > self.written {
            return Err(Rejection::SequenceGap { expected: next });
        }
        let remembered = self.batches.first().map_or(0, |oldest| distance(next, oldest.sequence));
        // Only what ends before all that is remembered was surely written; the rest overlaps other batches.
        if behind >= remembered.saturating_add(count) {
            Err(Rejection::DuplicateSequence)
        } else {
            Err(Rejection::SequenceReused)
        }
    }
}

/// How many records after `from` the sequence `to` is.
const fn distance(to: u32, from: u32) -> u32 {
    (to as u64 + SEQUENCE_MODULUS as u64 - from as u64 % SEQUENCE_MODULUS as u64) as u32 % SEQUENCE_MODULUS
}
