//! `Append`: each batch on its own terms, in order, so that a batch sees what those before it in the same entry did.
//!
//! The order of the checks is part of the contract with clients: an answer that a first attempt got must come again
//! before anything that may have changed since (the shard closed, the next offset moved) can decline the retry.

use std::sync::Arc;

use super::State;
use super::keys::Use;
use crate::model::batch::BATCH_OVERHEAD_BYTES;
use crate::model::checkpoint::{KeyRecord, RememberedBatch};
use crate::model::id::MAX_SAFE_INTEGER;
use crate::model::{Append, Appended, BatchOutcome, Keyed, Rejection, TailRef, TopicPartition, Triple};

/// A name's last use is kept to within this share of the expiry.
const NAME_GRAINS: u64 = 16;

impl State {
    /// Appends `batches`; gives what became of each and the partitions that grew.
    pub(super) fn append(&mut self, batches: &[Append]) -> (Vec<BatchOutcome>, Vec<TopicPartition>) {
        let mut grown = Vec::new();
        let outcomes = batches
            .iter()
            .map(|batch| {
                let outcome = self.append_batch(batch);
                if outcome.as_ref().is_ok_and(|appended| !appended.duplicate) && grown.last() != Some(&batch.partition)
                {
                    grown.push(batch.partition);
                }
                outcome
            })
            .collect();
        (outcomes, grown)
    }

    fn append_batch(&mut self, batch: &Append) -> BatchOutcome {
        let topic = self.topics.get(&batch.partition.topic).filter(|entry| entry.is_live());
        let topic = topic.ok_or(Rejection::TopicNotFound)?;
        let topic_partitions = topic.topic.settings.partitions;
        let slot = topic.slot(batch.partition.partition);
        let slot = slot.ok_or(Rejection::PartitionNotFound)?;
        let partition = self.partitions.get(&slot).ok_or(Rejection::PartitionNotFound)?;
        let count = batch.info.count;
        if let Some(triple) = &batch.triple {
            self.check_fence(triple)?;
            let cutoff = self.producer_cutoff();
            if let Some(first) = partition.producers.check(triple, count, batch.digest, cutoff)? {
                return Ok(first);
            }
        }
        // What the records of a request under a key must have been assigned among.
        let mut among = topic_partitions;
        if let Some(keyed) = batch.idempotency {
            match self.keys.check(slot, keyed, batch.digest, self.key_cutoff())? {
                Use::Written(first) => return Ok(first),
                // The rest of a request follows its beginning, however the topic has grown since.
                Use::Begun(begun) => among = begun,
                // Another shard has its beginning.
                Use::New if keyed.begun => among = keyed.among,
                Use::New => {}
            }
        }
        if self.closed {
            return Err(Rejection::Closed);
        }
        if batch.idempotency.is_some_and(|keyed| keyed.among != 0 && keyed.among != among) {
            return Err(Rejection::AssignedAmongOthers);
        }
        let base_offset = partition.high_watermark;
        if batch.expected_offset.is_some_and(|expected| expected != base_offset) {
            return Err(Rejection::OffsetMismatch { actual: base_offset });
        }
        if base_offset + u64::from(count) > MAX_SAFE_INTEGER {
            return Err(Rejection::OffsetsExhausted);
        }
        // The codec refuses an empty batch; should one come all the same, it must not become a reference to nothing.
        if count > 0 {
            self.write(slot, base_offset, batch);
        }
        Ok(Appended { base_offset, count, duplicate: false, log_index: self.applied })
    }

    /// Declines a triple whose name was registered again since.
    fn check_fence(&self, triple: &Triple) -> Result<(), Rejection> {
        match self.producer_names.epoch(triple.id, self.name_cutoff()) {
            Some(current) if triple.epoch < current => Err(Rejection::ProducerFenced { current }),
            _ => Ok(()),
        }
    }

    /// Writes a batch that passed all checks.
    fn write(&mut self, slot: u32, base_offset: u64, batch: &Append) {
        let (now, log_index, limits, cutoff) = (self.log_time, self.applied, self.limits, self.producer_cutoff());
        let Some(partition) = self.partitions.get_mut(&slot) else { return };
        let partition = Arc::make_mut(partition);
        if partition.tail.is_empty() {
            self.unflushed.insert(slot);
        }
        partition.tail.push_back(TailRef {
            base_offset,
            count: batch.info.count,
            log_index,
            position: batch.position,
            len: batch.info.len,
            max_timestamp: batch.info.max_timestamp,
            append_time: now,
        });
        partition.high_watermark += u64::from(batch.info.count);
        let charged = u64::from(batch.info.len) + BATCH_OVERHEAD_BYTES;
        partition.tail_bytes += charged;
        self.tail_bytes += charged;
        if let Some(triple) = &batch.triple {
            let remembered = RememberedBatch {
                sequence: triple.sequence,
                count: batch.info.count,
                base_offset,
                digest: batch.digest,
                log_index,
            };
            if partition.producers.is_empty() {
                partition.producers_checked = now;
                self.producer_checks.insert((now, slot));
            }
            partition.producers.record(triple, remembered, now, cutoff, limits.producers_per_partition);
            self.producer_names.touch(triple.id, now, limits.producer_expiry_ms / NAME_GRAINS);
        }
        if let Some(Keyed { key, among, .. }) = batch.idempotency {
            let (digest, count) = (batch.digest, batch.info.count);
            self.keys.record(KeyRecord { slot, key, digest, among, base_offset, count, log_index, time: now });
        }
    }
}
