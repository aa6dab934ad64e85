//! Checkpoints and index parts: magic, version, lengths, zstd of postcard, CRC-32C.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidelog::model::{Checkpoint, ObjectId};

/// The ranges of 256 partitions as they lie in an object.
#[derive(Debug, Deserialize)]
pub(super) struct Part {
    pub(super) part: u32,
    pub(super) written_at: u64,
    segments: Vec<ObjectId>,
    files: Vec<ObjectId>,
    partitions: Vec<(u32, Vec<Range>)>,
}

/// One range; most members are differences to the range before.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Range {
    object: u32,
    position: u64,
    gap: u64,
    count: u64,
    _bytes: u64,
    _max_timestamp: i64,
    _min_append_time: i64,
    _max_append_time: i64,
}

/// Where offsets lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) object: Object,
}

/// The object, and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Object {
    Segment(ObjectId, u64),
    Archive(ObjectId),
}

impl Part {
    /// Slots and their ranges in the order of offsets.
    pub(super) fn places(&self) -> Result<Vec<(u32, Vec<Place>)>, String> {
        let mut all = Vec::new();
        for (slot, ranges) in &self.partitions {
            let (mut places, mut end) = (Vec::new(), 0_u64);
            for range in ranges {
                let start = end.wrapping_add(range.gap);
                end = start.wrapping_add(range.count);
                let number = range.object as usize;
                let object = match self.segments.get(number) {
                    Some(id) => Object::Segment(*id, range.position),
                    None => {
                        let file = self.files.get(number - self.segments.len());
                        Object::Archive(*file.ok_or_else(|| format!("part {} names object {number}", self.part))?)
                    }
                };
                places.push(Place { start, end, object });
            }
            all.push((*slot, places));
        }
        Ok(all)
    }
}

pub(super) fn checkpoint(bytes: &[u8]) -> Result<Checkpoint, String> {
    content(bytes, b"TIDECKPT")
}

pub(super) fn part(bytes: &[u8]) -> Result<Part, String> {
    content(bytes, b"TIDEINDX")
}

fn content<T: DeserializeOwned>(bytes: &[u8], magic: &[u8; 8]) -> Result<T, String> {
    let what = String::from_utf8_lossy(magic).into_owned();
    let wrong = |how: &str| format!("{what}: {how}");
    let (before, crc) = bytes.split_last_chunk::<4>().ok_or_else(|| wrong("it is too short"))?;
    if crc32c::crc32c(before) != u32::from_le_bytes(*crc) {
        return Err(wrong("the checksum is wrong"));
    }
    let (head, stored) = before.split_at_checked(20).ok_or_else(|| wrong("it is too short"))?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    if &head[..8] != magic || word(16) != stored.len() {
        return Err(wrong("the header is wrong"));
    }
    let content = zstd::decode_all(stored).map_err(|error| wrong(&error.to_string()))?;
    if content.len() != word(12) {
        return Err(wrong("the content has another length"));
    }
    match postcard::take_from_bytes(&content) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(wrong("there is more than the value")),
        Err(error) => Err(wrong(&error.to_string())),
    }
}
