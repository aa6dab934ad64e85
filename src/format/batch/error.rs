//! What can be wrong with a record batch.

use crate::error::Error;

/// Why bytes are not a record batch that Tidelog stores.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Fewer bytes than a header, or than the header announces.
    #[error("the batch is truncated")]
    Truncated,
    /// More bytes than the header announces.
    #[error("{0} bytes follow the batch")]
    Trailing(usize),
    /// Format v0, v1 or unknown.
    #[error("record batch magic {0} is not supported, only 2 is")]
    Magic(i8),
    /// The CRC-32C of the header does not match the bytes.
    #[error("the crc of the batch is wrong")]
    Crc,
    /// A compression that Tidelog does not read.
    #[error("compression codec {0} is not supported, send none, gzip or zstd")]
    Codec(&'static str),
    /// The attributes have a bit set that a stored batch must not have.
    #[error("the batch has the {0} bit set")]
    Attribute(&'static str),
    /// A field of the header has a value that it must not have.
    #[error("{field} is {actual}, expected {expected}")]
    Field {
        /// Its name in Kafka's description of the format.
        field: &'static str,
        /// What the batch says.
        actual: i64,
        /// What it should say.
        expected: i64,
    },
    /// The compressed records cannot be decompressed.
    #[error("the compressed records are damaged")]
    Compressed,
    /// The records decompress to more than [`MAX_RECORDS_BYTES`](super::MAX_RECORDS_BYTES).
    #[error("the records have more than {0} bytes uncompressed")]
    TooLarge(usize),
    /// The batch holds no record or more than are allowed.
    #[error("the batch has {actual} records, from 1 to {limit} are allowed")]
    Count {
        /// How many.
        actual: i64,
        /// The limit.
        limit: u32,
    },
    /// One record is wrong.
    #[error("record {index}: {problem}")]
    Record {
        /// Which, from 0.
        index: u32,
        /// What is wrong with it.
        problem: RecordProblem,
    },
}

/// What is wrong with one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordProblem {
    /// It ends before its fields do, or its fields before it.
    #[error("its length is wrong")]
    Length,
    /// A varint runs over its width.
    #[error("it has a malformed varint")]
    Varint,
    /// Its offset delta is not its number.
    #[error("its offset delta is {0}")]
    OffsetDelta(i32),
    /// A header's name is null or not UTF-8.
    #[error("a header name is not utf-8")]
    HeaderName,
    /// Key, value and headers have more bytes than allowed.
    #[error("its key, value and headers have {actual} bytes, the limit is {limit}")]
    TooLarge {
        /// How many.
        actual: usize,
        /// The limit.
        limit: usize,
    },
    /// More headers than allowed.
    #[error("it has {actual} headers, the limit is {limit}")]
    Headers {
        /// How many.
        actual: usize,
        /// The limit.
        limit: usize,
    },
    /// A timestamp below 0 or above the limit.
    #[error("its timestamp {actual} is not between 0 and {limit}")]
    Timestamp {
        /// What it says.
        actual: i64,
        /// The limit.
        limit: i64,
    },
}

impl BatchError {
    /// The error of a client that sent the batch: nothing was written. Codes: `record_too_large` and `too_many_records`
    /// for limits, else `invalid_batch`; the number `index` says which record.
    #[must_use]
    pub fn into_invalid(self) -> Error {
        let code = match &self {
            Self::Count { actual, .. } if *actual > 0 => "too_many_records",
            Self::Record { problem: RecordProblem::TooLarge { .. }, .. } => "record_too_large",
            _ => "invalid_batch",
        };
        let error = Error::invalid(code, self.to_string());
        match self {
            Self::Record { index, .. } => error.with_number("index", u64::from(index)),
            _ => error,
        }
    }

    /// The error of a reader who met these bytes in storage.
    #[must_use]
    pub fn into_corrupt(self) -> Error {
        Error::corrupt("a stored record batch is damaged").with_source(self)
    }
}
