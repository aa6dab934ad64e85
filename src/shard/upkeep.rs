//! What a leader does now and then: trim what retention ends, forget deleted topics, delete what nothing names.

use std::sync::Arc;

use ::metrics::counter;
use tokio::sync::Mutex;

use super::Jobs;
use super::tasks::Tasks;
use crate::config::Config;
use crate::error::Result;
use crate::gc::{Collector, retention};
use crate::metrics::RETENTION_TRIMMED_PARTITIONS;
use crate::model::{Control, TopicId};
use crate::raft::Leader;
use crate::store::Bucket;

/// Topics that one command forgets: `apply` takes them in steps of bounded size.
const REMOVED_AT_ONCE: usize = 16;
/// Partitions that one command trims: some 30 KiB.
const TRIMMED_AT_ONCE: usize = 1_000;

/// Starts the jobs.
pub(super) fn start(tasks: &Tasks, jobs: &Jobs, leader: &Leader, bucket: &Bucket, config: &Config) {
    let (job, trimmer, interval) = (jobs.retention.clone(), leader.clone(), config.retention.interval);
    tasks.spawn("retention", async move {
        job.every(interval, || retain(&trimmer)).await;
        None
    });
    if config.gc.enabled {
        let (job, leader, interval) = (jobs.gc.clone(), leader.clone(), config.gc.interval);
        let shard = leader.node().with_state(|state| state.shard());
        let collector = Arc::new(Mutex::new(Collector::new(bucket.clone(), shard, config.gc.grace)));
        tasks.spawn("gc", async move {
            job.every(interval, || async { collector.lock().await.run(&leader).await.map(drop) }).await;
            None
        });
    }
}

async fn retain(leader: &Leader) -> Result<()> {
    let view = leader.node().view();
    let starts: Vec<_> = retention::plan(&view, leader.log_time()).collect();
    for starts in starts.chunks(TRIMMED_AT_ONCE) {
        leader.control(Control::Trim { starts: starts.to_vec() }).await?;
        counter!(RETENTION_TRIMMED_PARTITIONS).increment(starts.len() as u64);
    }
    remove_deleted(leader).await
}

/// Forgets topics whose grace period is over; their objects are garbage then.
async fn remove_deleted(leader: &Leader) -> Result<()> {
    let view = leader.node().view();
    let grace = view.limits().topic_delete_grace_ms;
    let now = leader.log_time();
    let over = |deleted_at: Option<u64>| deleted_at.is_some_and(|at| at.saturating_add(grace) <= now);
    let ids: Vec<TopicId> =
        view.deleted_topics().filter(|topic| over(topic.deleted_at)).map(|topic| topic.id).collect();
    for ids in ids.chunks(REMOVED_AT_ONCE) {
        leader.control(Control::RemoveTopics { ids: ids.to_vec() }).await?;
    }
    Ok(())
}
