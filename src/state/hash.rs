//! The digest by which replicas are compared.

use xxhash_rust::xxh3::Xxh3;

use super::State;
use crate::model::{CheckpointRef, Incarnation, ObjectId, Place, TailRef};

impl State {
    /// A digest of everything that decides or is served, independent of how it lies in memory: two replicas that applied
    /// the same log up to the same index have the same one, whether they started from nothing or from a checkpoint. The index
    /// itself is not in it, so entries that are no commands change nothing: a restart adds one. Reads the whole state: for a
    /// view, off the apply path.
    #[must_use]
    pub fn hash(&self) -> u128 {
        let none = CheckpointRef { incarnation: Incarnation(0), index: 0, id: ObjectId(0) };
        let mut digest = Digest(Xxh3::new());
        // What a checkpoint would hold. Serializing plain values to memory cannot fail; if it did, an empty digest would
        // differ from every other replica's, which is what should be seen.
        let scalars = postcard::to_stdvec(&self.scalars(self.checkpoint.unwrap_or(none))).unwrap_or_default();
        digest.0.update(&scalars);
        digest.numbers(&[self.flushed_index, self.tail_bytes]);
        for segment in self.objects.segments() {
            digest.numbers(&[u64::from(segment.live_ranges)]);
        }
        for file in self.objects.files() {
            digest.numbers(&[u64::from(file.live_ranges)]);
        }
        for (number, part) in &self.parts {
            let dirty = if part.is_dirty() { part.changed_at } else { 0 };
            digest.numbers(&[u64::from(*number), dirty, u64::from(part.partitions)]);
        }
        for partition in self.partitions.values() {
            let bounds = partition.bounds();
            digest.numbers(&[bounds.archived, bounds.high_watermark, partition.stored_bytes, partition.tail_bytes]);
            digest.numbers(&[partition.kept_bytes]);
            digest.numbers(&[partition.tail.len() as u64, partition.ranges.len() as u64]);
            partition.tail.iter().for_each(|batch| digest.batch(batch));
            for range in partition.ranges.iter() {
                digest.numbers(&[range.start, range.end, range.bytes, range.max_timestamp.cast_unsigned()]);
                digest.numbers(&[range.min_append_time, range.max_append_time]);
                match range.place {
                    Place::Segment { id, position } => digest.object(id, position),
                    Place::Archive { file } => digest.object(file, u64::MAX),
                }
            }
        }
        digest.0.digest128()
    }
}

struct Digest(Xxh3);

impl Digest {
    fn numbers(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.0.update(&number.to_le_bytes());
        }
    }

    fn object(&mut self, id: ObjectId, position: u64) {
        self.0.update(&id.0.to_le_bytes());
        self.numbers(&[position]);
    }

    fn batch(&mut self, batch: &TailRef) {
        self.numbers(&[batch.base_offset, batch.log_index, batch.append_time, batch.max_timestamp.cast_unsigned()]);
        self.numbers(&[u64::from(batch.count), u64::from(batch.position), u64::from(batch.len)]);
    }
}
