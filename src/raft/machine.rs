//! openraft's state machine over [`State`].
//!
//! The state sits behind a short lock; a view is a clone of it. An entry that cannot be decoded, a command of an unknown
//! kind and a panic in `apply` end the node: none of them is an answer, since replicas would come to different ones.
//! A snapshot is a checkpoint that was adopted: building one is saying which, and no method here talks to the bucket.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use futures::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::watch;

use super::acknowledged::Acknowledged;
use super::growth::Waiters;
use super::leadership::Leadership;
use super::meta::{MetaDir, Pointer};
use super::options::CheckpointFiles;
use super::types::{EncodedCommand, LogEntry, LogId, Member, Reply, StoredMembership, TypeConfig};
use super::wal::LogReader;
use crate::blocking;
use crate::failpoint;
use crate::format::command;
use crate::log_clock::LogClock;
use crate::model::{Answer, CheckpointRef, Command, Control, LogIndex};
use crate::planted::{self, Bug};
use crate::state::{STATE_VERSION, State};

type Meta = openraft::alias::SnapshotMetaOf<TypeConfig>;
type CheckpointSnapshotOf = openraft::alias::SnapshotOf<TypeConfig, CheckpointSnapshot>;

/// A snapshot on its way: the checkpoint's key, and on the receiver what its handler made of it.
#[derive(Clone)]
pub(crate) struct CheckpointSnapshot {
    pub(crate) reference: CheckpointRef,
    pub(crate) prepared: Option<Prepared>,
}

/// A checkpoint whose files are on the local disk, and the state that was restored from them: what is left of installing it
/// fails only with the disk.
#[derive(Clone)]
pub(crate) struct Prepared {
    pub(crate) files: Arc<CheckpointFiles>,
    pub(crate) state: State,
}

/// How far the log was applied.
#[derive(Debug)]
pub(crate) struct Position {
    pub(crate) applied: Option<LogId>,
    /// Ascending: the membership at the pointer, and those after it.
    pub(crate) memberships: Vec<StoredMembership>,
}

/// What openraft's state machine and the node's handle share.
pub(crate) struct Shared {
    state: RwLock<State>,
    position: Mutex<Position>,
    pointer: Mutex<Option<Pointer>>,
    applied: watch::Sender<LogIndex>,
    fatal: watch::Sender<Option<String>>,
    pub(crate) leadership: watch::Sender<Leadership>,
    /// This node is the only voter.
    pub(crate) alone: AtomicBool,
    /// Log time, once whoever opened the shard has made its clock.
    pub(crate) clock: OnceLock<Arc<LogClock>>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) meta: MetaDir,
    pub(crate) log: LogReader,
    pub(super) acknowledged: Acknowledged,
    /// See [`Shared::newest`].
    newest: AtomicU32,
}

impl Shared {
    /// The machine at `pointer`, or at the very beginning.
    pub(crate) fn new(state: State, pointer: Option<Pointer>, meta: MetaDir, log: LogReader) -> Self {
        let position = match &pointer {
            Some(pointer) => Position { applied: Some(pointer.last), memberships: vec![pointer.membership.clone()] },
            None => Position { applied: None, memberships: Vec::new() },
        };
        Self {
            applied: watch::Sender::new(state.applied()),
            state: RwLock::new(state),
            position: Mutex::new(position),
            pointer: Mutex::new(pointer),
            fatal: watch::Sender::new(None),
            leadership: watch::Sender::new(Leadership::default()),
            alone: AtomicBool::new(false),
            clock: OnceLock::new(),
            waiters: Arc::default(),
            meta,
            log,
            acknowledged: Acknowledged::default(),
            newest: AtomicU32::new(STATE_VERSION),
        }
    }

    /// The newest behaviour of `apply` that this node knows.
    pub(crate) fn newest(&self) -> u32 {
        self.newest.load(Ordering::Relaxed)
    }

    /// Has this node say and believe that it is of a build that knows another one.
    #[cfg(test)]
    pub(crate) fn pretend(&self, newest: u32) {
        self.newest.store(newest, Ordering::Relaxed);
    }

    /// Calls `f` with the state, beside other readers.
    ///
    /// # Panics
    /// If `apply` panicked: a state that was left halfway must not be seen.
    #[allow(clippy::expect_used, reason = "a panic in a task ends the process, and this one must")]
    pub(crate) fn with_state<R>(&self, f: impl FnOnce(&State) -> R) -> R {
        f(&self.state.read().expect("apply panicked, the state is not usable"))
    }

    /// See [`super::RaftNode::applied`].
    pub(crate) fn applied(&self) -> watch::Receiver<LogIndex> {
        self.applied.subscribe()
    }

    /// Says why the node can do no more, once there is something to say.
    pub(crate) fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.fatal.subscribe()
    }

    /// The last entry applied, of any kind.
    pub(crate) fn last_applied(&self) -> Option<LogId> {
        self.position().applied
    }

    /// The membership as of log index `index`.
    pub(crate) fn membership_at(&self, index: LogIndex) -> StoredMembership {
        let position = self.position();
        let at = |membership: &&StoredMembership| membership.log_id().is_none_or(|id| id.index <= index);
        position.memberships.iter().rev().find(at).cloned().unwrap_or_default()
    }

    /// What the newest membership that was applied says of a node.
    pub(crate) fn member(&self, node: u64) -> Option<Member> {
        let position = self.position();
        position.memberships.last().and_then(|membership| membership.membership().get_node(&node).cloned())
    }

    /// The checkpoint that a restart would begin with.
    pub(crate) fn pointer(&self) -> Option<Pointer> {
        self.pointer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes `files` and `pointer` to the local disk, durably, and makes them the current snapshot. One at a time: see
    /// `Inner::adopting`.
    pub(crate) async fn adopt(&self, files: Arc<CheckpointFiles>, pointer: Pointer) -> crate::error::Result<()> {
        let (meta, named) = (self.meta.clone(), pointer.clone());
        let forgets = planted::is(Bug::PurgeWithoutKeep);
        let writing = blocking::spawn(move || if forgets { Ok(()) } else { meta.adopt(&files, &named) });
        if !failpoint::skips("purge.await_pointer") {
            writing.await.map_err(|error| {
                crate::error::Error::internal("writing the local checkpoint panicked").with_source(error)
            })??;
        }
        self.position().forget_before(pointer.reference.index);
        *self.pointer.lock().unwrap_or_else(PoisonError::into_inner) = Some(pointer);
        Ok(())
    }

    /// Applies one entry; commands have an answer.
    pub(crate) fn apply(&self, entry: LogEntry) -> io::Result<Option<Answer>> {
        let index = entry.log_id.index;
        let answer = match entry.payload {
            EntryPayload::Normal(encoded) => Some(self.apply_command(index, &encoded)?),
            EntryPayload::Blank => {
                self.skip(index)?;
                None
            }
            EntryPayload::Membership(membership) => {
                self.skip(index)?;
                self.position().memberships.push(StoredMembership::new(Some(entry.log_id), membership));
                None
            }
        };
        self.position().applied = Some(entry.log_id);
        self.applied.send_replace(index);
        Ok(answer)
    }

    fn apply_command(&self, index: LogIndex, encoded: &EncodedCommand) -> io::Result<Answer> {
        #[cfg_attr(
            not(feature = "planted-bugs"),
            allow(unused_mut, reason = "only a planted bug changes what was logged")
        )]
        let mut logged = command::decode(&encoded.0)
            .map_err(|error| self.fail(format!("entry {index} of the log cannot be applied: {error}")))?;
        #[cfg(feature = "planted-bugs")]
        if let Some(clock) = self.clock.get().filter(|_| planted::is(Bug::WallClockInApply)) {
            logged.log_time = clock.wall();
        }
        // Applied, it would have this node decide other than those that know it.
        if let Command::Control(Control::RaiseVersion { version }) = logged.command
            && version > self.newest()
        {
            let newest = self.newest();
            return Err(self.fail(format!(
                "entry {index} of the log has the nodes behave as of version {version}, and this program knows versions up to \
                 {newest}: start this node with a newer one"
            )));
        }
        failpoint::hit("apply.entry").map_err(|error| self.fail(format!("entry {index} of the log: {error}")))?;
        let applied = std::panic::catch_unwind(AssertUnwindSafe(|| {
            self.state.write().map(|mut state| state.apply(index, &logged)).ok()
        }));
        let Ok(Some(applied)) = applied else {
            return Err(self.fail(format!("applying entry {index} of the log panicked")));
        };
        if let (Command::Control(Control::Flushed { index: flushed, .. }), Answer::Done) =
            (&logged.command, &applied.answer)
        {
            self.log.tail().evict(*flushed);
        }
        self.waiters.wake(&applied.grown);
        Ok(applied.answer)
    }

    fn skip(&self, index: LogIndex) -> io::Result<()> {
        let mut state = self.state.write().map_err(|_| self.fail("an earlier apply panicked".to_owned()))?;
        state.skip(index);
        Ok(())
    }

    fn fail(&self, why: String) -> io::Error {
        self.give_up(why.clone());
        io::Error::other(why)
    }

    /// The node can do no more, because of `why`.
    pub(crate) fn give_up(&self, why: String) {
        tracing::error!(error = %why, "the node stops");
        self.fatal.send_if_modified(|first| {
            let unset = first.is_none();
            if unset {
                *first = Some(why);
            }
            unset
        });
    }

    fn position(&self) -> MutexGuard<'_, Position> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot(&self) -> Option<CheckpointSnapshotOf> {
        self.pointer().map(|pointer| Snapshot {
            meta: SnapshotMeta { last_log_id: Some(pointer.last), last_membership: pointer.membership },
            snapshot: CheckpointSnapshot { reference: pointer.reference, prepared: None },
        })
    }
}

impl Position {
    /// Keeps the newest membership at or before `index` and all after it.
    fn forget_before(&mut self, index: LogIndex) {
        let after = self.memberships.partition_point(|held| held.log_id().is_none_or(|id| id.index <= index));
        self.memberships.drain(..after.saturating_sub(1));
    }
}

/// See the module.
pub(crate) struct Machine {
    pub(crate) shared: Arc<Shared>,
}

/// "Builds" the snapshot that was adopted.
pub(crate) struct Builder {
    shared: Arc<Shared>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = CheckpointSnapshot;

    async fn build_snapshot(&mut self) -> Result<CheckpointSnapshotOf, io::Error> {
        // openraft forces this at start-up when the log was purged and there is no snapshot. A checkpoint of the state
        // at hand would then be one of an empty state.
        self.shared.snapshot().ok_or_else(|| {
            self.shared.fail("the pointer to the local checkpoint is gone although the log was purged".to_owned())
        })
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = CheckpointSnapshot;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let position = self.shared.position();
        Ok((position.applied, position.memberships.last().cloned().unwrap_or_default()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        loop {
            let next = entries.try_next().await;
            let next = next.map_err(|error| self.shared.fail(format!("cannot read the log: {error}")))?;
            let Some((entry, responder)) = next else { return Ok(()) };
            let answer = self.shared.apply(entry)?;
            if let Some(responder) = responder {
                responder.send(Reply(answer));
            }
        }
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        (force || self.shared.pointer().is_some()).then(|| Builder { shared: Arc::clone(&self.shared) })
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { shared: Arc::clone(&self.shared) }
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: CheckpointSnapshot) -> Result<(), io::Error> {
        let fail = |why: String| self.shared.fail(format!("cannot install a checkpoint: {why}"));
        let (Some(prepared), Some(last)) = (snapshot.prepared, meta.last_log_id) else {
            return Err(fail("its files did not come with it".to_owned()));
        };
        #[cfg_attr(not(feature = "planted-bugs"), allow(unused_mut, reason = "only a planted bug changes it"))]
        let Prepared { files, mut state } = prepared;
        #[cfg(feature = "planted-bugs")]
        if planted::is(Bug::InstallKeepsTail) {
            self.shared.with_state(|old| state.keep_tails(old));
        }
        let membership = meta.last_membership.clone();
        let pointer = Pointer { reference: snapshot.reference, last, membership: membership.clone() };
        self.shared.adopt(files, pointer).await.map_err(|error| fail(error.to_string()))?;
        let applied = state.applied();
        *self.shared.state.write().map_err(|_| fail("an earlier apply panicked".to_owned()))? = state;
        *self.shared.position() = Position { applied: Some(last), memberships: vec![membership] };
        self.shared.log.tail().evict(applied);
        self.shared.applied.send_replace(applied);
        self.shared.waiters.wake_all();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<CheckpointSnapshotOf>, io::Error> {
        Ok(self.shared.snapshot())
    }
}
