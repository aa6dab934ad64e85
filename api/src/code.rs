//! Every error code of the API: its status, and whether the same request may succeed later.
//!
//! A code is part of the contract: it is never renamed, and a retired one is not used again. `docs/http-api.md` lists the
//! same codes; a test compares the two lists.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:literal, $retry:literal;)+) => {
        /// A stable name that clients branch on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)+
        }

        impl ErrorCode {
            /// All codes, by status.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in bodies.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The HTTP status it comes with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),+ }
            }

            /// Whether the same request may succeed later without a change.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$variant => $retry),+ }
            }
        }

        impl FromStr for ErrorCode {
            type Err = UnknownCode;

            fn from_str(text: &str) -> Result<Self, UnknownCode> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(UnknownCode),
                }
            }
        }
    };
}

codes! {
    /// A query parameter, a header or a part of the path is malformed; `details.parameter` names it.
    InvalidParameter = "invalid_parameter", 400, false;
    /// The body is not the JSON it claims to be, or ended early.
    InvalidJson = "invalid_json", 400, false;
    /// The body could not be read: its transfer broke off or its compression is broken.
    InvalidBody = "invalid_body", 400, false;
    /// The topic's name breaks the naming rules.
    InvalidTopicName = "invalid_topic_name", 400, false;
    /// A producer triple or `Expected-Offset` needs the partition route.
    PartitionRequired = "partition_required", 400, false;
    /// A cursor follows at most 256 partitions, and a cluster holds a bounded number of them.
    TooManyPartitions = "too_many_partitions", 400, false;
    /// The cursor is garbled, of another topic or of an earlier life of the cluster.
    InvalidCursor = "invalid_cursor", 400, false;
    /// The request has no token, or none of this server's; see `WWW-Authenticate`.
    Unauthorized = "unauthorized", 401, false;
    /// The token's role does not include what the request needs; `details.needed` names it.
    Forbidden = "forbidden", 403, false;
    /// A newer holder of the producer's name raised its epoch.
    ProducerFenced = "producer_fenced", 403, false;
    /// A web page of a foreign origin called a listener on loopback.
    ForbiddenOrigin = "forbidden_origin", 403, false;
    /// No such route.
    RouteNotFound = "route_not_found", 404, false;
    /// No such topic; the message shows the command that would create it.
    TopicNotFound = "topic_not_found", 404, false;
    /// The topic has fewer partitions.
    PartitionNotFound = "partition_not_found", 404, false;
    /// The topic remembers nothing of that producer.
    ProducerNotFound = "producer_not_found", 404, false;
    /// The cluster has no such node.
    NodeNotFound = "node_not_found", 404, false;
    /// The route exists, but not with this method; see `Allow`.
    MethodNotAllowed = "method_not_allowed", 405, false;
    /// None of the media types in `Accept` can be served.
    NotAcceptable = "not_acceptable", 406, false;
    /// The body did not arrive in time.
    RequestTimeout = "request_timeout", 408, true;
    /// A topic of that name exists with other settings.
    TopicExists = "topic_exists", 409, false;
    /// The topic was deleted and created again, or restored: its id is another.
    TopicReplaced = "topic_replaced", 409, false;
    /// Somebody else kept changing the topic's settings meanwhile.
    SettingsChanged = "settings_changed", 409, true;
    /// The sequence was used for other records.
    SequenceReused = "sequence_reused", 409, false;
    /// The sequence was written before, its offsets are no longer remembered.
    DuplicateSequence = "duplicate_sequence", 409, false;
    /// A sequence above 0 of a producer that is not remembered.
    UnknownProducer = "unknown_producer", 409, false;
    /// A sequence was left out; `details.expected_sequence` is the next one.
    SequenceGap = "sequence_gap", 409, false;
    /// The archive job was claimed by another worker or its ranges changed.
    StaleJob = "stale_job", 409, false;
    /// The cluster has a node of that id, with another data directory.
    NodeExists = "node_exists", 409, false;
    /// What listens at that address is another node, or one with a log of its own.
    NodeIdentityMismatch = "node_identity_mismatch", 409, false;
    /// The node at that address belongs to another cluster.
    ClusterMismatch = "cluster_mismatch", 409, false;
    /// The node at that address speaks another version of the protocol between nodes.
    PeerVersion = "peer_version", 409, false;
    /// It would leave no voter, too few that answer, too many, or a leader that does not vote.
    InvalidMembership = "invalid_membership", 409, false;
    /// The offset was trimmed; `details` has the bounds.
    OffsetExpired = "offset_expired", 410, false;
    /// The next offset is not `Expected-Offset`; `details.actual_offset` is it.
    OffsetMismatch = "offset_mismatch", 412, false;
    /// The request body is larger than 16 MiB, as sent or decompressed.
    BodyTooLarge = "body_too_large", 413, false;
    /// A record is larger than 1 MiB.
    RecordTooLarge = "record_too_large", 413, false;
    /// More than 10,000 records.
    TooManyRecords = "too_many_records", 413, false;
    /// The records of one request for one partition do not fit one entry of the log (4 MiB).
    BatchTooLarge = "batch_too_large", 413, false;
    /// The body's media type is not one of those that the route takes.
    UnsupportedMediaType = "unsupported_media_type", 415, false;
    /// The body's `Content-Encoding` is neither gzip nor zstd.
    UnsupportedEncoding = "unsupported_encoding", 415, false;
    /// Above the high watermark; `details` has the bounds.
    OffsetOutOfRange = "offset_out_of_range", 416, false;
    /// A listener on loopback was called under a foreign `Host`.
    MisdirectedRequest = "misdirected_request", 421, false;
    /// A record is not as it should be; `details.index` says which.
    InvalidRecord = "invalid_record", 422, false;
    /// The record batch is not as it should be.
    InvalidBatch = "invalid_batch", 422, false;
    /// The body is JSON, but its members are not those of this route.
    InvalidRequest = "invalid_request", 422, false;
    /// A setting has no such value or cannot be changed.
    InvalidSettings = "invalid_settings", 422, false;
    /// No node can have this id or address.
    InvalidNode = "invalid_node", 422, false;
    /// More partitions move keys to other partitions: the request has to say `"rekey":true`.
    RekeyRequired = "rekey_required", 422, false;
    /// The `Idempotency-Key` was used for another body.
    IdempotencyKeyReused = "idempotency_key_reused", 422, false;
    /// The partition has no offsets left (2^53).
    OffsetsExhausted = "offsets_exhausted", 422, false;
    /// The request line and headers are too large or too many.
    HeadersTooLarge = "headers_too_large", 431, false;
    /// A defect of the server.
    Internal = "internal", 500, false;
    /// Stored bytes failed their checksum: an operator must look.
    Corrupt = "corrupt", 500, false;
    /// A budget is used up; `Retry-After` says when to try again.
    Overloaded = "overloaded", 503, true;
    /// Something the request needs is away for now.
    Unavailable = "unavailable", 503, true;
    /// The cluster is closed for appends.
    Closed = "closed", 503, true;
    /// Another node leads and could not be reached.
    NotLeader = "not_leader", 503, true;
    /// Not done in time.
    Timeout = "timeout", 504, true;
    /// Written by a quorum but not flushed in time: wait for `flushed_offset`, do not resend.
    FlushTimeout = "flush_timeout", 504, false;
}

/// The text is not a code that this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a known error code")]
pub struct UnknownCode;

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_snake_case_and_parse_back() {
        for (index, code) in ErrorCode::ALL.iter().enumerate() {
            let name = code.as_str();
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(name.parse(), Ok(*code));
            assert_eq!(ErrorCode::ALL.iter().position(|other| other.as_str() == name), Some(index), "{name} twice");
        }
        assert_eq!("nope".parse::<ErrorCode>(), Err(UnknownCode));
    }

    #[test]
    fn codes_are_sorted_by_status_and_never_a_success() {
        assert!(ErrorCode::ALL.is_sorted_by_key(|code| code.status()));
        assert!(ErrorCode::ALL.iter().all(|code| code.status() >= 400));
    }

    #[test]
    fn serde_uses_the_same_names() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_string(code).ok(), Some(format!("\"{code}\"")));
        }
    }

    #[test]
    fn the_documentation_lists_the_same_codes() {
        let page = include_str!("../../docs/http-api.md");
        let listed: Vec<String> = page
            .lines()
            .skip_while(|line| *line != "| status | code | retryable | |")
            .skip(2)
            .map(|line| line.split(" | ").take(3).collect::<Vec<_>>().join(" | "))
            .collect();
        let expected: Vec<String> = ErrorCode::ALL
            .iter()
            .map(|code| format!("| {} | `{code}` | {}", code.status(), if code.retryable() { "yes" } else { "no" }))
            .collect();
        assert_eq!(listed, expected);
    }
}
