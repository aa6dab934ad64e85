//! Checking a client's batch, whole, before it is proposed.

use bytes::Bytes;

use super::decode::OpenBatch;
use super::error::{BatchError, RecordProblem};
use super::header::{self, BatchHeader};
use super::records::{RecordView, Records};
use crate::error::Result;
use crate::model::id::MAX_SAFE_INTEGER;
use crate::model::{BatchInfo, Triple};

/// What the records of a client's batch may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckLimits {
    /// Records.
    pub records: u32,
    /// Bytes of key, value and headers of one record.
    pub record_bytes: usize,
    /// Headers of one record.
    pub headers: usize,
    /// The largest timestamp.
    pub max_timestamp: i64,
}

impl Default for CheckLimits {
    /// The limits of the HTTP API; any timestamp that JSON keeps exact.
    fn default() -> Self {
        Self { records: 10_000, record_bytes: 1 << 20, headers: 64, max_timestamp: MAX_SAFE_INTEGER as i64 }
    }
}

/// A client's batch that may be proposed.
#[derive(Debug, Clone)]
pub struct CheckedBatch {
    /// The batch as it is stored: base offset 0, leader epoch 0.
    pub bytes: Bytes,
    /// What the state keeps of it.
    pub info: BatchInfo,
    /// The smallest timestamp of its records; the largest is in `info`.
    pub min_timestamp: i64,
    open: OpenBatch,
}

impl CheckedBatch {
    /// Its header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        self.open.header()
    }

    /// Bytes of the records, uncompressed.
    #[must_use]
    pub fn records_len(&self) -> usize {
        self.open.records_len()
    }

    /// Its records, borrowed.
    pub fn records(&self) -> impl Iterator<Item = RecordView<'_>> {
        // `check` has read them all, so none is an error.
        self.open.records().map_while(std::result::Result::ok)
    }
}

/// Checks that `bytes` are exactly one record batch that may be stored as it is: base offset 0, offset deltas 0 to n-1,
/// CRC and count true (after bounded decompression), no control, transactional or log-append-time batch, codec none,
/// gzip or zstd, the maximum timestamp true, every record within `limits`, and the producer fields equal to `triple`.
/// A leader epoch is set to 0 in a copy.
///
/// # Errors
/// `invalid_batch` or the code of the limit that was passed (see [`BatchError::into_invalid`]); nothing was written.
pub fn check(bytes: &Bytes, triple: Option<Triple>, limits: &CheckLimits) -> Result<CheckedBatch> {
    check_inner(bytes, triple, limits).map_err(BatchError::into_invalid)
}

fn check_inner(bytes: &Bytes, triple: Option<Triple>, limits: &CheckLimits) -> Result<CheckedBatch, BatchError> {
    let open = OpenBatch::new(bytes)?;
    let header = *open.header();
    header::expect_field("baseOffset", header.base_offset, 0)?;
    expect_triple(header.triple, triple)?;
    if header.count > limits.records {
        return Err(BatchError::Count { actual: i64::from(header.count), limit: limits.records });
    }
    let (min_timestamp, max_timestamp) = check_records(open.records(), limits)?;
    header::expect_field("maxTimestamp", header.max_timestamp, max_timestamp)?;
    let bytes = if header.leader_epoch == 0 { bytes.clone() } else { header::normalise(bytes) };
    Ok(CheckedBatch { bytes, info: header.info(), min_timestamp, open })
}

/// The smallest and the largest timestamp of records that are all within `limits`.
fn check_records(records: Records<'_>, limits: &CheckLimits) -> Result<(i64, i64), BatchError> {
    let mut range = (i64::MAX, i64::MIN);
    for record in records {
        let record = record?;
        if let Err(problem) = check_record(&record, limits) {
            return Err(BatchError::Record { index: record.index, problem });
        }
        range = (range.0.min(record.timestamp), range.1.max(record.timestamp));
    }
    Ok(range)
}

fn check_record(record: &RecordView<'_>, limits: &CheckLimits) -> Result<(), RecordProblem> {
    if record.headers.len() > limits.headers {
        return Err(RecordProblem::Headers { actual: record.headers.len(), limit: limits.headers });
    }
    let payload = record.payload_len();
    if payload > limits.record_bytes {
        return Err(RecordProblem::TooLarge { actual: payload, limit: limits.record_bytes });
    }
    if record.timestamp < 0 || record.timestamp > limits.max_timestamp {
        return Err(RecordProblem::Timestamp { actual: record.timestamp, limit: limits.max_timestamp });
    }
    Ok(())
}

/// The batch's own fields and the request's say the same.
fn expect_triple(actual: Option<Triple>, expected: Option<Triple>) -> Result<(), BatchError> {
    let fields = |triple: Option<Triple>| match triple {
        Some(triple) => (triple.id.0 as i64, i64::from(triple.epoch), i64::from(triple.sequence)),
        None => (-1, -1, -1),
    };
    let (actual, expected) = (fields(actual), fields(expected));
    header::expect_field("producerId", actual.0, expected.0)?;
    header::expect_field("producerEpoch", actual.1, expected.1)?;
    header::expect_field("baseSequence", actual.2, expected.2)
}
