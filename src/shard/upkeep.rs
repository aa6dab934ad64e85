//! What a leader does now and then: trim what retention ends, forget deleted topics, delete what nothing names.

use std::collections::BTreeSet;
use std::time::Duration;

use ::metrics::counter;

use super::tasks::Tasks;
use super::{Job, Jobs};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::gc::retention::{self, Rise};
use crate::gc::{self, Collector, Extent};
use crate::metrics::RETENTION_TRIMMED_PARTITIONS;
use crate::metrics::cost::BucketJob;
use crate::model::catalog::CATALOG_SHARD;
use crate::model::{CheckpointRef, Control, LogTime, ObjectId, TopicId};
use crate::raft::Leader;
use crate::state::State;
use crate::store::Bucket;

/// Topics that one command forgets: `apply` takes them in steps of bounded size.
const REMOVED_AT_ONCE: usize = 16;
/// Partitions that one command trims: some 30 KiB.
const TRIMMED_AT_ONCE: usize = 1_000;
/// Stored ranges that a partition passes at once, and that a command passes before its last partition: `apply` goes over each, and
/// all wait for it.
const PASSED_AT_ONCE: usize = 16_384;

/// Starts the jobs; they end with `tasks`.
pub(super) fn start(tasks: &Tasks, jobs: &Jobs, leader: Leader, bucket: &Bucket, config: &Config) {
    let (job, trimmer, interval) = (jobs.retention.clone(), leader.clone(), config.retention.interval);
    tasks.spawn("retention", async move {
        job.every(interval, || retain(&trimmer)).await;
        None
    });
    if config.gc.enabled {
        let (job, interval) = (jobs.gc.clone(), config.gc.interval);
        let shard = leader.node().with_state(|state| state.shard());
        let leader = GroupLog(leader);
        let bucket = bucket.on_behalf_of(BucketJob::Gc);
        let extent = Extent { grace: config.gc.grace, listed: config.gc.list_limit };
        let collector = Collector::new(bucket, shard, extent);
        tasks.spawn("gc", async move { Some(collect(collector, job, interval, leader).await) });
    }
}

/// Collects until dropped, or until another life of the cluster has replaced this one: why the process has to end then.
async fn collect(mut collector: Collector, job: Job, interval: Duration, log: GroupLog) -> String {
    loop {
        tokio::time::sleep(interval).await;
        if job.is_paused() {
            continue;
        }
        let ran = collector.run(&log).await;
        if let Err(error) = &ran
            && error.code() == "replaced"
        {
            return error.message().to_owned();
        }
        job.ran(ran.map(drop));
    }
}

/// The log of the group as garbage collection sees it.
struct GroupLog(Leader);

impl gc::Log for GroupLog {
    fn log_time(&self) -> LogTime {
        self.0.log_time()
    }

    fn view(&self) -> State {
        self.0.node().view()
    }

    /// The last answer of each member counts, since its pointer only moves on.
    async fn pinned(&self) -> Result<BTreeSet<CheckpointRef>> {
        let node = self.0.node();
        let reports = node.peer_reports();
        let others = node.members().into_iter().filter(|member| member.node != node.id());
        let said = others.map(|member| match reports.get(&member.node) {
            Some(report) => Ok(report.status.checkpoint),
            None => {
                let message = format!(
                    "node {} has not said yet which checkpoint it would start from: nothing is deleted before",
                    member.node
                );
                Err(Error::unavailable(message))
            }
        });
        said.filter_map(Result::transpose).collect()
    }

    async fn condemn(&self, floor: ObjectId) -> Result<()> {
        self.0.control(Control::Condemn { floor }).await.map(|_| ())
    }
}

/// Nothing goes from a closed shard, where it would be ignored.
async fn retain(leader: &Leader) -> Result<()> {
    let view = leader.node().view();
    if view.is_closed() {
        return Ok(());
    }
    let rises: Vec<Rise> = retention::plan(&view, leader.log_time(), PASSED_AT_ONCE).collect();
    for rises in commands(&rises) {
        leader.control(Control::Trim { starts: rises.iter().map(|rise| rise.start).collect() }).await?;
        counter!(RETENTION_TRIMMED_PARTITIONS).increment(rises.len() as u64);
    }
    // The others forget what the catalog has forgotten.
    if view.shard() == CATALOG_SHARD { remove_deleted(leader).await } else { Ok(()) }
}

/// Cuts what is to be trimmed into commands of bounded cost.
fn commands(rises: &[Rise]) -> impl Iterator<Item = &[Rise]> {
    let (mut partitions, mut ranges) = (0, 0);
    rises.chunk_by(move |one, _| {
        (partitions, ranges) = (partitions + 1, ranges + one.ranges);
        let joined = partitions < TRIMMED_AT_ONCE && ranges < PASSED_AT_ONCE;
        if !joined {
            (partitions, ranges) = (0, 0);
        }
        joined
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LogStart, TopicId, TopicPartition};

    #[test]
    fn a_trim_names_so_many_partitions_and_passes_so_many_ranges() {
        let rise =
            |ranges| Rise { start: LogStart::of_all(TopicPartition::new(TopicId(uuid::Uuid::nil()), 0), 1), ranges };
        let lengths = |rises: &[Rise]| commands(rises).map(<[Rise]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&[rise(1); 2_500]), [1_000, 1_000, 500]);
        assert_eq!(lengths(&[rise(PASSED_AT_ONCE); 3]), [1, 1, 1]);
        assert_eq!(lengths(&[rise(PASSED_AT_ONCE / 2); 5]), [2, 2, 1]);
    }
}
