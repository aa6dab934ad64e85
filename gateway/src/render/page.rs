//! A page of records: iteration over its chunks, clipped, and the JSON forms of it.

use tidelog::error::Result;
use tidelog::format::batch;
use tidelog::model::{Bounds, Chunk, FetchPage, StoredRecord};

use super::json::push_u64;
use super::record::{Shape, View, push_record};

/// A page is cut when its JSON passes this: compressed batches and escapes can make it many times the stored bytes, and
/// a page may always be shorter than asked for.
const MAX_RENDERED: usize = 32 << 20;
/// A piece of a stream is cut when its text passes this; the rest of its chunk is another piece.
const MAX_PIECE: usize = 4 << 20;
/// A piece with more text than this takes no further chunk.
const FULL_PIECE: usize = 64 << 10;
/// A chunk with more stored bytes than this begins a piece.
const LARGE_CHUNK: usize = 16 << 10;
/// Room that a rendered page may keep unused.
const SPARE: usize = 256 << 10;

/// Appends the records of one chunk, those in `[from, to)` only, each through `around`, which is given the offset and
/// writes what stands before and after the record. Stops after the record with which `out` passes `limit`; answers the
/// offset after the last record written.
pub(crate) fn push_chunk(
    out: &mut String,
    chunk: &Chunk,
    clip: Clip,
    partition: u32,
    shape: Shape,
    mut around: impl FnMut(&mut String, u64, Side),
) -> Result<u64> {
    let mut next = clip.from;
    match chunk {
        Chunk::Batch(stored) => {
            let open = batch::open(stored)?;
            for view in open.records() {
                let view = view.map_err(batch::BatchError::into_corrupt)?;
                let offset = stored.base_offset + u64::from(view.index);
                if !clip.takes(offset) {
                    continue;
                }
                let headers = view.headers.map(|header| (header.name, header.value));
                let view = View { offset, timestamp: view.timestamp, key: view.key, value: view.value, headers };
                around(out, offset, Side::Before);
                push_record(out, partition, view, shape);
                around(out, offset, Side::After);
                next = offset + 1;
                if out.len() > clip.limit {
                    break;
                }
            }
        }
        Chunk::Records(records) => {
            for stored in records.iter().filter(|stored| clip.takes(stored.offset)) {
                around(out, stored.offset, Side::Before);
                push_record(out, partition, view_of(stored), shape);
                around(out, stored.offset, Side::After);
                next = stored.offset + 1;
                if out.len() > clip.limit {
                    break;
                }
            }
        }
    }
    Ok(next)
}

/// Which side of a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    After,
}

/// What of a chunk is rendered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clip {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Length of the buffer after which no further record is begun.
    pub(crate) limit: usize,
}

impl Clip {
    fn takes(&self, offset: u64) -> bool {
        (self.from..self.to).contains(&offset)
    }
}

fn view_of(stored: &StoredRecord) -> View<'_, impl Iterator<Item = (&str, Option<&[u8]>)>> {
    let record = &stored.record;
    View {
        offset: stored.offset,
        timestamp: record.timestamp,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: record.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref())),
    }
}

/// Stored bytes of a page: what its rendering costs, roughly.
pub(crate) fn stored_bytes(page: &FetchPage) -> usize {
    page.chunks.iter().map(chunk_bytes).sum()
}

/// Stored bytes of one chunk.
pub(crate) fn chunk_bytes(chunk: &Chunk) -> usize {
    match chunk {
        Chunk::Batch(stored) => stored.bytes.len(),
        Chunk::Records(records) => records.iter().map(|stored| stored.record.payload_len() + 32).sum(),
    }
}

/// The offset after the last record of a chunk.
pub(crate) fn end_of(chunk: &Chunk) -> u64 {
    match chunk {
        Chunk::Batch(stored) => stored.end_offset(),
        Chunk::Records(records) => records.last().map_or(0, |stored| stored.offset + 1),
    }
}

/// Gives back the room that a body of pages of `stored` bytes got while it grew, if it is much: nobody accounts for it.
pub(crate) fn trim(out: &mut String, stored: usize) {
    // What was reserved to begin with is accounted for with the page.
    if out.len() > 2 * stored && out.capacity() - out.len() > SPARE {
        out.shrink_to_fit();
    }
}

/// Appends the records of a page, separated by commas; `first` is whether no record stands before. Answers where to go
/// on: the page's own next offset, unless the JSON grew too long.
pub(crate) fn push_list(out: &mut String, page: &FetchPage, partition: u32, shape: Shape, first: bool) -> Result<u64> {
    let mut first = first;
    let mut next = page.start;
    for chunk in &page.chunks {
        let clip = Clip { from: next, to: page.next_offset, limit: MAX_RENDERED };
        next = push_chunk(out, chunk, clip, partition, shape, |out, _, side| {
            if side == Side::Before && !std::mem::take(&mut first) {
                out.push(',');
            }
        })?;
        if out.len() > MAX_RENDERED {
            return Ok(next);
        }
    }
    Ok(page.next_offset)
}

/// A page of one partition as a JSON body, and where to go on. A cacheable range has no bounds: they change.
pub(crate) fn json_body(page: &FetchPage, partition: u32, shape: Shape, with_bounds: bool) -> Result<(String, u64)> {
    let stored = stored_bytes(page);
    let mut out = String::with_capacity(256 + stored * 2);
    out.push_str("{\"topic_id\":\"");
    out.push_str(&page.topic.id.to_string());
    out.push_str("\",\"records\":[");
    let next = push_list(&mut out, page, partition, shape, true)?;
    out.push_str("],\"next_offset\":");
    push_u64(&mut out, next);
    if with_bounds {
        push_bounds(&mut out, &page.bounds);
    }
    out.push('}');
    trim(&mut out, stored);
    Ok((out, next))
}

/// Appends the members of a partition's bounds, each with a comma before it.
fn push_bounds(out: &mut String, bounds: &Bounds) {
    for (name, offset) in [
        (",\"log_start_offset\":", bounds.log_start),
        (",\"flushed_offset\":", bounds.flushed),
        (",\"high_watermark\":", bounds.high_watermark),
        (",\"last_stable_offset\":", bounds.high_watermark),
    ] {
        out.push_str(name);
        push_u64(out, offset);
    }
}

/// Appends a list of partitions, each with its next offset and its bounds.
pub(crate) fn push_places(out: &mut String, places: impl Iterator<Item = (u32, u64, Bounds)>) {
    out.push('[');
    for (index, (partition, next, bounds)) in places.enumerate() {
        out.push_str(if index == 0 { "{\"partition\":" } else { ",{\"partition\":" });
        push_u64(out, u64::from(partition));
        out.push_str(",\"next_offset\":");
        push_u64(out, next);
        push_bounds(out, &bounds);
        out.push('}');
    }
    out.push(']');
}

/// A place in a page: a chunk, and an offset in it.
pub(crate) type Place = (usize, u64);

/// A piece of a page as lines of NDJSON; see [`push_piece`].
pub(crate) fn ndjson_lines(
    page: &FetchPage,
    at: Place,
    partition: u32,
    shape: Shape,
) -> Result<(String, Option<Place>)> {
    push_piece(page, at, partition, shape, |out, _, side| {
        if side == Side::After {
            out.push('\n');
        }
    })
}

/// Renders a page from a place on: small chunks together, a large one by itself, a long one in part. Answers what it is and
/// where the next piece begins, if there is one. For `around` see [`push_chunk`].
pub(crate) fn push_piece(
    page: &FetchPage,
    (mut index, mut from): Place,
    partition: u32,
    shape: Shape,
    mut around: impl FnMut(&mut String, u64, Side),
) -> Result<(String, Option<Place>)> {
    let mut out = String::new();
    while let Some(chunk) = page.chunks.get(index) {
        if out.len() > FULL_PIECE || (!out.is_empty() && chunk_bytes(chunk) > LARGE_CHUNK) {
            break;
        }
        let clip = Clip { from: from.max(page.start), to: page.next_offset, limit: MAX_PIECE };
        from = push_chunk(&mut out, chunk, clip, partition, shape, &mut around)?;
        if out.len() > MAX_PIECE && from < end_of(chunk).min(page.next_offset) {
            break;
        }
        index += 1;
    }
    Ok((out, (index < page.chunks.len()).then_some((index, from))))
}

#[cfg(test)]
mod tests;
