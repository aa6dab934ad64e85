//! The one body of every error, framework rejections included.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::code::ErrorCode;

/// `{"error":{…}}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDescription,
}

/// What went wrong, whether anything was written, and whether to retry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDescription {
    /// The stable name; a later server may send one that this version does not know.
    #[schema(value_type = ErrorCode)]
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// The same request may succeed later. After `partial` or `unknown` a resend is safe only with producer headers or an
    /// `Idempotency-Key`.
    pub retryable: bool,
    /// What was written; absent on reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Names the request in the server's logs.
    #[serde(default)]
    pub request_id: String,
    /// What a program may read: offsets, bounds, indexes.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub details: Map<String, Value>,
}

/// What a failed request wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing: a retry is safe.
    NotWritten,
    /// All of it, although the request failed: do not resend.
    Written,
    /// Some partitions took their records, others did not.
    Partial,
    /// It may or may not have been written.
    Unknown,
}
