//! Every key of the bucket: built here, parsed here, and nowhere else. The layout is in docs/formats.md.
//!
//! Parsing is exact: a key that would not be built the same way is not ours and is left alone by garbage collection.

use std::fmt;

use crate::model::checkpoint::NamedObject;
use crate::model::{CheckpointRef, Incarnation, LogTime, NodeId, ObjectId, ShardId, TopicId};

/// Describes the cluster; created once.
pub const CLUSTER: &str = "cluster.json";
/// Prefix of the lives of the cluster.
pub const INCARNATIONS: &str = "incarnations";
/// Prefix of the members with which shards begin.
pub const GROUPS: &str = "groups";
/// Prefix of the numbers of nodes that were given away.
pub const NODES: &str = "nodes";
/// Prefix of what belongs to shards.
pub const SHARDS: &str = "shards";
/// Prefix of the Parquet files.
pub const ARCHIVE: &str = "archive";
/// Says that a place holds backups and is no cluster's bucket.
pub const BACKUP_PLACE: &str = "backup.json";
/// Prefix of what says what a backup consists of.
pub const BACKUPS: &str = "backups";
/// Says from which backup a bucket is or was being made.
pub const RESTORE: &str = "restore.json";

const MILLIS_PER_DAY: u64 = 86_400_000;

/// The name of an object of the bucket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `cluster.json`
    Cluster,
    /// `incarnations/{n:010}.json`
    Incarnation(Incarnation),
    /// `nodes/{incarnation:010}-{node:010}.json`
    Node(Incarnation, NodeId),
    /// `groups/{incarnation:010}-{shard:05}.json`
    Group(Incarnation, ShardId),
    /// `shards/{shard:05}/segments/{ulid}.seg`
    Segment(ShardId, ObjectId),
    /// `shards/{shard:05}/checkpoints/{incarnation:010}-{index:020}-{ulid}.ckpt`
    Checkpoint(ShardId, CheckpointRef),
    /// `shards/{shard:05}/index/{ulid}.idx`
    IndexPart(ShardId, ObjectId),
    /// `archive/{namespace}/{topic}/{topic_id}/dt=YYYY-MM-DD/{shard:05}-{ulid}.parquet`
    Archive(ArchiveKey),
    /// `backup.json`
    BackupPlace,
    /// `backups/{ulid}.json`
    Backup(ObjectId),
    /// `restore.json`
    Restore,
}

/// The parts of an archive file's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArchiveKey {
    /// The topic's namespace.
    pub namespace: String,
    /// The topic's name when the file was written.
    pub topic: String,
    /// The topic.
    pub topic_id: TopicId,
    /// Append day, days since 1970-01-01.
    pub day: u32,
    /// The shard that owns it.
    pub shard: ShardId,
    /// Its name.
    pub id: ObjectId,
}

impl Key {
    /// The key that `text` is, if it is one of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let key = match parts.as_slice() {
            [CLUSTER] => Self::Cluster,
            [BACKUP_PLACE] => Self::BackupPlace,
            [RESTORE] => Self::Restore,
            [BACKUPS, name] => Self::Backup(name.strip_suffix(".json")?.parse().ok()?),
            [INCARNATIONS, name] => Self::Incarnation(Incarnation(digits(name.strip_suffix(".json")?, 10)?)),
            [NODES, name] => {
                let (incarnation, node) = name.strip_suffix(".json")?.split_once('-')?;
                Self::Node(Incarnation(digits(incarnation, 10)?), NodeId(digits(node, 10)?))
            }
            [GROUPS, name] => {
                let (incarnation, shard) = name.strip_suffix(".json")?.split_once('-')?;
                let shard = ShardId(u32::try_from(digits(shard, 5)?).ok()?);
                Self::Group(Incarnation(digits(incarnation, 10)?), shard)
            }
            [SHARDS, shard, kind, name] => {
                Self::parse_shard(ShardId(u32::try_from(digits(shard, 5)?).ok()?), kind, name)?
            }
            [ARCHIVE, namespace, topic, topic_id, date, name] => {
                let (shard, id) = name.strip_suffix(".parquet")?.split_once('-')?;
                Self::Archive(ArchiveKey {
                    namespace: (*namespace).to_owned(),
                    topic: (*topic).to_owned(),
                    topic_id: TopicId(topic_id.parse().ok()?),
                    day: parse_date(date.strip_prefix("dt=")?)?,
                    shard: ShardId(u32::try_from(digits(shard, 5)?).ok()?),
                    id: id.parse().ok()?,
                })
            }
            _ => return None,
        };
        // UUIDs, for one, have several spellings; ours is the one we print.
        (key.to_string() == text).then_some(key)
    }

    fn parse_shard(shard: ShardId, kind: &str, name: &str) -> Option<Self> {
        match kind {
            "segments" => Some(Self::Segment(shard, name.strip_suffix(".seg")?.parse().ok()?)),
            "index" => Some(Self::IndexPart(shard, name.strip_suffix(".idx")?.parse().ok()?)),
            "checkpoints" => {
                let mut parts = name.strip_suffix(".ckpt")?.splitn(3, '-');
                let incarnation = Incarnation(digits(parts.next()?, 10)?);
                let index = digits(parts.next()?, 20)?;
                let id = parts.next()?.parse().ok()?;
                Some(Self::Checkpoint(shard, CheckpointRef { incarnation, index, id }))
            }
            _ => None,
        }
    }

    /// The object's id, if a shard owns it: what garbage collection compares with its floor.
    #[must_use]
    pub fn object_id(&self) -> Option<ObjectId> {
        self.owned().map(|(_, object)| object.id())
    }

    /// The shard that owns the object, if one does.
    #[must_use]
    pub fn shard(&self) -> Option<ShardId> {
        self.owned().map(|(shard, _)| shard)
    }

    /// The shard that owns the object, and the object as states and checkpoints name it; `None` for what a cluster and its shards
    /// begin with and for what is of a backup, which nobody collects.
    #[must_use]
    pub const fn owned(&self) -> Option<(ShardId, NamedObject)> {
        match self {
            Self::Cluster
            | Self::Incarnation(_)
            | Self::Node(..)
            | Self::Group(..)
            | Self::BackupPlace
            | Self::Backup(_)
            | Self::Restore => None,
            Self::Segment(shard, id) => Some((*shard, NamedObject::Segment(*id))),
            Self::IndexPart(shard, id) => Some((*shard, NamedObject::IndexPart(*id))),
            Self::Checkpoint(shard, checkpoint) => Some((*shard, NamedObject::Checkpoint(checkpoint.id))),
            Self::Archive(key) => Some((key.shard, NamedObject::Archive(key.id))),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str(CLUSTER),
            Self::BackupPlace => f.write_str(BACKUP_PLACE),
            Self::Restore => f.write_str(RESTORE),
            Self::Backup(id) => write!(f, "{BACKUPS}/{id}.json"),
            Self::Incarnation(number) => write!(f, "{INCARNATIONS}/{:010}.json", number.0),
            Self::Group(incarnation, shard) => write!(f, "{GROUPS}/{:010}-{:05}.json", incarnation.0, shard.0),
            Self::Node(incarnation, node) => write!(f, "{NODES}/{:010}-{:010}.json", incarnation.0, node.0),
            Self::Segment(shard, id) => write!(f, "{SHARDS}/{:05}/segments/{id}.seg", shard.0),
            Self::IndexPart(shard, id) => write!(f, "{SHARDS}/{:05}/index/{id}.idx", shard.0),
            Self::Checkpoint(shard, CheckpointRef { incarnation, index, id }) => {
                write!(f, "{SHARDS}/{:05}/checkpoints/{:010}-{index:020}-{id}.ckpt", shard.0, incarnation.0)
            }
            Self::Archive(ArchiveKey { namespace, topic, topic_id, day, shard, id }) => {
                write!(f, "{ARCHIVE}/{namespace}/{topic}/{topic_id}/dt={}/{:05}-{id}.parquet", date(*day), shard.0)
            }
        }
    }
}

/// Prefix of a shard's checkpoints; within it the keys sort by incarnation, then index.
#[must_use]
pub fn checkpoints_of(shard: ShardId) -> String {
    format!("{SHARDS}/{:05}/checkpoints", shard.0)
}

/// Prefix of a shard's segments.
#[must_use]
pub fn segments_of(shard: ShardId) -> String {
    format!("{SHARDS}/{:05}/segments", shard.0)
}

/// Prefix of a shard's index parts.
#[must_use]
pub fn index_of(shard: ShardId) -> String {
    format!("{SHARDS}/{:05}/index", shard.0)
}

/// The day of `time`, days since 1970-01-01.
#[must_use]
pub fn day_of(time: LogTime) -> u32 {
    u32::try_from(time / MILLIS_PER_DAY).unwrap_or(u32::MAX)
}

fn digits(text: &str, len: usize) -> Option<u64> {
    (text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// `YYYY-MM-DD` of a day since 1970-01-01, in the proleptic Gregorian calendar. After Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`; days since 1970 are never negative here.
#[must_use]
pub fn date(day: u32) -> String {
    let shifted = u64::from(day) + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day_of_month:02}")
}

/// The inverse of [`date`], `days_from_civil` of the same source.
fn parse_date(text: &str) -> Option<u32> {
    let mut parts = text.splitn(3, '-');
    let year: u64 = parts.next()?.parse().ok()?;
    let (month, day) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if !(1970..=9_999_999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    u32::try_from((era * 146_097 + day_of_era).checked_sub(719_468)?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn archive(topic: &str, day: u32) -> Key {
        Key::Archive(ArchiveKey {
            namespace: "default".to_owned(),
            topic: topic.to_owned(),
            topic_id: TopicId(uuid::Uuid::from_u128(7)),
            day,
            shard: ShardId(3),
            id: ObjectId(9),
        })
    }

    #[test]
    fn keys_are_those_of_the_layout() {
        let id = ObjectId::from_parts(1_700_000_000_000, 1);
        let shard = ShardId(3);
        let checkpoint = CheckpointRef { incarnation: Incarnation(2), index: 45, id };
        let expected = [
            (Key::Cluster, "cluster.json".to_owned()),
            (Key::BackupPlace, "backup.json".to_owned()),
            (Key::Backup(id), format!("backups/{id}.json")),
            (Key::Restore, "restore.json".to_owned()),
            (Key::Incarnation(Incarnation(1)), "incarnations/0000000001.json".to_owned()),
            (Key::Node(Incarnation(2), NodeId(3)), "nodes/0000000002-0000000003.json".to_owned()),
            (Key::Group(Incarnation(2), shard), "groups/0000000002-00003.json".to_owned()),
            (Key::Segment(shard, id), format!("shards/00003/segments/{id}.seg")),
            (Key::IndexPart(shard, id), format!("shards/00003/index/{id}.idx")),
            (
                Key::Checkpoint(shard, checkpoint),
                format!("shards/00003/checkpoints/0000000002-00000000000000000045-{id}.ckpt"),
            ),
            (
                archive("flights", 19_675),
                format!(
                    "archive/default/flights/00000000-0000-0000-0000-000000000007/dt=2023-11-14/00003-{}.parquet",
                    ObjectId(9)
                ),
            ),
        ];
        for (key, text) in expected {
            assert_eq!(key.to_string(), text);
            assert_eq!(Key::parse(&text), Some(key));
        }
    }

    #[test]
    fn what_we_would_not_write_is_not_ours() {
        let segment = Key::Segment(ShardId(3), ObjectId(u128::MAX)).to_string();
        let archive = archive("a", 0).to_string();
        for other in [
            "",
            "cluster.json/x",
            "incarnations/1.json",
            "incarnations/+000000001.json",
            "nodes/0000000002-3.json",
            &segment.replace("00003", "3"),
            &segment.replace(".seg", ".tmp"),
            &segment.to_lowercase(),
            &format!("{segment}#1"),
            &archive.replace("1970-01-01", "1970-02-31"),
            &archive.replace("1970-01-01", "1970-1-1"),
            &archive.replace("-0000-", ""),
        ] {
            assert_eq!(Key::parse(other), None, "{other}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (day, text) in [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (19_782, "2024-02-29")] {
            assert_eq!(date(day), text);
        }
        assert_eq!(day_of(86_399_999), 0);
        assert_eq!(day_of(86_400_000), 1);
    }

    proptest! {
        #[test]
        fn every_date_parses_back(day in 0u32..3_000_000) {
            prop_assert_eq!(parse_date(&date(day)), Some(day));
        }

        #[test]
        fn parsing_never_panics(text in "(archive|shards|incarnations|[a-z/]{0,9})/[0-9a-zA-Z=./-]{0,80}") {
            let _ = Key::parse(&text);
        }
    }
}
