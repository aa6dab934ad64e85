//! From a directory to a running node.
//!
//! Every step can be the last before a crash: nothing but a pointer or an entry makes a directory one that was begun, and
//! each start does again what an earlier one may have left undone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use openraft::storage::{RaftLogReader, RaftLogStorage};
use openraft::{Config, LogIdOptionExt, Raft, SnapshotPolicy};
use uuid::Uuid;

use super::files;
use super::leadership::{LEASE, Seen};
use super::machine::{Machine, Shared};
use super::members::MAX_VOTERS;
use super::meta::{MetaDir, Pointer};
use super::network::Network;
use super::options::{RaftOptions, Start, StartCheckpoint, WalPresence};
use super::types::{LogId, Member, Membership, StoredMembership, TypeConfig, Vote, log_id, term_of};
use super::wal::{LogOptions, LogStore};
use crate::blocking;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{NodeId, ShardId};
use crate::state::State;

/// How long a node may take to install a snapshot: it writes local files, which were fetched before.
const INSTALL_TIMEOUT_MS: u64 = 60_000;

/// Entries that a leader sends at a time, if they are small.
const MAX_PAYLOAD_ENTRIES: u64 = 1_024;
/// How long a leader waits before it calls a follower again that cannot be reached.
const BACKOFF: &str = "50ms,100ms,200ms...500ms";

/// A node that runs.
pub(super) struct Started {
    pub(super) raft: Raft<TypeConfig, Machine>,
    pub(super) shared: Arc<Shared>,
}

struct Dirs {
    log: PathBuf,
    meta: PathBuf,
}

impl Dirs {
    fn of(wal_dir: &Path, shard: ShardId) -> Self {
        let shard = wal_dir.join(format!("shard-{:05}", shard.0));
        Self { log: shard.join("log"), meta: shard.join("meta") }
    }

    fn create(wal_dir: &Path, shard: ShardId) -> Result<Self> {
        let dirs = Self::of(wal_dir, shard);
        for dir in [&dirs.log, &dirs.meta] {
            files::create_dirs(dir)
                .map_err(|error| Error::internal(format!("cannot create {}", dir.display())).with_source(error))?;
        }
        Ok(dirs)
    }
}

/// See [`super::RaftNode::has_directory`].
pub(super) fn has_directory(wal_dir: &Path, shard: ShardId) -> bool {
    crate::disk::is_dir(&Dirs::of(wal_dir, shard).log)
}

/// See [`super::RaftNode::presence`].
pub(super) fn presence(wal_dir: &Path, directory: Uuid, shard: ShardId) -> Result<WalPresence> {
    let dirs = Dirs::create(wal_dir, shard)?;
    if MetaDir::new(dirs.meta).pointer()?.is_some() {
        return Ok(WalPresence::Present);
    }
    // Nothing is appended, so no file is begun.
    let options = LogOptions { directory, tail_memory: 0, file_size: u64::MAX, spare: 0 };
    let (log, _) = LogStore::open(&dirs.log, options)?;
    Ok(match (log.is_empty().map_err(unreadable)?, log.has_voted().map_err(unreadable)?) {
        (false, _) => WalPresence::Present,
        (true, true) => WalPresence::Voted,
        (true, false) => WalPresence::Empty,
    })
}

/// See [`super::RaftNode::start`].
pub(super) async fn start(options: &RaftOptions) -> Result<Started> {
    let dirs = Dirs::create(&options.wal_dir, options.shard)?;
    let meta = MetaDir::new(dirs.meta);
    if let Some(why) = meta.lost()? {
        return Err(Error::new(ErrorKind::Conflict, "node_identity_mismatch", why).with_number("node", options.node.0));
    }
    let log_options = LogOptions {
        directory: options.directory,
        tail_memory: options.tail_memory,
        file_size: options.wal_file_size,
        spare: options.wal_spare,
    };
    let opening = move || LogStore::open(&dirs.log, log_options);
    let (mut log, _) = blocking(opening).await?;
    let mut pointer = meta.pointer()?;
    let empty = pointer.is_none() && log.is_empty().map_err(unreadable)?;
    match (&options.start, empty) {
        (Start::Wal, false) | (Start::Join, true) => {}
        (Start::New(members), true) => check_members(members, options)?,
        (Start::Checkpoint(checkpoint), true) => {
            pointer = Some(begin(&mut log, &meta, checkpoint, options).await?);
        }
        (Start::Wal, true) => {
            return Err(Error::internal("the write-ahead log is empty, there is nothing to start from"));
        }
        (Start::New(_) | Start::Join | Start::Checkpoint(_), false) => {
            return Err(Error::internal("the write-ahead log is not empty, a start from anything else would lose it"));
        }
    }
    let purged = log.get_log_state().await.map_err(unreadable)?.last_purged_log_id;
    check_pointer(pointer.as_ref(), purged)?;
    let state = match &pointer {
        Some(pointer) => {
            keep_votes_above(&mut log, pointer, options.node).await?;
            let (meta, reference) = (meta.clone(), pointer.reference);
            blocking(move || meta.restore(reference)).await?
        }
        None => State::new(options.shard, options.incarnation),
    };
    let shared = Arc::new(Shared::new(state, pointer, meta, log.reader()));
    replay(&shared, &mut log).await?;
    let raft = Box::pin(run(options, log, &shared)).await?;
    Ok(Started { raft, shared })
}

/// The purge comes after the pointer, so a pointer that is behind it is not the one that was there.
fn check_pointer(pointer: Option<&Pointer>, purged: Option<LogId>) -> Result<()> {
    match (pointer, purged) {
        (None, Some(purged)) => Err(Error::corrupt(format!(
            "the log was purged up to entry {} but the pointer to the local checkpoint is gone; \
             what it held is in the bucket: start from there with an empty directory",
            purged.index
        ))),
        (Some(pointer), Some(purged)) if pointer.reference.index < purged.index => Err(Error::corrupt(format!(
            "the local checkpoint is of entry {} but the log was purged up to entry {}",
            pointer.reference.index, purged.index
        ))),
        _ => Ok(()),
    }
}

/// Begins an empty WAL with a checkpoint: first the vote, so that no leader proposes below the checkpoint's term, then
/// the files and the pointer. The group is this node alone: whoever the checkpoint was of voted under other ids.
async fn begin(
    log: &mut LogStore,
    meta: &MetaDir,
    checkpoint: &StartCheckpoint,
    options: &RaftOptions,
) -> Result<Pointer> {
    let reference = checkpoint.files.reference;
    let last = log_id(checkpoint.term, reference.index);
    let pointer = Pointer { reference, last, membership: StoredMembership::new(Some(last), sole_member(options)?) };
    keep_votes_above(log, &pointer, options.node).await?;
    let (meta, files, written) = (meta.clone(), checkpoint.files.clone(), pointer.clone());
    blocking(move || meta.adopt(&files, &written)).await?;
    Ok(pointer)
}

/// Saves the vote (term + 1, self, uncommitted) unless a vote above the pointer's term is there. An empty node votes at
/// term 0, and a leader elected there would propose below its own snapshot.
async fn keep_votes_above(log: &mut LogStore, pointer: &Pointer, node: NodeId) -> Result<()> {
    let term = term_of(&pointer.last);
    let held = log.read_vote().await.map_err(unreadable)?;
    if held.is_some_and(|vote| vote.leader_id.term > term) {
        return Ok(());
    }
    // In normal operation the vote is at the term of the newest entry at least; only a begun start lacks it.
    if held.is_some_and(|vote| vote.leader_id.term == term) && !log.is_empty().map_err(unreadable)? {
        return Ok(());
    }
    log.save_vote(&Vote::new(term + 1, node.0)).await.map_err(unreadable)
}

fn sole_member(options: &RaftOptions) -> Result<Membership> {
    let member = Member { address: options.advertise.clone(), directory: options.directory };
    Membership::new(vec![[options.node.0].into()], BTreeMap::from([(options.node.0, member)]))
        .map_err(|error| Error::internal("a group of one cannot be described").with_source(error))
}

/// Applies what is known to be committed, a few megabytes at a time. openraft would do it too, with 64 entries in memory
/// however large they are.
async fn replay(shared: &Shared, log: &mut LogStore) -> Result<()> {
    let Some(committed) = log.read_committed().await.map_err(unreadable)? else { return Ok(()) };
    let mut next = shared.last_applied().next_index();
    let reader = log.reader();
    while next <= committed.index {
        let entries = reader.entries(next, committed.index + 1).await.map_err(unreadable)?;
        if entries.first().is_none_or(|entry| entry.log_id.index != next) {
            return Err(Error::corrupt(format!("entry {next} is missing from the write-ahead log")));
        }
        next += entries.len() as u64;
        for entry in entries {
            shared.apply(entry).map_err(|error| {
                Error::corrupt("the write-ahead log holds an entry that cannot be applied").with_source(error)
            })?;
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn run(options: &RaftOptions, log: LogStore, shared: &Arc<Shared>) -> Result<Raft<TypeConfig, Machine>> {
    let machine = Machine { shared: Arc::clone(shared) };
    let failed = |error: &dyn std::error::Error| Error::internal(format!("cannot start raft: {error}"));
    let config = Arc::new(config(options)?);
    let network = Network::new(options, Arc::clone(shared));
    let starting = Box::pin(Raft::new(options.node.0, config, network, log, machine));
    let raft = starting.await.map_err(|error| failed(&error))?;
    if let Start::New(members) = &options.start {
        let members: BTreeMap<u64, Member> = members.iter().map(|(id, member)| (id.0, member.clone())).collect();
        raft.initialize(members).await.map_err(|error| failed(&error))?;
    }
    let alone = Seen::of(&raft, options.node.0).await.map_err(|error| failed(&error))?.alone;
    shared.alone.store(alone, Ordering::Release);
    if alone && !matches!(options.start, Start::New(_)) {
        // Nobody else can lead: there is no timeout to wait for.
        raft.trigger().elect(false).await.map_err(|error| failed(&error))?;
    }
    Ok(raft)
}

/// A group that is begun has this node among its voters, no directory twice, and no more voters than a group may have.
fn check_members(members: &BTreeMap<NodeId, Member>, options: &RaftOptions) -> Result<()> {
    let refused = |why: String| Err(Error::invalid("invalid_members", why));
    if members.len() > MAX_VOTERS {
        return refused(format!("a group has at most {MAX_VOTERS} voters, {} were given", members.len()));
    }
    if members.get(&options.node).is_none_or(|own| own.directory != options.directory) {
        return refused(format!("node {} is not among the members of the group that it begins", options.node));
    }
    let directories: BTreeSet<Uuid> = members.values().map(|member| member.directory).collect();
    if directories.len() != members.len() {
        return refused("two members of the group have the same directory".to_owned());
    }
    if members.len() > 1 && members.values().any(|member| member.address.is_empty()) {
        return refused("every member of a group of several needs the address of its peer listener".to_owned());
    }
    Ok(())
}

fn config(options: &RaftOptions) -> Result<Config> {
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let election = millis(options.election_timeout);
    let config = Config {
        cluster_name: format!("tidelog-{}", options.shard),
        // A follower waits for the lease, which is the longest timeout, and then for a random one. The lease alone keeps it from
        // taking a leader that lives for a dead one: what is random only keeps candidates apart, and may begin sooner. openraft
        // gives up a vote after the shortest one, and a voter answers after a sync: less would leave slow disks without a leader.
        election_timeout_min: (election / 2).max(millis(options.heartbeat) + 1),
        election_timeout_max: election.saturating_mul(LEASE.into()),
        heartbeat_interval: millis(options.heartbeat),
        install_snapshot_timeout: INSTALL_TIMEOUT_MS,
        // Flushes decide when there is a checkpoint, and the node then how much of the log goes.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        purge_batch_size: 1,
        // Bounded in bytes by what the log's reader returns.
        max_payload_entries: MAX_PAYLOAD_ENTRIES,
        backoff: BACKOFF.to_owned(),
        enable_pre_vote: Some(true),
        broadcast_submitted_on_append: Some(true),
        // A restarted leader elects itself anew: its log may have lost an unsynced tail.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map_err(|error| Error::invalid("invalid_settings", format!("raft's settings: {error}")))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    blocking::spawn(work)
        .await
        .map_err(|error| Error::internal("opening the write-ahead log panicked").with_source(error))?
}

fn unreadable(error: std::io::Error) -> Error {
    let kind = error.kind();
    let build = if kind == std::io::ErrorKind::InvalidData { Error::corrupt } else { Error::internal };
    build("the write-ahead log cannot be used".to_owned()).with_source(error)
}
