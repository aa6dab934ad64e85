//! What Tidelog adds to Parquet's key-value metadata: where the row groups are, what they hold, their checksums.

use std::collections::BTreeMap;

use parquet::file::metadata::KeyValue;
use serde::{Deserialize, Serialize};

use super::{MAX_ROW_GROUPS, VERSION};
use crate::error::{Error, Result};
use crate::model::id::MAX_SAFE_INTEGER;
use crate::model::{Offset, Topic, TopicId, ValueFormat};

const KEY_VERSION: &str = "tidelog.version";
const KEY_NAMESPACE: &str = "tidelog.namespace";
const KEY_TOPIC: &str = "tidelog.topic";
pub(super) const KEY_TOPIC_ID: &str = "tidelog.topic_id";
const KEY_DAY: &str = "tidelog.append_day";
const KEY_VALUE_FORMAT: &str = "tidelog.value_format";
const KEY_ROW_GROUPS: &str = "tidelog.row_groups";

/// Bytes a row group may claim to have: bounds what a reader is asked to fetch.
const MAX_GROUP_BYTES: u64 = 1 << 30;

/// One row group: records of one partition whose offsets have no gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowGroup {
    /// The partition.
    pub partition: u32,
    /// Offset of the first record.
    pub start: Offset,
    /// One more than the offset of the last record.
    pub end: Offset,
    /// Where its bytes begin in the file.
    pub position: u64,
    /// Its bytes, bloom filter included.
    pub bytes: u64,
    /// CRC-32C of those bytes.
    pub crc32c: u32,
    /// The largest record timestamp.
    pub max_timestamp: i64,
}

impl RowGroup {
    /// Records in it.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.end - self.start
    }
}

/// Tidelog's part of the key-value metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) topic: TopicId,
    pub(super) day: u32,
    pub(super) value_format: ValueFormat,
    pub(super) groups: Vec<RowGroup>,
}

/// The pairs to write for a file of `topic`.
pub(super) fn encode(topic: &Topic, day: u32, groups: &[RowGroup]) -> Result<Vec<KeyValue>> {
    let groups = serde_json::to_string(groups)
        .map_err(|error| Error::internal("the row groups cannot be written as JSON").with_source(error))?;
    let pair = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    Ok(vec![
        pair(KEY_VERSION, VERSION.to_string()),
        pair(KEY_NAMESPACE, topic.namespace.clone()),
        pair(KEY_TOPIC, topic.name.clone()),
        pair(KEY_TOPIC_ID, topic.id.to_string()),
        pair(KEY_DAY, day.to_string()),
        pair(KEY_VALUE_FORMAT, topic.settings.value_format.as_str().to_owned()),
        pair(KEY_ROW_GROUPS, groups),
    ])
}

/// Where the row groups end, as the pairs have it; nothing is checked.
pub(super) fn end_of_groups(pairs: Option<&Vec<KeyValue>>) -> Result<u64, String> {
    let groups =
        pairs.into_iter().flatten().find(|pair| pair.key == KEY_ROW_GROUPS).and_then(|pair| pair.value.as_deref());
    let groups: Vec<RowGroup> = serde_json::from_str(groups.ok_or_else(|| format!("it lacks {KEY_ROW_GROUPS}"))?)
        .map_err(|error| format!("{KEY_ROW_GROUPS}: {error}"))?;
    let last = groups.last().ok_or_else(|| "it has no row groups".to_owned())?;
    last.position.checked_add(last.bytes).ok_or_else(|| "the row groups are longer than a file can be".to_owned())
}

/// The namespace and the name of the topic.
pub(super) fn topic_name(pairs: Option<&Vec<KeyValue>>) -> Result<(String, String), String> {
    let get = |key: &str| {
        let found = pairs.into_iter().flatten().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
        found.ok_or_else(|| format!("it lacks {key}"))
    };
    Ok((get(KEY_NAMESPACE)?, get(KEY_TOPIC)?))
}

/// Reads the pairs and checks that the row groups tile the file up to `footer_start`.
pub(super) fn decode(pairs: Option<&Vec<KeyValue>>, footer_start: u64) -> Result<Metadata, String> {
    let pairs: BTreeMap<&str, &str> =
        pairs.into_iter().flatten().filter_map(|pair| Some((pair.key.as_str(), pair.value.as_deref()?))).collect();
    let get = |key: &str| pairs.get(key).copied().ok_or_else(|| format!("it lacks {key}"));
    let version = get(KEY_VERSION)?;
    if version != VERSION.to_string() {
        return Err(format!("its version is {version:?}, this program reads {VERSION}"));
    }
    let topic = get(KEY_TOPIC_ID)?.parse().map(TopicId).map_err(|_| format!("{KEY_TOPIC_ID} is not a UUID"))?;
    let day = get(KEY_DAY)?.parse().map_err(|_| format!("{KEY_DAY} is not a number"))?;
    let value_format = get(KEY_VALUE_FORMAT)?.parse()?;
    let groups: Vec<RowGroup> =
        serde_json::from_str(get(KEY_ROW_GROUPS)?).map_err(|error| format!("{KEY_ROW_GROUPS}: {error}"))?;
    check(&groups, footer_start)?;
    Ok(Metadata { topic, day, value_format, groups })
}

fn check(groups: &[RowGroup], footer_start: u64) -> Result<(), String> {
    if groups.is_empty() || groups.len() > MAX_ROW_GROUPS {
        return Err(format!("it has {} row groups, 1 to {MAX_ROW_GROUPS} are allowed", groups.len()));
    }
    let mut position = 0u64;
    let mut previous: Option<&RowGroup> = None;
    for (index, group) in groups.iter().enumerate() {
        let holds = group.start < group.end && group.end - 1 <= MAX_SAFE_INTEGER;
        let ordered = previous.is_none_or(|before| (before.partition, before.end) <= (group.partition, group.start));
        let placed = group.position == position && group.bytes > 0 && group.bytes <= MAX_GROUP_BYTES;
        if !ordered || !placed || !holds {
            return Err(format!("row group {index} contradicts itself or its predecessor"));
        }
        position = position.checked_add(group.bytes).ok_or("the row groups are longer than a file can be")?;
        previous = Some(group);
    }
    if position == footer_start {
        Ok(())
    } else {
        Err(format!("the row groups end at byte {position}, the footer begins at {footer_start}"))
    }
}
