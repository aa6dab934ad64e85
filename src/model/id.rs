//! Names and positions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Position of a record in its partition; dense, assigned once, never above 2^53 - 1.
pub type Offset = u64;

/// Index of an entry in a shard's Raft log.
pub type LogIndex = u64;

/// Milliseconds since 1970 as carried by commands; never runs backwards within a shard.
pub type LogTime = u64;

/// The largest offset, producer id and timestamp: what a JSON reader keeps exact.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// One Raft group. Shard 0 also owns the catalog.
    ShardId(u32)
}
number! {
    /// A node of the cluster; never reused.
    NodeId(u64)
}
number! {
    /// Number of a cluster's life on a bucket; the first is 1.
    Incarnation(u64)
}
number! {
    /// `incarnation << 40 | counter`, so that no two lives hand out the same.
    ProducerId(u64)
}

impl NodeId {
    /// Under which gateways call the nodes, which begin with 1: they are none.
    pub const GATEWAY: Self = Self(0);
}

/// Identity of a topic: a UUID that is never reused, also not by a topic of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicId(pub Uuid);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition of one topic, the key of everything below the gateway. Orders by topic id, then partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition, from 0.
    pub partition: u32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    #[must_use]
    pub const fn new(topic: TopicId, partition: u32) -> Self {
        Self { topic, partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// Identity of an immutable object of the bucket: a ULID whose time is log time, so that garbage collection can
/// compare it with a floor. Written as 26 characters of Crockford's base 32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObjectId(pub u128);

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const OBJECT_ID_LEN: usize = 26;

impl ObjectId {
    /// The id of log time `time` (48 bits) and 80 bits of `random`.
    #[must_use]
    pub const fn from_parts(time: LogTime, random: u128) -> Self {
        Self(((time as u128 & 0xffff_ffff_ffff) << 80) | (random & ((1 << 80) - 1)))
    }

    /// The log time in this id.
    #[must_use]
    pub const fn time(self) -> LogTime {
        (self.0 >> 80) as u64
    }

    /// The smallest id of log time `time`: a garbage-collection floor.
    #[must_use]
    pub const fn floor(time: LogTime) -> Self {
        Self::from_parts(time, 0)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; OBJECT_ID_LEN];
        for (place, letter) in text.iter_mut().rev().enumerate() {
            *letter = CROCKFORD[((self.0 >> (5 * place)) & 31) as usize];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 26 characters of Crockford's base 32 within 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an object id")]
pub struct InvalidObjectId;

impl FromStr for ObjectId {
    type Err = InvalidObjectId;

    fn from_str(text: &str) -> Result<Self, InvalidObjectId> {
        // The first letter holds the top three of 128 bits.
        if text.len() != OBJECT_ID_LEN || text.as_bytes()[0] > b'7' {
            return Err(InvalidObjectId);
        }
        text.bytes().try_fold(Self(0), |id, letter| {
            let value = CROCKFORD.iter().position(|known| *known == letter).ok_or(InvalidObjectId)?;
            Ok(Self((id.0 << 5) | value as u128))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_ids_print_and_parse_and_sort_by_time() {
        let early = ObjectId::from_parts(1_700_000_000_000, 7);
        let late = ObjectId::from_parts(1_700_000_000_001, 0);
        assert_eq!(early.to_string().parse(), Ok(early));
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(early.time(), 1_700_000_000_000);
        assert_eq!(ObjectId(u128::MAX).to_string().parse(), Ok(ObjectId(u128::MAX)));
        assert_eq!("8ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse::<ObjectId>(), Err(InvalidObjectId));
        assert_eq!("short".parse::<ObjectId>(), Err(InvalidObjectId));
    }
}
