//! Hashes that let `apply` tell a retry from another request.
//!
//! The digest covers what the client sent: the partition of the route, partitions that records name, keys, values and headers, each framed by its length.
//! Timestamps are left out, because the gateway's clock fills in those that are absent and a retry meets a later clock.

use xxhash_rust::xxh3::Xxh3;

use crate::model::{IdempotencyKey, Record, TopicId};

/// The hash of an `Idempotency-Key` within its topic.
#[must_use]
pub fn idempotency_key(topic: TopicId, key: &str) -> IdempotencyKey {
    let mut hasher = Xxh3::new();
    hasher.update(topic.0.as_bytes());
    hasher.update(key.as_bytes());
    IdempotencyKey(hasher.digest128())
}

/// The digest of the records of a request, on the route of a partition or not.
#[must_use]
pub fn of_records(route: Option<u32>, records: &[(Option<u32>, Record)]) -> u128 {
    let mut hasher = Xxh3::new();
    place(&mut hasher, route);
    for (partition, record) in records {
        place(&mut hasher, *partition);
        bytes(&mut hasher, record.key.as_deref());
        bytes(&mut hasher, record.value.as_deref());
        hasher.update(&(record.headers.len() as u64).to_le_bytes());
        for header in &record.headers {
            bytes(&mut hasher, Some(header.name.as_bytes()));
            bytes(&mut hasher, header.value.as_deref());
        }
    }
    hasher.digest128()
}

/// The digest of a batch that a client encoded, on the route of a partition.
#[must_use]
pub fn of_batch(route: u32, batch: &[u8]) -> u128 {
    let mut hasher = Xxh3::new();
    place(&mut hasher, Some(route));
    hasher.update(batch);
    hasher.digest128()
}

/// No partition is a number that no partition has.
fn place(hasher: &mut Xxh3, partition: Option<u32>) {
    hasher.update(&partition.map_or(u64::MAX, u64::from).to_le_bytes());
}

/// Null is a length that no bytes have.
fn bytes(hasher: &mut Xxh3, content: Option<&[u8]>) {
    hasher.update(&content.map_or(u64::MAX, |content| content.len() as u64).to_le_bytes());
    hasher.update(content.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::model::Header;

    fn record(key: Option<&'static str>, value: Option<&'static str>) -> Record {
        Record { timestamp: 1, key: key.map(Bytes::from), value: value.map(Bytes::from), headers: Vec::new() }
    }

    #[test]
    fn what_differs_has_another_digest() {
        let header =
            |name: &str, value: Option<&'static str>| Header { name: name.into(), value: value.map(Bytes::from) };
        let mut with_header = record(None, None);
        with_header.headers = vec![header("a", Some("b"))];
        let mut null_header = record(None, None);
        null_header.headers = vec![header("a", None)];
        let bodies = [
            vec![],
            vec![(None, record(None, None))],
            vec![(None, record(Some(""), None))],
            vec![(None, record(None, Some("")))],
            vec![(Some(0), record(None, None))],
            vec![(None, record(Some("ab"), Some("c")))],
            vec![(None, record(Some("a"), Some("bc")))],
            vec![(None, record(None, None)), (None, record(None, None))],
            vec![(None, with_header)],
            vec![(None, null_header)],
        ];
        let digests: std::collections::HashSet<u128> = bodies.iter().map(|body| of_records(None, body)).collect();
        assert_eq!(digests.len(), bodies.len());
    }

    #[test]
    fn a_later_clock_does_not_change_the_digest() {
        let early = record(Some("k"), Some("v"));
        let late = Record { timestamp: 9, ..early.clone() };
        assert_eq!(of_records(None, &[(None, early)]), of_records(None, &[(None, late)]));
    }

    #[test]
    fn a_key_means_nothing_in_another_topic() {
        let [one, two] = [1, 2].map(|id| idempotency_key(TopicId(Uuid::from_u128(id)), "k"));
        assert_ne!(one, two);
        assert_eq!(one, idempotency_key(TopicId(Uuid::from_u128(1)), "k"));
    }
}
