//! The handle of one shard's Raft node.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use openraft::Raft;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use tokio::sync::{Mutex, RwLock, watch};
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::error::ProposeError;
use super::growth::Growth;
use super::leadership::{self, Leadership};
use super::machine::{Machine, Shared};
use super::options::{RaftOptions, WalPresence};
use super::peers::{self, Peers};
use super::propose::AppendGate;
use super::read::Rounds;
use super::start;
use super::transport::{CheckpointSource, PeerAddress, Transport, TransportError};
use super::types::{EncodedCommand, Member, Reply, TypeConfig, term_of};
use super::wal::WalPayload;
use crate::blocking;
use crate::error::{Error, Result};
use crate::format::command::MAX_COMMAND_BYTES;
use crate::model::{Answer, LogIndex, NodeId, ShardId, TopicPartition};
use crate::planted::{self, Bug};
use crate::state::State;

/// How long a node that stops waits for a checkpoint that it is taking over.
const ADOPTING_PATIENCE: Duration = Duration::from_secs(1);

/// A Raft node of one shard; clones share it.
///
/// All methods may be cancelled by dropping their futures; a proposal that was dropped may still be written.
#[derive(Clone)]
pub struct RaftNode {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) raft: Raft<TypeConfig, Machine>,
    pub(super) shared: Arc<Shared>,
    pub(super) shard: ShardId,
    pub(super) node: NodeId,
    pub(super) directory: Uuid,
    pub(super) advertise: String,
    pub(super) election_timeout: Duration,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) checkpoints: Arc<dyn CheckpointSource>,
    pub(super) wal_keep: AtomicU64,
    /// One adoption at a time, also of what a leader sends: they write the same files.
    pub(super) adopting: Arc<Mutex<()>>,
    /// Questions of this node's reads, whoever is asked.
    pub(super) rounds: Rounds,
    /// Questions that this node answers as the leader.
    pub(super) own_rounds: Rounds,
    pub(super) peers: Peers,
    pub(super) gate: AppendGate,
    /// One change of the membership at a time.
    pub(super) changing: Mutex<()>,
    /// Shared by the proposals that are under way here as the leader's, held alone while leadership is handed over.
    pub(super) proposing: RwLock<()>,
    tasks: OnceLock<[AbortHandle; 2]>,
    stopping: AtomicBool,
}

impl Inner {
    /// The WAL directory under which the membership knows `node`.
    pub(super) fn directory_of(&self, node: NodeId) -> Option<Uuid> {
        self.member(node).map(|member| member.directory)
    }

    /// Where the membership says that `node` is; `None` if it does not know it, or not where.
    pub(super) fn address_of(&self, node: NodeId) -> Option<PeerAddress> {
        let Member { address, directory } = self.member(node)?;
        (!address.is_empty()).then_some(PeerAddress { node, directory, address })
    }

    /// What the membership that counts now, committed or not, says of `node`.
    fn member(&self, node: NodeId) -> Option<Member> {
        let metrics = self.raft.server_metrics();
        let membership = Arc::clone(&metrics.borrow_watched().membership_config);
        membership.membership().get_node(&node.0).cloned()
    }

    /// Calls the peer `node`.
    pub(super) async fn call(
        &self,
        node: NodeId,
        kind: u8,
        body: Vec<Bytes>,
        deadline: Duration,
    ) -> Result<Bytes, TransportError> {
        let Some(address) = self.address_of(node) else {
            let message = format!("node {node} is not a member of the group, or has no address");
            return Err(TransportError::NotSent(Error::unavailable(message)));
        };
        self.transport.call(&address, kind, body, deadline).await
    }
}

impl Inner {
    fn abort_tasks(&self) {
        self.tasks.get().into_iter().flatten().for_each(AbortHandle::abort);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.abort_tasks();
    }
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RaftStatus {
    /// The term it is in.
    pub term: u64,
    /// Who leads, if that is known.
    pub leader: Option<NodeId>,
    /// Whether this node leads.
    pub is_leader: bool,
    /// The last entry of the log.
    pub last_log: LogIndex,
    /// The last entry that is known to be committed.
    pub committed: LogIndex,
    /// The last entry that was applied, of any kind.
    pub applied: LogIndex,
    /// The index of the checkpoint that the local pointer names.
    pub checkpoint: Option<LogIndex>,
    /// Entries up to this one are gone from the log.
    pub purged: Option<LogIndex>,
    /// Bytes of the log's files.
    pub wal_bytes: u64,
    /// Bytes in the tail cache.
    pub tail_bytes: u64,
}

impl RaftNode {
    /// What `wal_dir` holds of `shard`. Creates directories that are missing and cuts a torn tail of the log, nothing else.
    ///
    /// # Errors
    /// `corrupt` if what was acknowledged is damaged.
    pub fn presence(wal_dir: &Path, directory: Uuid, shard: ShardId) -> Result<WalPresence> {
        start::presence(wal_dir, directory, shard)
    }

    /// Whether `wal_dir` has a directory of `shard`, whatever is in it.
    #[must_use]
    pub fn has_directory(wal_dir: &Path, shard: ShardId) -> bool {
        start::has_directory(wal_dir, shard)
    }

    /// Opens the shard and starts its node. What the log knows to be committed is applied when this returns; what only a
    /// new leader can commit is once [`RaftNode::ready`] returned.
    ///
    /// # Errors
    /// `corrupt` if what was acknowledged is damaged; `internal` if the directory cannot be used or holds something
    /// else than `options.start` says.
    pub async fn start(options: RaftOptions) -> Result<Self> {
        // Large: kept off the stacks of all who open.
        let start::Started { raft, shared } = Box::pin(start::start(&options)).await?;
        let inner = Arc::new(Inner {
            shard: options.shard,
            node: options.node,
            directory: options.directory,
            advertise: options.advertise,
            election_timeout: options.election_timeout,
            transport: options.transport,
            checkpoints: options.checkpoints,
            wal_keep: AtomicU64::new(options.wal_keep),
            adopting: Arc::default(),
            rounds: Rounds::default(),
            own_rounds: Rounds::default(),
            peers: Peers::default(),
            gate: AppendGate::default(),
            changing: Mutex::default(),
            proposing: RwLock::default(),
            tasks: OnceLock::new(),
            stopping: AtomicBool::new(false),
            raft,
            shared,
        });
        let shared = Arc::clone(&inner.shared);
        let asking = peers::watch(Arc::downgrade(&inner), shared.leadership.subscribe());
        let following = leadership::follow(inner.raft.clone(), shared, inner.node.0);
        inner.tasks.get_or_init(|| [tokio::spawn(following).abort_handle(), tokio::spawn(asking).abort_handle()]);
        Ok(Self { inner })
    }

    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.inner.shard
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.inner.node
    }

    /// Who leads, and whether this node does.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.shared.leadership.subscribe()
    }

    /// Sets how many bytes of the log the next purges leave (`wal.keep`).
    pub fn set_wal_keep(&self, bytes: u64) {
        self.inner.wal_keep.store(bytes, Ordering::Relaxed);
    }

    /// Sets the bytes of recent entries that are kept in memory, and of files that are kept ready for the log: a node shares both
    /// out among its shards.
    pub fn set_shares(&self, tail: u64, spare: u64) {
        self.inner.shared.log.tail().set_budget(tail);
        self.inner.shared.log.set_spare(spare);
    }

    /// Returns once this node has applied an entry of the current term: then there is a leader, and all that any log
    /// held before it is applied. Waits without end: put a deadline around it.
    pub async fn ready(&self) {
        let mut metrics = self.inner.raft.metrics();
        let led = |metrics: &openraft::RaftMetrics<TypeConfig>| {
            let applied = metrics.last_applied.as_ref().map(term_of);
            metrics.current_leader.is_some() && applied == Some(metrics.current_term)
        };
        if metrics.wait_until(led).await.is_err() {
            // The node has stopped, which `fatal` reports; it will never be ready.
            std::future::pending::<()>().await;
        }
    }

    /// Proposes an encoded command and returns what `apply` answered.
    ///
    /// # Errors
    /// See [`ProposeError`]: what was written differs.
    pub async fn propose(&self, command: Bytes) -> Result<(LogIndex, Answer), ProposeError> {
        if command.len() > MAX_COMMAND_BYTES {
            return Err(ProposeError::TooLarge { bytes: command.len(), limit: MAX_COMMAND_BYTES });
        }
        #[cfg(feature = "planted-bugs")]
        let guessed = self.guess(&command);
        // The convenience `forward_to_leader()` takes a discarded entry for one that was never written: match instead.
        match self.inner.raft.client_write(EncodedCommand(command)).await {
            Ok(written) => match written.data {
                #[cfg(feature = "planted-bugs")]
                Reply(Some(_)) if guessed.is_some() => {
                    let guessed = guessed.unwrap_or(Answer::Done);
                    Ok((written.log_id.index, guessed))
                }
                Reply(Some(answer)) => Ok((written.log_id.index, answer)),
                Reply(None) => Err(ProposeError::Fatal("a command was applied without an answer".to_owned())),
            },
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(ProposeError::NotWritten { leader: forward.leader_id.map(NodeId) })
            }
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)))
                if planted::is(Bug::DiscardedIsForwarded) =>
            {
                Err(ProposeError::NotWritten { leader: None })
            }
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => Err(ProposeError::Unknown),
            // Of other requests than this one.
            Err(RaftError::APIError(
                error @ (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_)),
            )) => Err(ProposeError::Fatal(error.to_string())),
            Err(RaftError::Fatal(fatal)) => Err(ProposeError::Fatal(fatal.to_string())),
        }
    }

    /// What an append would be answered if nothing were in flight before it.
    #[cfg(feature = "planted-bugs")]
    fn guess(&self, command: &Bytes) -> Option<Answer> {
        let logged = crate::format::command::decode(command).ok().filter(|_| planted::is(Bug::OffsetAtPropose))?;
        let mut state = self.view();
        let applied = state.apply(state.applied() + 1, &logged).answer;
        matches!(&applied, Answer::Appended(all) if all.iter().all(Result::is_ok)).then_some(applied)
    }

    /// The state as it is now; it never changes. A short lock and a few pointers.
    #[must_use]
    pub fn view(&self) -> State {
        self.inner.shared.with_state(State::clone)
    }

    /// Calls `f` with the state. `apply` waits for it: for a few look-ups, anything longer takes a [`RaftNode::view`].
    pub fn with_state<R>(&self, f: impl FnOnce(&State) -> R) -> R {
        self.inner.shared.with_state(f)
    }

    /// The last applied log index; each value is visible in the state when it is seen here.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<LogIndex> {
        self.inner.shared.applied()
    }

    /// Subscribes to the growth of the high watermarks of `partitions`. Look at the state after subscribing, then wait:
    /// nothing is missed. Dropping the subscription forgets it.
    ///
    /// # Errors
    /// `overloaded` if too many wait.
    pub fn watch_growth(&self, partitions: &[TopicPartition]) -> Result<Growth> {
        self.inner.shared.waiters.subscribe(partitions)
    }

    /// The encoded command of entry `index`, from the tail cache or else the log on disk; `None` if the log does not
    /// have it (any more), or if the entry is no command: make the plan again.
    ///
    /// # Errors
    /// `corrupt` if the entry's checksum is wrong, `internal` if it cannot be read.
    pub async fn read_entry(&self, index: LogIndex) -> Result<Option<Bytes>> {
        match self.inner.shared.log.entry(index).await {
            Ok(Some((_, WalPayload::Command(bytes)))) => Ok(Some(bytes)),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Err(Error::corrupt(format!("entry {index} of the write-ahead log is damaged")).with_source(error))
            }
            Err(error) => {
                Err(Error::internal(format!("entry {index} of the write-ahead log cannot be read")).with_source(error))
            }
        }
    }

    /// Bytes of the log's files.
    #[must_use]
    pub fn wal_bytes(&self) -> u64 {
        self.inner.shared.log.wal_bytes()
    }

    /// Bytes of files that are kept ready for the log; not in [`RaftNode::wal_bytes`].
    #[must_use]
    pub fn spare_bytes(&self) -> u64 {
        self.inner.shared.log.spare_bytes()
    }

    /// Gives the disk back what [`RaftNode::spare_bytes`] takes, soon, and keeps nothing ready for some seconds.
    pub fn release_spares(&self) {
        self.inner.shared.log.release_spares();
    }

    /// What the node says of itself.
    #[must_use]
    pub fn status(&self) -> RaftStatus {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        RaftStatus {
            term: metrics.current_term,
            leader: metrics.current_leader.map(NodeId),
            is_leader: metrics.current_leader == Some(metrics.id),
            last_log: metrics.last_log_index.unwrap_or(0),
            committed: metrics.local_committed.map_or(0, |id| id.index),
            applied: *self.inner.shared.applied().borrow(),
            checkpoint: self.inner.shared.pointer().map(|pointer| pointer.reference.index),
            purged: metrics.purged.map(|id| id.index),
            wal_bytes: self.wal_bytes(),
            tail_bytes: self.inner.shared.log.tail().bytes(),
        }
    }

    /// Returns what went wrong once the node can do no more: a panic in `apply`, a damaged entry, a failed write. Never
    /// returns because of [`RaftNode::shutdown`]. The process has to end then; a restart is the recovery.
    pub async fn fatal(&self) -> String {
        let mut applying = self.inner.shared.fatal();
        // The metrics with the reason change with every entry, which would wake whoever waits here for each; these
        // change with elections, and end with the core.
        let mut elections = self.inner.raft.server_metrics();
        let ended = async { while elections.changed().await.is_ok() {} };
        let why = tokio::select! {
            biased;
            Ok(why) = applying.wait_for(Option::is_some) => why.clone().unwrap_or_default(),
            () = ended => match &self.inner.raft.metrics().borrow_watched().running_state {
                Ok(()) => "raft has stopped".to_owned(),
                Err(fatal) => fatal.to_string(),
            },
        };
        if self.inner.stopping.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
        // The cause, if both are there.
        let first = self.inner.shared.fatal().borrow().clone();
        first.unwrap_or(why)
    }

    /// Stops the node, writes what is pending and closes its log; the directory can then be opened again.
    pub async fn shutdown(&self) {
        self.inner.stopping.store(true, Ordering::Release);
        self.inner.abort_tasks();
        leadership::end(&self.inner.shared);
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop in order");
        }
        // It writes beside the log; what it waits for besides may take longer.
        let _ = tokio::time::timeout(ADOPTING_PATIENCE, self.inner.adopting.lock()).await;
        let log = self.inner.shared.log.clone();
        if blocking::spawn(move || log.close()).await.is_err() {
            tracing::error!("closing the write-ahead log panicked");
        }
        #[cfg(feature = "simulation")]
        self.inner.shared.log.ended().await;
    }
}
