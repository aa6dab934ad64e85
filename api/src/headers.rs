//! Names of the headers and media types of the contract, in lowercase as HTTP/2 sends them.

/// Names a request in answers and logs; taken from the client or made.
pub const REQUEST_ID: &str = "x-request-id";
/// W3C trace context, passed through to the logs.
pub const TRACEPARENT: &str = "traceparent";
/// Makes a produce request repeatable without a producer.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Conditional append: the offset that the first record must get.
pub const EXPECTED_OFFSET: &str = "expected-offset";
/// Producer triple: the id.
pub const PRODUCER_ID: &str = "producer-id";
/// Producer triple: the epoch.
pub const PRODUCER_EPOCH: &str = "producer-epoch";
/// Producer triple: the sequence of the first record.
pub const PRODUCER_SEQUENCE: &str = "producer-sequence";
/// Record headers of an `application/octet-stream` body: `a=1,b=%2C`.
pub const RECORD_HEADERS: &str = "tidelog-headers";
/// Of a streamed fetch: the topic's id.
pub const TOPIC_ID: &str = "tidelog-topic-id";
/// Of a streamed fetch: where the page is planned to end; resume after the last whole line instead if the stream broke.
pub const NEXT_OFFSET: &str = "tidelog-next-offset";
/// Of a streamed fetch: the smallest readable offset.
pub const LOG_START_OFFSET: &str = "tidelog-log-start-offset";
/// Of a streamed fetch: below it all is in the bucket.
pub const FLUSHED_OFFSET: &str = "tidelog-flushed-offset";
/// Of a streamed fetch: the first offset that is not readable yet.
pub const HIGH_WATERMARK: &str = "tidelog-high-watermark";
/// Of a streamed fetch: the high watermark until there are transactions.
pub const LAST_STABLE_OFFSET: &str = "tidelog-last-stable-offset";
/// Of a streamed fetch over many partitions: where to go on.
pub const NEXT_CURSOR: &str = "tidelog-next-cursor";
/// Where an event stream resumes; sent by every `EventSource`.
pub const LAST_EVENT_ID: &str = "last-event-id";

/// JSON.
pub const JSON: &str = "application/json";
/// One JSON record a line.
pub const NDJSON: &str = "application/x-ndjson";
/// One value, as it is.
pub const OCTET_STREAM: &str = "application/octet-stream";
/// Record batches of format v2.
pub const BATCH: &str = "application/vnd.tidelog.batch";
/// Server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// The headers of answers that `http.cors_origins` exposes to a web page's script.
pub const EXPOSED: [&str; 12] = [
    REQUEST_ID,
    TRACEPARENT,
    TOPIC_ID,
    NEXT_OFFSET,
    LOG_START_OFFSET,
    FLUSHED_OFFSET,
    HIGH_WATERMARK,
    LAST_STABLE_OFFSET,
    NEXT_CURSOR,
    "etag",
    "retry-after",
    "location",
];
