//! The idempotent producers of one partition.

use imbl::OrdMap;
use std::sync::Arc;

use crate::model::checkpoint::RememberedBatch;
use crate::model::producer::advance_sequence;
use crate::model::{LogTime, Offset, ProducerId};

/// The producers that a partition remembers.
#[derive(Debug, Clone, Default)]
pub struct Producers {
    by_id: OrdMap<ProducerId, Arc<Producer>>,
}

/// One producer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: u16,
    written: u64,
    last_used: LogTime,
    batches: Vec<RememberedBatch>,
}

/// How far a producer got in a partition: what it needs to resume after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerPosition {
    /// The newest epoch seen.
    pub epoch: u16,
    /// Sequence of the last record written; `None` if there is none in this epoch.
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
            last_sequence: last.map(|batch| advance_sequence(batch.sequence, batch.count - 1)),
            last_offset: last.map(|batch| batch.base_offset + u64::from(batch.count) - 1),
        })
    }
}
