//! A reader of the bucket that shares no code with the engine's: it decodes segments, record batches, Parquet files,
//! checkpoints and index parts by `docs/formats.md`. Only the nouns of `tidelog::model` are shared, since their field order
//! is the format.
//!
//! It takes all objects at once and never asks the engine for anything. What it finds damaged, missing or contradictory is
//! a problem of the scan, not an error.
//!
//! | module | what |
//! |---|---|
//! | `frame` | checkpoints and index parts |
//! | `segment`, `batch` | segments down to records |
//! | `archive` | Parquet files |
//! | `shard` | which object holds which offsets, by a checkpoint |

mod archive;
mod batch;
mod frame;
mod segment;
mod shard;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidelog::model::Checkpoint;

use crate::history::{Part, Record, Scan, Stamped};

/// All objects of a bucket by key.
pub type Objects = BTreeMap<String, Bytes>;

/// A record with its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    offset: u64,
    record: Record,
    stamp: Option<Stamped>,
}

/// What is told apart of a record beside its value: hash of key, headers and timestamp.
#[must_use]
pub fn rest_of(key: Option<&[u8]>, headers: &[(String, Option<Vec<u8>>)], timestamp: i64) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    let mut add = |bytes: Option<&[u8]>| {
        let length = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
        hash.update(&length.to_le_bytes());
        hash.update(bytes.unwrap_or_default());
    };
    add(key);
    for (name, value) in headers {
        add(Some(name.as_bytes()));
        add(value.as_deref());
    }
    add(Some(&timestamp.to_le_bytes()));
    hash.digest()
}

/// The shards of which the bucket has anything.
#[must_use]
pub fn shards(objects: &Objects) -> BTreeSet<u32> {
    let of = |key: &String| key.strip_prefix("shards/")?.split('/').next()?.parse().ok();
    objects.keys().filter_map(of).collect()
}

/// Reads all that the newest usable checkpoint of each shard says is there. `flushed` is the log index that the replicas of
/// each shard say is the last flushed one: a checkpoint at or above it has to be whole.
#[must_use]
pub fn scan(objects: &Objects, flushed: &BTreeMap<u32, u64>) -> Scan {
    let mut scan = Scan { source: "bucket".to_owned(), ..Scan::default() };
    for shard in shards(objects) {
        match newest(objects, shard) {
            Ok((index, checkpoint)) => {
                let least = flushed.get(&shard).copied().unwrap_or(0);
                if index < least {
                    scan.problems
                        .push(format!("shard {shard}: the newest whole checkpoint is of {index}, not {least}"));
                }
                shard::read(objects, &checkpoint, &mut scan);
            }
            Err(problem) => scan.problems.push(format!("shard {shard}: {problem}")),
        }
    }
    scan
}

/// The offset below which the newest usable checkpoint says that a partition is in the bucket. Cheap: reads no records.
#[must_use]
pub fn flushed(objects: &Objects) -> BTreeMap<Part, u64> {
    let checkpoints = shards(objects).into_iter().filter_map(|shard| newest(objects, shard).ok());
    checkpoints.flat_map(|(_, checkpoint)| shard::flushed(&checkpoint)).collect()
}

/// Segments of shards that never had a checkpoint: first flushes that came to nothing. No life begins over them.
#[must_use]
pub fn of_no_checkpoint(objects: &Objects) -> Vec<String> {
    let has_none = |shard: &u32| !objects.keys().any(|key| key.starts_with(&format!("shards/{shard:05}/checkpoints/")));
    let segments = |shard: u32| {
        let prefix = format!("shards/{shard:05}/segments/");
        objects.keys().filter(move |key| key.starts_with(&prefix)).cloned()
    };
    shards(objects).into_iter().filter(has_none).flat_map(segments).collect()
}

/// The first checkpoint from the newest one down all of whose objects exist.
fn newest(objects: &Objects, shard: u32) -> Result<(u64, Checkpoint), String> {
    let prefix = format!("shards/{shard:05}/checkpoints/");
    let mut keys: Vec<&String> = objects.keys().filter(|key| key.starts_with(&prefix)).collect();
    // Incarnation and index have a fixed number of digits: the order of names is theirs.
    keys.sort_unstable();
    let mut first = None;
    for key in keys.into_iter().rev() {
        let name = &key[prefix.len()..];
        let usable = frame::checkpoint(&objects[key]).and_then(|checkpoint| {
            let missing = shard::named(&checkpoint).into_iter().find(|named| !objects.contains_key(named));
            missing.map_or(Ok(checkpoint), |named| Err(format!("{name} names {named}, which does not exist")))
        });
        match usable {
            Ok(checkpoint) => {
                let index = name.split('-').nth(1).and_then(|index| index.parse().ok());
                return Ok((index.ok_or_else(|| format!("{name} has no index"))?, checkpoint));
            }
            Err(problem) => first = first.or(Some(problem)),
        }
    }
    Err(first.unwrap_or_else(|| "there is no checkpoint".to_owned()))
}
