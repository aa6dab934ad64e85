//! Which partition a record goes to.
//!
//! A partition that the record names wins; then the key's hash, exactly as Kafka's Java client has it, so that both agree
//! where a key lives; then, under an idempotency key, the hash of that, so that a retry meets the partition of its first
//! attempt; else sticky round robin: what arrives close together goes to one partition and becomes one batch there.
//! Memory is bounded: at most [`STICKY_TOPICS`] topics are remembered, and forgetting one costs nothing but a batch.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::clock::Millis;
use crate::model::{IdempotencyKey, TopicId};

/// Topics whose current partition is remembered.
pub const STICKY_TOPICS: usize = 4_096;
/// Bytes after which the next request goes to the next partition: enough for a batch that compresses well.
pub const STICKY_BYTES: u64 = 64 << 10;
/// Milliseconds after which the next request goes to the next partition however little arrived: a slow producer is
/// spread request by request, a fast one batch by batch.
pub const STICKY_MILLIS: Millis = 5;
/// Bytes of one request that stay together on a partition.
pub const REQUEST_RUN_BYTES: u64 = 1 << 20;

/// Kafka's murmur2 (`org.apache.kafka.common.utils.Utils.murmur2`).
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    // Java's int length; a key is far shorter than 4 GiB.
    #[allow(clippy::cast_possible_truncation, reason = "a key is at most 1 MiB")]
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of `key` among `partitions`: `toPositive(murmur2(key)) % n`.
///
/// # Panics
/// If `partitions` is 0; a topic has at least one.
#[must_use]
pub fn partition_of_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// The partition of records without a key in a request under `key`.
///
/// # Panics
/// If `partitions` is 0; a topic has at least one.
#[must_use]
pub fn partition_of_idempotency_key(key: IdempotencyKey, partitions: u32) -> u32 {
    // The key is a hash already. The remainder is below a u32.
    #[allow(clippy::cast_possible_truncation, reason = "a remainder of division by a u32")]
    let partition = (key.0 % u128::from(partitions)) as u32;
    partition
}

/// Where records without a key go: remembers the current partition of each topic. Shared by all requests of a gateway.
#[derive(Debug)]
pub struct Sticky {
    topics: Mutex<HashMap<TopicId, Place>>,
    /// Where topics begin: random, so that several gateways do not all begin at partition 0.
    seed: u32,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    partition: u32,
    bytes: u64,
    since: Millis,
}

impl Default for Sticky {
    /// With a random seed.
    fn default() -> Self {
        Self::new(rand::random())
    }
}

impl Sticky {
    /// Topics begin at partition `seed` modulo their partitions.
    #[must_use]
    pub fn new(seed: u32) -> Self {
        Self { topics: Mutex::default(), seed }
    }

    /// Begins a request of keyless records at monotonic time `now`; finish it with [`Sticky::end`].
    #[must_use]
    pub fn begin(&self, topic: TopicId, partitions: u32, now: Millis) -> Run {
        let place = self.lock().get(&topic).copied();
        let (partition, bytes, since) = match place {
            None => (self.seed, 0, now),
            Some(place) if place.bytes >= STICKY_BYTES || now.saturating_sub(place.since) >= STICKY_MILLIS => {
                (place.partition.wrapping_add(1), 0, now)
            }
            Some(place) => (place.partition, place.bytes, place.since),
        };
        Run { topic, partitions, place: Place { partition: partition % partitions, bytes, since }, run_bytes: 0 }
    }

    /// Remembers where `run` ended.
    pub fn end(&self, run: Run) {
        let mut topics = self.lock();
        if topics.len() >= STICKY_TOPICS && !topics.contains_key(&run.topic) {
            topics.clear();
        }
        topics.insert(run.topic, run.place);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TopicId, Place>> {
        // The map holds hints only; a panic elsewhere cannot leave it in a state that matters.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keyless records of one request on their way to partitions.
#[derive(Debug)]
pub struct Run {
    topic: TopicId,
    partitions: u32,
    place: Place,
    run_bytes: u64,
}

impl Run {
    /// The partition of the next record, which has `bytes`.
    pub fn next(&mut self, bytes: u64) -> u32 {
        if self.run_bytes > 0 && self.run_bytes + bytes > REQUEST_RUN_BYTES {
            self.place.partition = (self.place.partition + 1) % self.partitions;
            self.place.bytes = 0;
            self.run_bytes = 0;
        }
        self.run_bytes += bytes;
        self.place.bytes += bytes;
        self.place.partition
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const TOPIC: TopicId = TopicId(Uuid::from_u128(1));

    /// From Kafka's `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_agrees_with_kafka() {
        let vectors: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn a_negative_hash_is_made_positive_as_kafka_does() {
        // toPositive is & 0x7fffffff, not abs: the two differ for every negative hash.
        assert_eq!(partition_of_key(b"21", 1_000), (-973_932_308i32 & 0x7fff_ffff).cast_unsigned() % 1_000);
        assert_eq!(partition_of_key(b"", 7), (275_646_681 & 0x7fff_ffff) % 7);
    }

    #[test]
    fn requests_close_together_share_a_partition_until_it_has_a_batch() {
        let sticky = Sticky::new(6);
        let one = |bytes, now| {
            let mut run = sticky.begin(TOPIC, 4, now);
            let partition = run.next(bytes);
            sticky.end(run);
            partition
        };
        assert_eq!([one(10, 0), one(10, 1), one(STICKY_BYTES, 2)], [2, 2, 2]);
        assert_eq!([one(10, 3), one(10, 4)], [3, 3], "the batch was full");
        assert_eq!([one(10, 8), one(10, 13), one(10, 18)], [0, 1, 2], "a slow producer is spread by request");
    }

    #[test]
    fn a_large_request_is_spread_in_runs() {
        let sticky = Sticky::new(0);
        let mut run = sticky.begin(TOPIC, 3, 0);
        let half = REQUEST_RUN_BYTES / 2;
        let partitions: Vec<u32> = (0..8).map(|_| run.next(half)).collect();
        assert_eq!(partitions, [0, 0, 1, 1, 2, 2, 0, 0]);
        sticky.end(run);
    }

    #[test]
    fn memory_is_bounded_and_a_shrunk_view_of_the_topic_is_no_panic() {
        let sticky = Sticky::new(9);
        for topic in 0..(STICKY_TOPICS as u128 * 2 + 5) {
            let mut run = sticky.begin(TopicId(Uuid::from_u128(topic)), 10, 0);
            run.next(1);
            sticky.end(run);
            assert!(sticky.lock().len() <= STICKY_TOPICS);
        }
        let last = TopicId(Uuid::from_u128(STICKY_TOPICS as u128 * 2 + 4));
        assert_eq!(sticky.begin(last, 2, 0).next(1), 1);
    }
}
