//! What a node does because it leads, or because it does not.
//!
//! A leader flushes, trims, collects garbage, sets the limits of its settings, and hands over to whoever is to lead; that of the
//! first shard also sees to it that the others have its members and know their topics. The others follow its flushes and make its
//! checkpoints their own. Each set of tasks lives in a scope that ends with the leadership, so that no two nodes do a
//! leader's work for longer than one of them does not know better; what a deposed one still proposes, `apply` declines.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use super::common::Common;
use super::dispatch::ask_flush;
use super::members::Members;
use super::reopening::Reopening;
use super::tasks::{Scope, Tasks};
use super::{Job, Jobs, adopt, balance, catalog, topics, upkeep, versions};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::flush::{self, AskLeader, FlushHandle, FlushTask, Flusher, FlusherOptions, Triggers};
use crate::metrics::{self, cost::BucketJob};
use crate::model::catalog::CATALOG_SHARD;
use crate::model::{Control, Limits, LogIndex};
use crate::raft::{Leader, Leadership, NodeIdentity};

/// Before a leader that could not begin tries again.
const RETRY: Duration = Duration::from_secs(1);

/// Everything that the tasks need; clones share it.
#[derive(Clone)]
pub(super) struct Duty(pub(super) Arc<Needs>);

pub(super) struct Needs {
    pub(super) tasks: Tasks,
    pub(super) leader: Leader,
    pub(super) members: Members,
    pub(super) flush: FlushHandle,
    pub(super) jobs: Jobs,
    pub(super) reopening: Reopening,
    pub(super) common: Arc<Common>,
}

/// The tasks of a leadership.
pub(super) struct Office {
    term: u64,
    /// Held for its end.
    _scope: Scope,
    /// Resolves once a shard that had been closed is open again; at once if it was not.
    pub(super) open: watch::Receiver<bool>,
}

/// What the node does now.
enum Now {
    Leading(Office),
    Following {
        /// Held for its end.
        _scope: Scope,
    },
    Neither,
}

impl Duty {
    /// Begins a leadership: whatever was asked of an earlier leader is applied here already.
    ///
    /// # Errors
    /// The log's.
    pub(super) async fn begin(&self, term: u64) -> Result<Office> {
        let needs = &*self.0;
        let (common, shard) = (&needs.common, needs.leader.node().shard());
        let unsealed = begin(&needs.leader, &common.identity, &needs.reopening).await?;
        set_limits(&needs.leader, &common.config).await?;
        // From now on their age counts here.
        ["flush", "gc", "retention"].into_iter().for_each(|job| metrics::job_begins(job, shard.0));
        let scope = needs.tasks.scope();
        self.start_flush(&scope);
        versions::start(&scope, needs.leader.clone());
        upkeep::start(&scope, &needs.jobs, needs.leader.clone(), &common.bucket, &common.config);
        self.start_of_all(&scope);
        let (opened, open) = watch::channel(unsealed.is_none());
        if let Some(unsealed) = unsealed {
            let (leader, flush) = (needs.leader.clone(), needs.flush.clone());
            scope.spawn("reopen", async move {
                while let Err(error) = reopen_when_flushed(&leader, &flush, unsealed).await {
                    warn!(?error, "the shard cannot be opened yet and this is tried again");
                    tokio::time::sleep(RETRY).await;
                }
                opened.send_replace(true);
                None
            });
        }
        Ok(Office { term, _scope: scope, open })
    }

    /// What concerns other nodes and other shards.
    fn start_of_all(&self, scope: &Scope) {
        let balancing = self.clone();
        scope.spawn("balance", async move {
            balance::balance(&balancing.0).await;
            None
        });
        if self.0.leader.node().shard() != CATALOG_SHARD {
            return;
        }
        let (counting, matching, telling) = (self.clone(), self.clone(), self.clone());
        scope.spawn("shards", async move {
            catalog::keep_raised(&counting.0.leader, &counting.0.common).await;
            None
        });
        scope.spawn("members", async move {
            balance::keep_matched(&matching.0).await;
            None
        });
        scope.spawn("topics", async move {
            topics::keep_told(&telling.0.leader, &telling.0.common).await;
            None
        });
    }

    /// Does what the leadership asks for until dropped, beginning with `office` if there is one.
    pub(super) async fn run(self, office: Option<Office>) -> Option<String> {
        let mut leadership = self.0.leader.node().leadership();
        let mut now = office.map_or(Now::Neither, Now::Leading);
        loop {
            let seen = *leadership.borrow_and_update();
            now = self.turn(now, seen, leadership.clone()).await;
            let unsettled = seen.is_leader && !matches!(now, Now::Leading(_));
            let changed = async {
                if unsettled {
                    tokio::time::timeout(RETRY, leadership.changed()).await.unwrap_or(Ok(()))
                } else {
                    leadership.changed().await
                }
            };
            if changed.await.is_err() {
                // The node has stopped, which is somebody else's to report.
                return None;
            }
        }
    }

    /// Goes from what the node does to what it has to do.
    async fn turn(&self, now: Now, seen: Leadership, leadership: watch::Receiver<Leadership>) -> Now {
        match now {
            Now::Leading(office) if seen.is_leader && office.term == seen.term => Now::Leading(office),
            Now::Following { _scope } if !seen.is_leader => Now::Following { _scope },
            before => {
                if matches!(before, Now::Leading(_)) {
                    info!(shard = %self.0.leader.node().shard(), term = seen.term, "this node does not lead any more");
                }
                // Ends what was done until now before anything else begins.
                drop(before);
                if seen.is_leader { self.take_office(seen, leadership).await } else { self.follow() }
            }
        }
    }

    async fn take_office(&self, seen: Leadership, mut leadership: watch::Receiver<Leadership>) -> Now {
        let ended = leadership.wait_for(|now| !now.is_leader || now.term != seen.term);
        let begun = tokio::select! {
            biased;
            begun = self.begin(seen.term) => begun,
            _ = ended => return Now::Neither,
        };
        match begun {
            Ok(office) => {
                info!(shard = %self.0.leader.node().shard(), term = seen.term, "this node leads");
                Now::Leading(office)
            }
            Err(error) => {
                warn!(?error, "a leadership could not begin and is tried again");
                Now::Neither
            }
        }
    }

    fn follow(&self) -> Now {
        let needs = &*self.0;
        needs.flush.rest();
        [&needs.jobs.gc, &needs.jobs.retention].into_iter().for_each(Job::rest);
        let scope = needs.tasks.scope();
        let following = flush::follow(needs.leader.clone().into(), needs.flush.clone(), needs.members.clone());
        scope.spawn("flush", async move {
            following.await;
            None
        });
        let adopting = adopt::adopt_all(needs.leader.node().clone(), needs.common.bucket.clone());
        scope.spawn("adopt", async move {
            adopting.await;
            None
        });
        Now::Following { _scope: scope }
    }

    fn start_flush(&self, scope: &Scope) {
        let Needs { leader, flush, common, .. } = &*self.0;
        let Common { bucket, config, clock, .. } = &**common;
        let options = FlusherOptions {
            shard: leader.node().shard(),
            segment_bytes: config.flush.bytes,
            // Each holds a segment in memory.
            uploads: usize::try_from(common.share(u64::from(config.flush.uploads))).unwrap_or(usize::MAX).max(1),
            deadline: config.flush.deadline,
        };
        let triggers = Triggers {
            bytes: config.flush.bytes,
            interval: config.flush.interval,
            metadata_interval: config.flush.metadata_interval,
            checkpoint_gap: config.flush.checkpoint_gap,
        };
        let flusher = Flusher::new(leader.clone(), bucket.on_behalf_of(BucketJob::Flush), options);
        let task = FlushTask::new(flusher, flush.clone(), triggers, clock.clone());
        scope.spawn("flush", async move { task.run().await.err().map(|replaced| replaced.to_string()) });
    }
}

impl AskLeader for Members {
    async fn ask(&self, index: LogIndex) -> Result<()> {
        match (self.leader(), self.calls()) {
            (Some(leader), Some(calls)) => ask_flush(calls, &leader, index).await,
            _ => Err(Error::unavailable("the shard has no leader")),
        }
    }
}

/// Begins the incarnation of this directory, or unseals a shard that was closed in it; the log index of the latter.
async fn begin(leader: &Leader, identity: &NodeIdentity, reopening: &Reopening) -> Result<Option<LogIndex>> {
    let node = leader.node();
    let (incarnation, closed, clean) =
        node.with_state(|state| (state.incarnation(), state.is_closed(), state.is_clean()));
    if incarnation == identity.incarnation && !closed {
        return Ok(None);
    }
    if incarnation != identity.incarnation {
        leader.control(Control::Reopen { incarnation: identity.incarnation }).await?;
        info!(incarnation = identity.incarnation.0, "the shard begins another life");
        return Ok(None);
    }
    // What an earlier leader unsealed is opened by whoever leads.
    if clean && !reopening.is_wanted(node).await {
        info!("the shard stays closed: it was closed while this node ran");
        return Ok(None);
    }
    let (index, _) = leader.control(Control::Unseal).await?;
    Ok(Some(index))
}

/// Opens a shard that was closed cleanly, once a checkpoint that is not clean is the newest in the bucket; until then appends
/// are declined as `closed` (docs/decisions/0004-reopening-after-a-clean-close.md).
async fn reopen_when_flushed(leader: &Leader, flush: &FlushHandle, unsealed: LogIndex) -> Result<()> {
    flush.flushed(unsealed).await?;
    let (incarnation, closed) = leader.node().with_state(|state| (state.incarnation(), state.is_closed()));
    if !closed {
        // An earlier attempt whose answer was lost.
        return Ok(());
    }
    leader.control(Control::Reopen { incarnation }).await?;
    info!("the shard is open again");
    Ok(())
}

async fn set_limits(leader: &Leader, config: &Config) -> Result<()> {
    let limits = Limits::from(config);
    if leader.node().with_state(|state| *state.limits() == limits) {
        return Ok(());
    }
    leader.control(Control::SetLimits(limits)).await.map(|_| ())
}
