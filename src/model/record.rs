//! A record as a producer means it: key, value, headers, timestamp.

use bytes::Bytes;

use super::id::{LogTime, Offset};
use super::producer::Triple;

/// A header: a name and a value that may be null. Order and repeats are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// UTF-8, as in Kafka.
    pub name: String,
    /// `None` is null, which differs from empty.
    pub value: Option<Bytes>,
}

/// One record. `None` is null, which differs from empty, for key and value alike.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The producer's timestamp, milliseconds since 1970.
    pub timestamp: i64,
    /// Decides the partition when the request does not.
    pub key: Option<Bytes>,
    /// The payload; null is a tombstone.
    pub value: Option<Bytes>,
    /// In order, with repeats.
    pub headers: Vec<Header>,
}

impl Record {
    /// Bytes of key, value and headers: what the limit of a record counts.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|header| header.name.len() + header.value.as_ref().map_or(0, Bytes::len)).sum();
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len) + headers
    }
}

/// A record with its place, decoded from any tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its offset.
    pub offset: Offset,
    /// Log time of the command that appended it.
    pub append_time: LogTime,
    /// Producer and the record's own sequence, if an idempotent producer wrote it.
    pub triple: Option<Triple>,
    /// What the producer sent.
    pub record: Record,
}
