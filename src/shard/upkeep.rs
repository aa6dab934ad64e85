//! What a leader does now and then: trim what retention ends, forget deleted topics, delete what nothing names.

use std::time::Duration;

use super::Jobs;
use super::tasks::Tasks;
use crate::config::Config;
use crate::error::Result;
use crate::model::{Control, TopicId};
use crate::raft::Leader;
use crate::store::Bucket;

/// Topics that one command forgets: `apply` takes them in steps of bounded size.
const REMOVED_AT_ONCE: usize = 16;

/// Starts the jobs.
pub(super) fn start(tasks: &Tasks, jobs: &Jobs, leader: &Leader, bucket: &Bucket, config: &Config) {
    let _ = bucket;
    let (job, leader) = (jobs.retention.clone(), leader.clone());
    let interval: Duration = config.retention.interval;
    tasks.spawn("retention", async move {
        job.every(interval, || retain(&leader)).await;
        None
    });
}

async fn retain(leader: &Leader) -> Result<()> {
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
