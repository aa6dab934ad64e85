//! What the shards of a node share: identity, bucket, peers, budgets. None of it is had once for each of them.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio::time::Instant;

use super::Shard;
use super::dispatch::Dispatch;
use super::gate::AppendGate;
use super::network::Calls;
use super::slots::Slots;
use super::tasks::Tasks;
use crate::clock::Clock;
use crate::config::Config;
use crate::model::ShardId;
use crate::raft::NodeIdentity;
use crate::store::Bucket;

/// See the module.
pub(super) struct Common {
    pub(super) config: Config,
    pub(super) clock: Clock,
    pub(super) identity: NodeIdentity,
    pub(super) bucket: Bucket,
    /// About the first shard; `None` without a peer listener.
    pub(super) calls: Option<Calls>,
    pub(super) dispatch: Dispatch,
    /// Where the others reach this node; empty if they cannot.
    pub(super) address: String,
    pub(super) gate: AppendGate,
    /// Of the node; what is fatal in a shard is fatal here.
    pub(super) tasks: Tasks,
    /// When it was first looked whether all shards are here.
    pub(super) begun: OnceLock<Instant>,
    /// Those that are open.
    pub(super) shards: Arc<Slots<Shard>>,
}

/// Who a process is among the others, and how it meets them.
pub(super) struct Endpoint {
    pub(super) identity: NodeIdentity,
    pub(super) calls: Option<Calls>,
    pub(super) dispatch: Dispatch,
    pub(super) address: String,
}

impl Common {
    /// What the shards of this process will share; none is there yet.
    pub(super) fn new(config: Config, clock: Clock, bucket: Bucket, endpoint: Endpoint) -> Arc<Self> {
        let Endpoint { identity, calls, dispatch, address } = endpoint;
        Arc::new(Self {
            gate: AppendGate::new(config.wal_dir(), config.wal.clone()),
            tasks: Tasks::new(),
            begun: OnceLock::new(),
            shards: Arc::new(Slots::new()),
            config,
            clock,
            identity,
            bucket,
            calls,
            dispatch,
            address,
        })
    }

    pub(super) fn wal_dir(&self) -> PathBuf {
        self.config.wal_dir()
    }

    /// Calls about `shard`.
    pub(super) fn calls_about(&self, shard: ShardId) -> Option<Calls> {
        self.calls.as_ref().map(|calls| calls.about(shard))
    }

    /// How many shards there are to share with.
    pub(super) fn count(&self) -> u64 {
        (self.shards.iter().count() as u64).max(1)
    }

    /// A shard's share of `bytes`.
    pub(super) fn share(&self, bytes: u64) -> u64 {
        bytes / self.count()
    }

    /// Shares the memory of tails and the files that are kept ready out anew.
    pub(super) fn share_out(&self) {
        for (_, shard) in self.shards.iter() {
            shard.leader().set_shares(self.share(self.config.tail.memory), self.share(self.config.wal.spare));
        }
    }
}
