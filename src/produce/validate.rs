//! Checks of a produce request against its topic, before anything is proposed: the whole request is valid or nothing of
//! it is written. Errors about a record name its place in the request in `details.index`.

use bytes::Bytes;

use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::format::batch::CheckLimits;
use crate::model::id::MAX_SAFE_INTEGER;
use crate::model::producer::SEQUENCE_MODULUS;
use crate::model::{ProduceRequest, Record, TopicSettings, Triple, ValueFormat};

/// Records a request may have.
pub const MAX_RECORDS: usize = 10_000;
/// Bytes of key, value and headers a record may have, uncompressed.
pub const MAX_RECORD_BYTES: usize = 1 << 20;
/// Headers a record may have.
pub const MAX_HEADERS: usize = 64;
/// Bytes that a request may have for one partition, as they would be encoded without compression: they become one record
/// batch, and that has to fit into one Raft entry.
pub const MAX_PARTITION_BYTES: u64 = 4 << 20;
/// Characters an `Idempotency-Key` may have.
pub const MAX_IDEMPOTENCY_KEY: usize = 64;

/// What the records of a topic have to satisfy at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    value_format: ValueFormat,
    max_timestamp: i64,
}

impl Rules {
    /// The rules of a topic with `settings` at wall time `now`.
    #[must_use]
    pub fn new(settings: &TopicSettings, now: Millis) -> Self {
        let latest = now.saturating_add(settings.timestamp_max_ahead_ms).min(MAX_SAFE_INTEGER);
        Self { value_format: settings.value_format, max_timestamp: latest.cast_signed() }
    }

    /// Checks the record at `index` of its request.
    ///
    /// # Errors
    /// `record_too_large` or `invalid_record`, with the index.
    pub fn check(&self, index: usize, record: &Record) -> Result<()> {
        self.check_record(record).map_err(|error| error.with_number("index", index as u64))
    }

    fn check_record(&self, record: &Record) -> Result<()> {
        let bytes = record.payload_len();
        if bytes > MAX_RECORD_BYTES {
            let message =
                format!("the record has {bytes} bytes of key, value and headers, the limit is {MAX_RECORD_BYTES}");
            return Err(Error::invalid("record_too_large", message).with_number("limit", MAX_RECORD_BYTES as u64));
        }
        if record.headers.len() > MAX_HEADERS {
            let message = format!("the record has {} headers, the limit is {MAX_HEADERS}", record.headers.len());
            return Err(Error::invalid("invalid_record", message).with_number("limit", MAX_HEADERS as u64));
        }
        if record.timestamp < 0 {
            return Err(Error::invalid("invalid_record", format!("the timestamp {} is negative", record.timestamp)));
        }
        if record.timestamp > self.max_timestamp {
            let message = format!(
                "the timestamp {} is too far ahead, the latest that is taken now is {}",
                record.timestamp, self.max_timestamp
            );
            return Err(Error::invalid("invalid_record", message));
        }
        self.check_value(record.value.as_deref())
    }

    /// What `format::batch::check` looks at in a batch that a client encoded.
    #[must_use]
    pub fn check_limits(&self) -> CheckLimits {
        CheckLimits {
            records: MAX_RECORDS as u32,
            record_bytes: MAX_RECORD_BYTES,
            headers: MAX_HEADERS,
            max_timestamp: self.max_timestamp,
        }
    }

    /// Checks a value against the topic's value format; null is taken by every format.
    ///
    /// # Errors
    /// `invalid_record`.
    pub fn check_value(&self, value: Option<&[u8]>) -> Result<()> {
        let Some(value) = value else { return Ok(()) };
        match self.value_format {
            ValueFormat::Bytes => Ok(()),
            ValueFormat::Text => std::str::from_utf8(value).map(drop).map_err(|source| {
                let message = format!("the topic takes text and the value is not UTF-8: {source}");
                Error::invalid("invalid_record", message)
            }),
            ValueFormat::Json => {
                serde_json::from_slice::<&serde_json::value::RawValue>(value).map(drop).map_err(|source| {
                    let message = format!("the topic takes JSON and the value is not: {source}");
                    Error::invalid("invalid_record", message)
                })
            }
        }
    }
}

/// Checks what does not need the records: producer headers and how they fit together.
///
/// # Errors
/// `partition_required`, or `invalid_parameter` with its name.
pub fn check_headers(request: &ProduceRequest) -> Result<()> {
    if request.partition.is_none() {
        let needs = match request {
            ProduceRequest { triple: Some(_), .. } => Some("a producer id, epoch and sequence"),
            ProduceRequest { expected_offset: Some(_), .. } => Some("an expected offset"),
            ProduceRequest { payload: crate::model::Payload::Batch(_), .. } => Some("a record batch"),
            _ => None,
        };
        if let Some(needs) = needs {
            return Err(Error::invalid("partition_required", format!("{needs} needs the route of a partition")));
        }
    }
    if request.triple.is_some() && request.idempotency_key.is_some() {
        let message = "a producer id and an idempotency key exclude each other";
        return Err(invalid_parameter("idempotency-key", message));
    }
    request.triple.as_ref().map_or(Ok(()), check_triple)?;
    request.idempotency_key.as_deref().map_or(Ok(()), check_idempotency_key)
}

fn check_triple(triple: &Triple) -> Result<()> {
    if triple.sequence >= SEQUENCE_MODULUS || triple.id.0 > MAX_SAFE_INTEGER || triple.epoch > i16::MAX.cast_unsigned()
    {
        let message = "a producer id is below 2^53, an epoch below 2^15 and a sequence below 2^31";
        return Err(invalid_parameter("producer-sequence", message));
    }
    Ok(())
}

fn check_idempotency_key(key: &str) -> Result<()> {
    if key.is_empty() || key.len() > MAX_IDEMPOTENCY_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("an idempotency key is 1 to {MAX_IDEMPOTENCY_KEY} visible ASCII characters");
        return Err(invalid_parameter("idempotency-key", &message));
    }
    Ok(())
}

fn invalid_parameter(name: &'static str, message: &str) -> Error {
    Error::invalid("invalid_parameter", message).with_text("parameter", name)
}

/// Checks how many records a request has.
///
/// # Errors
/// `invalid_request` or `too_many_records`.
pub fn check_count(count: usize) -> Result<()> {
    match count {
        0 => Err(Error::invalid("invalid_request", "the request has no records")),
        1..=MAX_RECORDS => Ok(()),
        _ => {
            let message = format!("the request has {count} records, the limit is {MAX_RECORDS}");
            Err(Error::invalid("too_many_records", message).with_number("limit", MAX_RECORDS as u64))
        }
    }
}

/// Checks how much a request has for one partition; `bytes` as `format::batch::max_encoded_len` counts.
///
/// # Errors
/// `batch_too_large`.
pub fn check_partition_bytes(partition: u32, bytes: u64) -> Result<()> {
    if bytes <= MAX_PARTITION_BYTES {
        return Ok(());
    }
    let message = format!(
        "the request has {bytes} bytes for partition {partition}, a request may have {MAX_PARTITION_BYTES} for one partition"
    );
    Err(Error::invalid("batch_too_large", message)
        .with_number("partition", u64::from(partition))
        .with_number("limit", MAX_PARTITION_BYTES))
}

/// Whether `batch` is so long that it cannot be taken at all; looked at before it is decoded.
///
/// # Errors
/// `batch_too_large`.
pub fn check_batch_len(partition: u32, batch: &Bytes) -> Result<()> {
    check_partition_bytes(partition, batch.len() as u64)
}
