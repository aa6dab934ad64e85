//! What the metrics say of the shards: gauges set at the moment they are read, so that nothing is paid for them in between.

use ::metrics::gauge;

use super::Queue;
use crate::metrics as names;
use crate::shard::Shard;
use crate::state::State;

impl Queue {
    /// Sets the gauges of the logs, the states and the budgets; call it before the metrics are rendered.
    #[allow(clippy::cast_precision_loss, reason = "gauges are floating point")]
    pub fn observe(&self) {
        let gate = self.0.shards.gate();
        let (used, limit) = gate.budget();
        let nodes = || self.0.shards.iter().map(|shard| shard.leader().node());
        gauge!(names::WAL_BYTES).set(used as f64);
        gauge!(names::WAL_SPARE_BYTES).set(nodes().map(|node| node.spare_bytes()).sum::<u64>() as f64);
        gauge!(names::WAL_BUDGET_BYTES).set(limit as f64);
        gauge!(names::WAL_DISK_FREE_BYTES).set(gate.free_bytes() as f64);
        gauge!(names::WAL_DISK_LOW_BYTES).set(gate.low_mark_bytes() as f64);
        gauge!(names::TAIL_CACHE_BYTES).set(nodes().map(|node| node.status().tail_bytes).sum::<u64>() as f64);
        gauge!(names::TAIL_CACHE_BUDGET_BYTES).set(self.config().tail.memory as f64);
        gauge!(names::PRODUCE_MEMORY_BYTES).set(self.admission().used() as f64);
        let (used, limit) = self.fetch_memory();
        gauge!(names::FETCH_MEMORY_BYTES).set(used as f64);
        gauge!(names::FETCH_MEMORY_BUDGET_BYTES).set(limit as f64);
        self.0.shards.iter().for_each(observe);
    }

    /// Bytes of records in segments and archive files, those below the log starts included, of the whole cluster as this
    /// process knows it.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.0.shards.iter().map(|shard| stored_bytes(&shard.leader().node().view())).sum()
    }
}

/// Of all partitions: some milliseconds where there are a million, at each look.
fn stored_bytes(state: &State) -> u64 {
    state.partitions().map(|partition| partition.stored_bytes() + partition.kept_bytes()).sum()
}

/// Of these what is in archive files that have outlived the log.
fn kept_bytes(state: &State) -> u64 {
    state.partitions().map(|partition| partition.kept_bytes()).sum()
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floating point")]
fn observe(shard: &Shard) {
    let label = shard.id().to_string();
    let set = |name: &'static str, value: f64| gauge!(name, "shard" => label.clone()).set(value);
    let raft = shard.leader().node().status();
    set(names::RAFT_TERM, raft.term as f64);
    set(names::RAFT_IS_LEADER, f64::from(u8::from(raft.is_leader)));
    let members = shard.known().members;
    let away = members.iter().filter(|member| member.reachable == Some(false)).count();
    let lag = members.iter().filter_map(|member| member.lag).max().unwrap_or(0);
    set(names::RAFT_MEMBERS, members.len() as f64);
    set(names::RAFT_AWAY_MEMBERS, away as f64);
    set(names::RAFT_LAG_ENTRIES, lag as f64);
    set(names::RAFT_LAST_LOG_INDEX, raft.last_log as f64);
    set(names::RAFT_LOG_TIME_LAG_SECONDS, shard.leader().log_time_lag_ms() as f64 / 1e3);
    let view = shard.leader().node().view();
    set(names::RAFT_APPLIED_INDEX, view.applied() as f64);
    set(names::RAFT_FLUSHED_INDEX, view.flushed_index() as f64);
    set(names::TAIL_BYTES, view.tail_bytes() as f64);
    set(names::STATE_PARTITIONS, view.partition_count() as f64);
    set(names::STATE_SEGMENTS, view.segment_count() as f64);
    set(names::STATE_ARCHIVE_FILES, view.file_count() as f64);
    set(names::STORED_BYTES, stored_bytes(&view) as f64);
    set(names::ARCHIVE_KEPT_BYTES, kept_bytes(&view) as f64);
    set(names::IDEMPOTENCY_KEYS, view.idempotency_keys() as f64);
    set(names::IDEMPOTENCY_WINDOW_SECONDS, view.idempotency_window_ms() as f64 / 1e3);
}
