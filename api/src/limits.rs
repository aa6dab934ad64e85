//! Numbers of the contract: what a request may carry and what an absent parameter means.

/// Bytes of key, value and headers of one record, uncompressed.
pub const MAX_RECORD_BYTES: usize = 1 << 20;
/// Bytes of a request body, before and after decompression alike.
pub const MAX_BODY_BYTES: usize = 16 << 20;
/// Records of one produce request.
pub const MAX_RECORDS: usize = 10_000;
/// Headers of one record.
pub const MAX_RECORD_HEADERS: usize = 64;
/// How deep arrays and objects may nest in a JSON value.
pub const MAX_JSON_DEPTH: usize = 64;
/// The largest offset, producer id and timestamp: what every JSON reader keeps exact.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;
/// Bytes of an `Idempotency-Key`.
pub const MAX_IDEMPOTENCY_KEY: usize = 64;

/// How long a produce request waits if it does not say.
pub const DEFAULT_PRODUCE_TIMEOUT_MS: u64 = 10_000;
/// How long a produce request may wait.
pub const MAX_PRODUCE_TIMEOUT_MS: u64 = 60_000;

/// Records of a page if the request does not say.
pub const DEFAULT_FETCH_RECORDS: usize = 1_000;
/// Records of a page at most.
pub const MAX_FETCH_RECORDS: usize = 10_000;
/// Stored bytes of a page if the request does not say.
pub const DEFAULT_FETCH_BYTES: usize = 1 << 20;
/// Stored bytes of a page at most.
pub const MAX_FETCH_BYTES: usize = 16 << 20;
/// How long a long poll waits at most; a larger `wait_ms` means this.
pub const MAX_WAIT_MS: u64 = 30_000;
/// Partitions that one cursor may follow.
pub const MAX_CURSOR_PARTITIONS: usize = 256;

/// Topics or files of a listing if the request does not say.
pub const DEFAULT_LIST_LIMIT: usize = 1_000;
/// Topics or files of a listing at most: what the engine gives of them at a time.
pub const MAX_LIST_LIMIT: usize = 1_000;
/// Answers larger than this are compressed if the client accepts it.
pub const COMPRESS_ABOVE_BYTES: usize = 1_024;
/// Seconds between two `ping` events of a follower.
pub const PING_INTERVAL_SECS: u64 = 15;
/// How long a flush request waits if it does not say.
pub const DEFAULT_FLUSH_WAIT_MS: u64 = 10_000;
/// How long a flush request waits at most; a larger `wait_ms` means this.
pub const MAX_FLUSH_WAIT_MS: u64 = 60_000;
