//! Pages: putting them together within their limits, and taking them apart into records or raw batches.

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::format::batch;
use crate::model::producer::advance_sequence;
use crate::model::{Chunk, Compression, FetchPage, Offset, Record, StoredBatch, StoredRecord};

/// Bytes of archived records that are re-encoded as one batch.
const ENCODE_BYTES: usize = 1 << 20;
/// Records are copied out of what was decoded for them if that is this many times as much: a page must not keep in memory many
/// times its own bytes.
const COPY_SHARE: usize = 4;

/// Collects chunks until a page is full.
#[derive(Debug)]
pub(super) struct PageBuilder {
    /// First offset of the page.
    start: Offset,
    /// Where the page ends at the latest.
    end: Offset,
    bytes_left: usize,
    next: Offset,
    chunks: Vec<Chunk>,
}

impl PageBuilder {
    /// A page of `[start, end)` with about `max_bytes` stored bytes, though at least one record.
    pub(super) fn new(start: Offset, end: Offset, max_bytes: usize) -> Self {
        Self { start, end, bytes_left: max_bytes.max(1), next: start, chunks: Vec::new() }
    }

    /// Whether nothing more goes in.
    pub(super) fn is_full(&self) -> bool {
        self.next >= self.end || self.bytes_left == 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Adds the chunk that goes on where the page ends.
    ///
    /// # Errors
    /// `internal` if it does not: better no answer than one that skips a record.
    pub(super) fn push(&mut self, chunk: Chunk) -> Result<()> {
        match chunk {
            Chunk::Batch(batch) => self.push_batch(batch),
            Chunk::Records(records) => self.push_records(records),
        }
    }

    fn push_batch(&mut self, batch: StoredBatch) -> Result<()> {
        if batch.base_offset > self.next || batch.end_offset() <= self.next {
            return Err(gap(self.next, batch.base_offset));
        }
        if self.admit(batch.bytes.len()) {
            self.next = batch.end_offset().min(self.end);
            self.chunks.push(Chunk::Batch(batch));
        }
        Ok(())
    }

    fn push_records(&mut self, mut records: Vec<StoredRecord>) -> Result<()> {
        let mut taken = 0;
        for record in &records {
            if record.offset != self.next {
                return Err(gap(self.next, record.offset));
            }
            if self.is_full() || !self.admit(batch::max_encoded_len(&record.record)) {
                break;
            }
            self.next += 1;
            taken += 1;
        }
        let payload =
            |records: &[StoredRecord]| records.iter().map(|stored| stored.record.payload_len()).sum::<usize>();
        if taken < records.len() {
            let decoded = payload(&records);
            records.truncate(taken);
            if payload(&records) * COPY_SHARE < decoded {
                records.iter_mut().for_each(|stored| copy(&mut stored.record));
            }
        }
        if !records.is_empty() {
            self.chunks.push(Chunk::Records(records));
        }
        Ok(())
    }

    /// Takes `bytes` off the page's budget; the first of a page always fits, and what does not fit ends the page.
    fn admit(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.bytes_left || self.next == self.start;
        self.bytes_left = if fits { self.bytes_left.saturating_sub(bytes) } else { 0 };
        fits
    }

    /// Where the page ends so far.
    pub(super) fn next_offset(&self) -> Offset {
        self.next
    }

    /// Where the page ends, and its chunks.
    pub(super) fn finish(self) -> (Offset, Vec<Chunk>) {
        (self.next, self.chunks)
    }
}

/// Gives a record memory of its own.
fn copy(record: &mut Record) {
    let headers = record.headers.iter_mut().map(|header| &mut header.value);
    for bytes in [&mut record.key, &mut record.value].into_iter().chain(headers).flatten() {
        *bytes = Bytes::copy_from_slice(bytes);
    }
}

/// Bytes of chunks as the limits of a page count them.
pub(super) fn stored_bytes(chunks: &[Chunk]) -> u64 {
    let bytes = |chunk: &Chunk| match chunk {
        Chunk::Batch(batch) => batch.bytes.len(),
        Chunk::Records(records) => records.iter().map(|stored| batch::max_encoded_len(&stored.record)).sum(),
    };
    chunks.iter().map(|chunk| bytes(chunk) as u64).sum()
}

fn gap(next: Offset, found: Offset) -> Error {
    Error::internal(format!("offset {next} was to be read and {found} was found"))
}

/// The records of a page, those of `[start, next_offset)`; each batch is decoded once. What a page decodes to may be many
/// times its stored bytes: whoever answers requests goes through the chunks one by one instead.
///
/// # Errors
/// `corrupt` if a batch fails its checksum.
pub fn records(page: &FetchPage) -> Result<Vec<StoredRecord>> {
    let mut records: Vec<StoredRecord> = Vec::new();
    let in_page = |record: &StoredRecord| (page.start..page.next_offset).contains(&record.offset);
    for chunk in &page.chunks {
        match chunk {
            Chunk::Batch(batch) => records.extend(batch::decode(batch)?.into_iter().filter(in_page)),
            Chunk::Records(more) => records.extend(more.iter().filter(|record| in_page(record)).cloned()),
        }
    }
    Ok(records)
}

/// The page as whole record batches with their places: header and rest of each. The first may begin before the page's
/// start and the last end after its next offset; archived records are encoded again.
///
/// # Errors
/// `internal` if archived records cannot be encoded.
pub fn placed_batches(page: &FetchPage) -> Result<Vec<(Bytes, Bytes)>> {
    let compression = page.topic.settings.compression;
    let mut raw = Vec::with_capacity(page.chunks.len());
    for chunk in &page.chunks {
        match chunk {
            Chunk::Batch(batch) => raw.push(batch::placed(&batch.bytes, batch.base_offset, 0)),
            Chunk::Records(records) => {
                for run in runs(records) {
                    raw.push(encode_run(run, compression)?);
                }
            }
        }
    }
    Ok(raw)
}

/// Cuts records into runs that a batch can hold: offsets without gaps, one producer with its sequences, bounded bytes.
fn runs(records: &[StoredRecord]) -> impl Iterator<Item = &[StoredRecord]> {
    let mut bytes = 0;
    records.chunk_by(move |previous, next| {
        bytes += previous.record.payload_len();
        let follows = match (previous.triple, next.triple) {
            (None, None) => true,
            (Some(previous), Some(next)) => {
                (previous.id, previous.epoch) == (next.id, next.epoch)
                    && advance_sequence(previous.sequence, 1) == next.sequence
            }
            _ => false,
        };
        let joined = follows && previous.offset + 1 == next.offset && bytes < ENCODE_BYTES;
        if !joined {
            bytes = 0;
        }
        joined
    })
}

fn encode_run(run: &[StoredRecord], compression: Compression) -> Result<(Bytes, Bytes)> {
    let plain = run.iter().map(|record| -> &Record { &record.record });
    let first = run.first().map_or((0, None), |record| (record.offset, record.triple));
    let encoded = batch::encode(plain, compression, first.1)?;
    Ok(batch::placed(&encoded.bytes, first.0, 0))
}
