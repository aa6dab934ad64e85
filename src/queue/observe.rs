//! What the metrics say of the shard: gauges set at the moment they are read, so that nothing is paid for them in between.

use ::metrics::gauge;

use super::Queue;
use crate::metrics as names;

impl Queue {
    /// Sets the gauges of the log, the state and the budgets; call it before the metrics are rendered.
    #[allow(clippy::cast_precision_loss, reason = "gauges are floating point")]
    pub fn observe(&self) {
        let raft = self.leader().node().status();
        let gate = self.0.shard.gate();
        let (used, limit) = gate.budget();
        gauge!(names::WAL_BYTES).set(used as f64);
        gauge!(names::WAL_SPARE_BYTES).set(self.leader().node().spare_bytes() as f64);
        gauge!(names::WAL_BUDGET_BYTES).set(limit as f64);
        gauge!(names::WAL_DISK_FREE_BYTES).set(gate.free_bytes() as f64);
        gauge!(names::RAFT_TERM).set(raft.term as f64);
        gauge!(names::RAFT_IS_LEADER).set(f64::from(u8::from(raft.is_leader)));
        let members = self.0.shard.known_members().members;
        let away = members.iter().filter(|member| member.reachable == Some(false)).count();
        let lag = members.iter().filter_map(|member| member.lag).max().unwrap_or(0);
        gauge!(names::RAFT_MEMBERS).set(members.len() as f64);
        gauge!(names::RAFT_AWAY_MEMBERS).set(away as f64);
        gauge!(names::RAFT_LAG_ENTRIES).set(lag as f64);
        gauge!(names::RAFT_LAST_LOG_INDEX).set(raft.last_log as f64);
        gauge!(names::RAFT_LOG_TIME_LAG_SECONDS).set(self.leader().log_time_lag_ms() as f64 / 1e3);
        gauge!(names::TAIL_CACHE_BYTES).set(raft.tail_bytes as f64);
        gauge!(names::TAIL_CACHE_BUDGET_BYTES).set(self.config().tail.memory as f64);
        gauge!(names::PRODUCE_MEMORY_BYTES).set(self.admission().used() as f64);
        let view = self.view();
        gauge!(names::RAFT_APPLIED_INDEX).set(view.applied() as f64);
        gauge!(names::RAFT_FLUSHED_INDEX).set(view.flushed_index() as f64);
        gauge!(names::TAIL_BYTES).set(view.tail_bytes() as f64);
        gauge!(names::STATE_PARTITIONS).set(view.partition_count() as f64);
        gauge!(names::STATE_SEGMENTS).set(view.segment_count() as f64);
        gauge!(names::STATE_ARCHIVE_FILES).set(view.file_count() as f64);
        gauge!(names::IDEMPOTENCY_KEYS).set(view.idempotency_keys() as f64);
        gauge!(names::IDEMPOTENCY_WINDOW_SECONDS).set(view.idempotency_window_ms() as f64 / 1e3);
    }
}
