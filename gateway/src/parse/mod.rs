//! From request bodies to records. Values are slices of the body: parsing copies only what JSON escapes force it to.
//!
//! Invariants: nothing is handed on before the whole body is valid; every fault of a record names its index; counts are
//! bounded while parsing, not after. Not here: what a topic allows (value format, timestamps ahead of the clock), and the
//! size of a record, which the engine checks for every way in.

pub(crate) mod depth;
pub(crate) mod json;
pub(crate) mod ndjson;
pub(crate) mod object;
pub(crate) mod octets;
pub(crate) mod record;

use tidelog::model::Record;
use tidelog_api::ErrorCode;
use tidelog_api::limits::MAX_RECORDS;

use crate::error::ApiError;

/// Records of a request, each with the partition that it names.
pub(crate) type Records = Vec<(Option<u32>, Record)>;

/// 413: more records than a request may have.
pub(crate) fn too_many_records() -> ApiError {
    let message = format!("a request has at most {MAX_RECORDS} records");
    ApiError::new(ErrorCode::TooManyRecords, message).with("limit", MAX_RECORDS)
}
