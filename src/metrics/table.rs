//! Every metric there is: name, kind, help, labels. Add a line here; nothing else is needed to have it described,
//! registered at start and compared with docs/operations.md.
//!
//! A label lists its values, or the ones to start with where more come at run time (shards): those are registered
//! with zero, so that a rate over a series that has not happened yet is zero and not absent.

use super::{Kind, Metric};

macro_rules! metrics {
    ($($kind:ident $constant:ident $name:literal $([$($label:ident: $($value:literal)|+),*])? $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*

        /// All metrics, in the order of the source.
        pub const TABLE: &[Metric] = &[$(Metric {
            name: $name,
            kind: Kind::$kind,
            help: $help,
            labels: &[$($((stringify!($label), &[$($value),+])),*)?],
        }),*];
    };
}

metrics! {
    // Bucket
    Counter BUCKET_CALLS "tidelog_bucket_calls_total"
        [kind: "put" | "put_part" | "get" | "delete" | "list", outcome: "ok" | "not_found" | "already_exists" | "denied" | "timeout" | "error"]
        "Calls to the bucket; each attempt counts, a listing counts once; denied is a key that is unknown, expired or lacks a right";
    Histogram BUCKET_CALL_SECONDS "tidelog_bucket_call_seconds" [kind: "put" | "put_part" | "get" | "delete"]
        "Time of one attempt of a call to the bucket, its body included";
    Counter BUCKET_WRITTEN_BYTES "tidelog_bucket_written_bytes_total" "Bytes written to the bucket";
    Counter BUCKET_READ_BYTES "tidelog_bucket_read_bytes_total" "Bytes read from the bucket";
    Counter BUCKET_RETRIES "tidelog_bucket_retries_total" "Attempts after the first of calls to the bucket";
    Counter BUCKET_HEDGES "tidelog_bucket_hedged_reads_total" [outcome: "first" | "late"]
        "Reads of blocks that were asked for a second time, by whether the second answer was the first to come";
    Counter BUCKET_JOB_CALLS "tidelog_bucket_job_calls_total"
        [task: "flush" | "archive" | "fetch" | "gc" | "other", kind: "put" | "put_part" | "get" | "delete" | "list"]
        "The same calls by what they are for";
    Counter BUCKET_JOB_BYTES "tidelog_bucket_job_bytes_total"
        [task: "flush" | "archive" | "fetch" | "gc" | "other", direction: "written" | "read"]
        "Bytes to and from the bucket by what they are for";
    Gauge COST "tidelog_cost_estimate" [part: "put" | "get" | "read" | "written" | "peer"]
        "Estimated price of this process's calls and bytes since its start, at the prices of the section cost, in their currency";
    Gauge BUCKET_CREDENTIALS_EXPIRY "tidelog_bucket_credentials_expiry_timestamp_seconds"
        "When the credentials for the bucket that are in use end, in seconds since 1970; they are renewed before; 0 if they do not end";
    Gauge BUCKET_HEALTHY "tidelog_bucket_healthy" "1 if the last call to the bucket reached it, 0 if not";

    // Block cache
    Counter CACHE_LOOKUPS "tidelog_cache_lookups_total" [outcome: "memory" | "disk" | "miss" | "corrupt"]
        "Lookups of the block cache by where the block came from; corrupt is a cached block that failed its checksum, a lookup of its own";
    Counter CACHE_FETCHED_BYTES "tidelog_cache_fetched_bytes_total" "Bytes fetched from the bucket for the block cache";
    Gauge CACHE_MEMORY_BYTES "tidelog_cache_memory_bytes" "Bytes of the block cache in memory";
    Gauge CACHE_MEMORY_BUDGET_BYTES "tidelog_cache_memory_budget_bytes" "cache.memory";
    Gauge CACHE_DISK_BUDGET_BYTES "tidelog_cache_disk_budget_bytes" "cache.disk, 0 if the disk part is off or could not be opened";

    // Archive
    Counter ARCHIVE_JOBS "tidelog_archive_jobs_total" [outcome: "completed" | "abandoned"] "Archive jobs of this process by how they ended";
    Histogram ARCHIVE_JOB_SECONDS "tidelog_archive_job_seconds" "Time of an archive job from claim to end";
    Counter ARCHIVE_FILES "tidelog_archive_files_total" "Archive files committed by this process";
    Counter ARCHIVE_RECORDS "tidelog_archive_records_total" "Records in those files";
    Counter ARCHIVE_WRITTEN_BYTES "tidelog_archive_written_bytes_total" "Bytes of those files";

    // Garbage collection and retention
    Counter GC_DELETED_OBJECTS "tidelog_gc_deleted_objects_total" [kind: "segment" | "checkpoint" | "index" | "archive"]
        "Objects deleted because nothing named them";
    Counter GC_DELETED_BYTES "tidelog_gc_deleted_bytes_total" "Bytes of deleted objects";
    Counter RETENTION_TRIMMED_PARTITIONS "tidelog_retention_trimmed_partitions_total" "Log starts raised by retention";

    // Raft and state, set when they are read
    Gauge WAL_BYTES "tidelog_wal_bytes" "Bytes of the write-ahead log's files";
    Gauge WAL_SPARE_BYTES "tidelog_wal_spare_bytes"
        "Bytes of files that are kept ready for the write-ahead log, not in tidelog_wal_bytes";
    Gauge WAL_BUDGET_BYTES "tidelog_wal_budget_bytes"
        "Bytes of log above which appends are refused: wal.budget less wal.reserve";
    Gauge WAL_DISK_FREE_BYTES "tidelog_wal_disk_free_bytes" "Free bytes of the disk of the write-ahead log";
    Gauge WAL_DISK_LOW_BYTES "tidelog_wal_disk_low_bytes" "Free bytes of that disk below which appends are refused";
    Gauge RAFT_TERM "tidelog_raft_term" [shard: "0"] "The shard's Raft term";
    Gauge RAFT_IS_LEADER "tidelog_raft_is_leader" [shard: "0"] "1 if this node leads the shard";
    Gauge RAFT_MEMBERS "tidelog_raft_members" [shard: "0"] "Voters and learners of the shard";
    Gauge RAFT_AWAY_MEMBERS "tidelog_raft_away_members" [shard: "0"]
        "Members that did not answer the leader of late; 0 on a node that does not lead";
    Gauge RAFT_LAG_ENTRIES "tidelog_raft_lag_entries" [shard: "0"]
        "Entries that the member furthest behind lacks, as far as the leader knows; 0 on a node that does not lead";
    Gauge RAFT_LAST_LOG_INDEX "tidelog_raft_last_log_index" [shard: "0"] "The newest entry of the Raft log";
    Gauge RAFT_APPLIED_INDEX "tidelog_raft_applied_index" [shard: "0"] "The newest entry applied";
    Gauge RAFT_FLUSHED_INDEX "tidelog_raft_flushed_index" [shard: "0"] "The entry up to which all is in the bucket";
    Gauge RAFT_LOG_TIME_LAG_SECONDS "tidelog_log_time_lag_seconds" [shard: "0"]
        "How far log time is behind wall time; negative if it is ahead";
    Gauge TAIL_BYTES "tidelog_tail_bytes" [shard: "0"] "Bytes of batches that are not flushed, 128 more for each";
    Gauge TAIL_CACHE_BYTES "tidelog_tail_cache_bytes" "Bytes of recent log entries in memory";
    Gauge TAIL_CACHE_BUDGET_BYTES "tidelog_tail_cache_budget_bytes" "tail.memory";
    Gauge STATE_PARTITIONS "tidelog_partitions" [shard: "0"] "Partitions of the shard, those of deleted topics included";
    Gauge STATE_SEGMENTS "tidelog_segments" [shard: "0"] "Live segments";
    Gauge STATE_ARCHIVE_FILES "tidelog_archive_files" [shard: "0"] "Live archive files";
    Gauge STORED_BYTES "tidelog_stored_bytes" [shard: "0"]
        "Bytes of records in segments and archive files, as the segments had them; what waits for garbage collection is not in it";
    Gauge ARCHIVE_KEPT_BYTES "tidelog_archive_kept_bytes" [shard: "0"]
        "Of tidelog_stored_bytes, what is below the log starts, in archive files that archive_retention_ms keeps";
    Gauge IDEMPOTENCY_KEYS "tidelog_idempotency_keys" [shard: "0"] "Idempotency keys remembered";
    Gauge IDEMPOTENCY_WINDOW_SECONDS "tidelog_idempotency_window_seconds" [shard: "0"]
        "How far back idempotency keys are remembered: the real window, shorter than the setting when the bound on keys is met";

    // Flush
    Counter FLUSHES "tidelog_flushes_total" [outcome: "ok" | "error"] "Flushes of the tail to the bucket";
    Histogram FLUSH_SECONDS "tidelog_flush_seconds" "Time of a flush from its view to its purge";
    Counter FLUSH_SEGMENT_BYTES "tidelog_flush_segment_bytes_total" "Bytes of segments written";
    Counter FLUSH_CHECKPOINT_BYTES "tidelog_flush_checkpoint_bytes_total" "Bytes of checkpoints and index parts written";

    // Produce
    Counter PRODUCE_PROPOSALS "tidelog_produce_proposals_total" [outcome: "applied" | "not_written" | "refused" | "unknown" | "fatal"]
        "Entries of records proposed to Raft, by what became of them";
    Histogram PRODUCE_PROPOSAL_SECONDS "tidelog_produce_proposal_seconds"
        "Time from proposing an entry of records until it was applied or failed";
    Histogram PRODUCE_ENTRY_BYTES "tidelog_produce_entry_bytes" "Bytes of the entries of records proposed";
    Counter PRODUCE_BATCHES "tidelog_produce_batches_total" "Record batches in those entries";
    Counter PRODUCE_RECORDS "tidelog_produce_records_total"
        "Records in those entries; what is proposed again counts again";
    Counter PRODUCE_REFUSED "tidelog_produce_refused_total" [reason: "memory" | "gate"]
        "Requests refused as overloaded, because produce.memory is used up or the write-ahead log takes no appends";
    Gauge PRODUCE_MEMORY_BYTES "tidelog_produce_memory_bytes" "Bytes of requests that wait to be written";
    Gauge PRODUCE_MEMORY_BUDGET_BYTES "tidelog_produce_memory_budget_bytes" "produce.memory";

    // Fetch
    Histogram FETCH_SECONDS "tidelog_fetch_seconds"
        "Time of reading a page from its tiers; waiting for records is not in it";
    Counter FETCH_PIECES "tidelog_fetch_pieces_total" [tier: "tail" | "segment" | "archive"]
        "Pieces of pages read, by tier";
    Counter FETCH_REPLANS "tidelog_fetch_replans_total"
        "Pages planned again because what was planned had been replaced meanwhile";
    Gauge FETCH_WAITING "tidelog_fetch_waiting" "Long polls and followers that wait for records";
    Counter FETCH_REFUSED "tidelog_fetch_refused_total"
        "Pages and answers for which fetch.memory had no room in time: 503, or an answer that breaks off";
    Gauge FETCH_MEMORY_BYTES "tidelog_fetch_memory_bytes" "Bytes that pages and answers hold until they are sent";
    Gauge FETCH_MEMORY_BUDGET_BYTES "tidelog_fetch_memory_budget_bytes" "fetch.memory";

    // Peers
    Counter PEER_CALLS "tidelog_peer_calls_total"
        [kind: "hello" | "append" | "vote" | "pre_vote" | "snapshot" | "transfer" | "propose" | "read_index" | "checkpoint_files" | "status" | "follow" | "read_entries" | "lost" | "flush" | "admin" | "archive" | "profile" | "archive_requests" | "other",
        outcome: "ok" | "answered" | "not_sent" | "unknown"]
        "Calls to other nodes by what became of them; answered is an error of the peer's own";
    Histogram PEER_CALL_SECONDS "tidelog_peer_call_seconds"
        [kind: "hello" | "append" | "vote" | "pre_vote" | "snapshot" | "transfer" | "propose" | "read_index" | "checkpoint_files" | "status" | "follow" | "read_entries" | "lost" | "flush" | "admin" | "archive" | "profile" | "archive_requests" | "other"]
        "Time of a call to another node, until its answer or its failure";
    Counter PEER_REFUSED "tidelog_peer_refused_total"
        [reason: "version" | "cluster" | "identity" | "memory" | "invalid"]
        "Requests of other nodes that were refused before they were handled";
    Counter PEER_SENT_BYTES "tidelog_peer_sent_bytes_total" "Bytes sent to other nodes, whoever made the connection";
    Counter PEER_RECEIVED_BYTES "tidelog_peer_received_bytes_total"
        "Bytes received from other nodes, whoever made the connection";
    Gauge PEER_CONNECTIONS "tidelog_peer_connections" [direction: "in" | "out"]
        "Open connections with other nodes; those made by this one are out";

    // Background jobs
    Gauge JOB_LAST_SUCCESS_AGE_SECONDS "tidelog_job_last_success_age_seconds"
        [task: "flush" | "archive" | "retention" | "gc"]
        "Seconds since a background job last succeeded, since the start if it never did; 0 for one that another node does";
    Counter JOB_FAILURES "tidelog_job_failures_total"
        [task: "flush" | "archive" | "retention" | "gc"] "Runs of a background job that failed";

    // HTTP
    Counter HTTP_REQUESTS "tidelog_http_requests_total"
        [route: "/healthz", status: "1xx" | "2xx" | "3xx" | "4xx" | "5xx"]
        "Requests answered, by route and class of status";
    Histogram HTTP_REQUEST_SECONDS "tidelog_http_request_seconds" [route: "/healthz"]
        "Time until the head of the answer, by route; long polls wait in it";
    Gauge HTTP_CONNECTIONS "tidelog_http_connections" "Open connections";
    Gauge HTTP_FOLLOWERS "tidelog_http_followers" "Open streams of server-sent events";
    Counter HTTP_FOLLOWER_FAILURES "tidelog_http_follower_failures_total" [status: "4xx" | "5xx"]
        "Streams of server-sent events that ended with a failure, by the class of status that another request would get";
    Counter HTTP_BODIES_REFUSED "tidelog_http_bodies_refused_total"
        "Requests refused as overloaded, because http.body_memory is used up";
    Gauge HTTP_BODY_MEMORY_BYTES "tidelog_http_body_memory_bytes" "Bytes of request bodies that are being read or answered";
    Gauge HTTP_BODY_MEMORY_BUDGET_BYTES "tidelog_http_body_memory_budget_bytes" "http.body_memory";

    Gauge CERTIFICATE_EXPIRY_TIMESTAMP_SECONDS "tidelog_certificate_expiry_timestamp_seconds"
        [listener: "clients" | "operators" | "peers"]
        "When the certificate of a listener that is in force ends, or one of its chain, in seconds since 1970; 0 without TLS";

    // Process
    Gauge BUILD "tidelog_build_info" [version: "unknown"] "1; its label is the version";
    Gauge UPTIME_SECONDS "tidelog_uptime_seconds" "Seconds since the process started";
    Gauge OPEN_FILES "tidelog_open_files" "File descriptors of the process";
    Gauge RESIDENT_MEMORY_BYTES "tidelog_resident_memory_bytes" "Resident memory of the process";
}
