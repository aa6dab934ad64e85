//! A page as whole record batches of format v2, each with its base offset.

use bytes::Bytes;
use tidelog::error::Result;
use tidelog::format::batch::{encode, placed};
use tidelog::model::producer::advance_sequence;
use tidelog::model::{Chunk, Compression, FetchPage, Offset, StoredRecord, Triple};

/// Records of one batch that is made of archived records.
const RECORDS_PER_BATCH: usize = 1_000;
/// Payload bytes of such a batch, unless a single record has more.
const BYTES_PER_BATCH: usize = 1 << 20;

/// The batches of a page, in pieces, and the offset after the last. The first may begin before the page and the last
/// end after it.
pub(crate) fn batches(page: &FetchPage) -> Result<(Vec<Bytes>, Offset)> {
    let mut pieces = Vec::new();
    let mut next = page.next_offset;
    for chunk in &page.chunks {
        match chunk {
            Chunk::Batch(stored) => {
                let (head, rest) = placed(&stored.bytes, stored.base_offset, 0);
                pieces.extend([head, rest]);
                next = next.max(stored.end_offset());
            }
            Chunk::Records(records) => {
                let clipped = |stored: &&StoredRecord| (page.start..page.next_offset).contains(&stored.offset);
                let records: Vec<&StoredRecord> = records.iter().filter(clipped).collect();
                for run in records.chunk_by(|a, b| follows(a, b)) {
                    encode_run(run, &mut pieces)?;
                }
            }
        }
    }
    Ok((pieces, next))
}

/// Whether `b` can stand after `a` in a batch: offsets are dense, and so are a producer's sequences.
fn follows(a: &StoredRecord, b: &StoredRecord) -> bool {
    let next = a.triple.map(|triple| Triple { sequence: advance_sequence(triple.sequence, 1), ..triple });
    b.offset == a.offset + 1 && b.triple == next
}

fn encode_run(run: &[&StoredRecord], pieces: &mut Vec<Bytes>) -> Result<()> {
    let mut start = 0;
    while start < run.len() {
        let mut end = start;
        let mut bytes = 0;
        while end < run.len() && end - start < RECORDS_PER_BATCH {
            bytes += run[end].record.payload_len();
            if bytes > BYTES_PER_BATCH && end > start {
                break;
            }
            end += 1;
        }
        let records = run[start..end].iter().map(|stored| &stored.record);
        let encoded = encode(records, Compression::Zstd, run[start].triple)?;
        let (head, rest) = placed(&encoded.bytes, run[start].offset, 0);
        pieces.extend([head, rest]);
        start = end;
    }
    Ok(())
}
