//! Answers the calls of peers: greetings from the first moment, everything else once the shard that it is about is there.
//!
//! Before the first message that raft could acknowledge, and before this node serves clients, `node.json` says durably that
//! this directory was open, and before another shard is begun, that it was: if its log is gone after that, it was lost.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::admin::{self, ADMIN};
use super::archive_requests::{self, ARCHIVE, ARCHIVE_REQUESTS};
use super::hello::{HELLO, Hello, Known};
use super::members::Members;
use super::network::Calls;
use super::profile::{OwnProfile, PROFILE};
use crate::archive::Requests;
use crate::error::{Error, ErrorKind, Result};
use crate::flush::FlushHandle;
use crate::model::catalog::{CATALOG_SHARD, MAX_SHARDS};
use crate::model::{LogIndex, NodeId, ShardId};
use crate::peer::{CallError, Caller, PeerHandler};
use crate::raft::{NodeIdentity, PeerAddress, RaftNode, kind};

/// Asks the leader to flush up to the log index that is the body (8 bytes, little endian); the answer is empty.
const FLUSH: u8 = 32;
/// How long the leader may take to answer that.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

/// See the module; clones share it.
#[derive(Clone)]
pub(super) struct Dispatch(Arc<Inner>);

struct Inner {
    wal_dir: PathBuf,
    profile: OwnProfile,
    /// Held while `node.json` is written.
    writing: tokio::sync::Mutex<()>,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    identity: Option<NodeIdentity>,
    /// Its directory has no log.
    fresh: bool,
    serving: BTreeMap<ShardId, Serving>,
}

/// What answers once the shard is there.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) node: RaftNode,
    pub(super) flush: FlushHandle,
    pub(super) archive_requests: Requests,
    pub(super) members: Members,
}

impl Dispatch {
    /// Knows nothing yet.
    pub(super) fn new(wal_dir: PathBuf, profile: OwnProfile) -> Self {
        Self(Arc::new(Inner { wal_dir, profile, writing: tokio::sync::Mutex::default(), now: Mutex::default() }))
    }

    /// What this node says of itself.
    pub(super) fn profile(&self) -> &OwnProfile {
        &self.0.profile
    }

    /// From now on it answers greetings as `identity`; `fresh` if it has no log.
    pub(super) fn begin(&self, identity: NodeIdentity, fresh: bool) {
        let mut now = self.0.now();
        (now.identity, now.fresh) = (Some(identity), fresh);
    }

    /// From now on it answers everything about the shard of `serving`.
    pub(super) fn serve(&self, serving: Serving) {
        self.0.now().serving.insert(serving.node.shard(), serving);
    }

    /// Returns once `node.json` says that the directory was open.
    ///
    /// # Errors
    /// That it cannot be written.
    pub(super) async fn opened(&self) -> Result<()> {
        self.0.opened().await
    }

    /// Returns once `node.json` says that `shard`, another one than the first, was begun here; its directory has to be there.
    ///
    /// # Errors
    /// That it cannot be written.
    pub(super) async fn begun(&self, shard: ShardId) -> Result<()> {
        self.0
            .amend(move |identity| {
                if let Err(place) = identity.shards.binary_search(&shard) {
                    identity.shards.insert(place, shard);
                }
            })
            .await
    }

    /// Whether `shard`, another one than the first, was begun here.
    pub(super) fn has_begun(&self, shard: ShardId) -> bool {
        self.0.now().identity.as_ref().is_some_and(|identity| identity.shards.contains(&shard))
    }

    /// Answers nothing any more, and lets the node go.
    pub(super) fn stop(&self) {
        *self.0.now() = Now::default();
    }
}

impl PeerHandler for Dispatch {
    fn handle(&self, caller: Caller, shard: ShardId, kind: u8, body: Bytes) -> BoxFuture<'static, Result<Vec<Bytes>>> {
        let inner = Arc::clone(&self.0);
        async move { inner.answer(caller, shard, kind, body).await }.boxed()
    }
}

impl Inner {
    async fn answer(self: &Arc<Self>, caller: Caller, shard: ShardId, kind: u8, body: Bytes) -> Result<Vec<Bytes>> {
        if shard.0 >= MAX_SHARDS {
            return Err(Error::new(ErrorKind::NotFound, "shard_not_found", format!("there is no shard {shard} here")));
        }
        match kind {
            HELLO => return Ok(vec![self.hello()?.encode()?]),
            PROFILE => return Ok(vec![self.profile.now().encode()?]),
            _ => {}
        }
        // One that was just added may not be here yet.
        let serving = self.now().serving.get(&shard).cloned().ok_or_else(|| not_here(shard, kind))?;
        match kind {
            FLUSH => flush(&serving, caller, &body).map(|()| Vec::new()),
            ARCHIVE => {
                check_member(&serving, caller)?;
                archive_requests::told(&serving.node, &serving.archive_requests, &body).map(|()| Vec::new())
            }
            ARCHIVE_REQUESTS => {
                check_member(&serving, caller)?;
                serving.node.with_state(|state| drop(serving.archive_requests.open(state)));
                archive_requests::answer(&serving.archive_requests).map(|body| vec![body])
            }
            ADMIN => {
                self.check_known(&serving, caller)?;
                let request = admin::Request::decode(&body)?;
                if let admin::Request::Moved { node, .. } = &request
                    && *node != caller.node
                {
                    return Err(Error::invalid("peer_message", "a node says where another one is"));
                }
                let answer = serving.members.run_here(request).await?;
                Ok(vec![admin::encode_status(&answer)?])
            }
            kind => {
                if may_acknowledge(kind) && caller.node != NodeId::GATEWAY {
                    self.opened().await?;
                }
                serving.node.handle(caller.node, caller.directory, kind, body).await
            }
        }
    }

    fn hello(&self) -> Result<Hello> {
        let (identity, fresh, serving) = {
            let now = self.now();
            (now.identity.clone().ok_or_else(starting)?, now.fresh, now.serving.get(&CATALOG_SHARD).cloned())
        };
        let (node, directory) = (identity.node, identity.directory);
        let Some(serving) = serving else {
            // What its log knows of the members it cannot say yet.
            return if fresh {
                Ok(Hello { node, directory, empty: true, members: Vec::new() })
            } else {
                Err(starting())
            };
        };
        let members: Vec<Known> = serving
            .node
            .members()
            .into_iter()
            .map(|member| Known { node: member.node, directory: member.directory, address: member.address })
            .collect();
        let status = serving.node.status();
        let empty = members.is_empty() && status.last_log == 0 && status.checkpoint.is_none();
        Ok(Hello { node, directory, empty, members })
    }

    /// Says on disk that the directory was open, once.
    async fn opened(self: &Arc<Self>) -> Result<()> {
        // Asked with every message of a leader.
        if self.now().identity.as_ref().is_some_and(|identity| identity.opened) {
            return Ok(());
        }
        self.amend(|identity| identity.opened = true).await
    }

    /// Changes what `node.json` says, on disk first. It goes on when whoever asked has gone, such as a leader whose message is
    /// overdue: two that write at a time would spoil each other's file.
    async fn amend(self: &Arc<Self>, change: impl FnOnce(&mut NodeIdentity) + Send + 'static) -> Result<()> {
        let inner = Arc::clone(self);
        let amending = tokio::spawn(async move { inner.amend_in_turn(change).await });
        amending.await.map_err(|error| Error::internal("writing node.json ended").with_source(error))?
    }

    async fn amend_in_turn(&self, change: impl FnOnce(&mut NodeIdentity)) -> Result<()> {
        let _one_at_a_time = self.writing.lock().await;
        let known = self.now().identity.clone().ok_or_else(starting)?;
        let mut identity = known.clone();
        change(&mut identity);
        if identity == known {
            return Ok(());
        }
        let (dir, written) = (self.wal_dir.clone(), identity.clone());
        let saving = crate::blocking::spawn(move || written.save(&dir));
        saving.await.map_err(|error| Error::internal("writing node.json panicked").with_source(error))??;
        let mut now = self.now();
        // None once this node has stopped.
        if now.identity.is_some() {
            now.identity = Some(identity);
        }
        Ok(())
    }

    /// Whoever is a member of the shard, or of the first one, which says who is to be one of all.
    fn check_known(&self, serving: &Serving, caller: Caller) -> Result<()> {
        let zero = self.now().serving.get(&CATALOG_SHARD).cloned();
        match zero.filter(|zero| is_member(zero, caller)) {
            Some(_) => Ok(()),
            None => check_member(serving, caller),
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether raft may write something down because of it that a lost log would make a lie. A pre-vote it forgets at once.
const fn may_acknowledge(kind: u8) -> bool {
    matches!(kind, kind::APPEND | kind::VOTE | kind::SNAPSHOT)
}

/// Asks the node at `leader` to flush up to `index`.
pub(super) async fn ask_flush(calls: &Calls, leader: &PeerAddress, index: LogIndex) -> Result<()> {
    let body = index.to_le_bytes().to_vec().into();
    calls.call(leader, FLUSH, body, FLUSH_DEADLINE).await.map(drop).map_err(CallError::into_error)
}

fn flush(serving: &Serving, caller: Caller, body: &[u8]) -> Result<()> {
    check_member(serving, caller)?;
    let bytes = body.try_into().map_err(|_| Error::invalid("peer_message", "a peer's flush names no log index"))?;
    if !serving.node.leadership().borrow().is_leader {
        return Err(Error::new(ErrorKind::NotLeader, "not_leader", "this node does not lead the shard"));
    }
    // Nothing that is not there yet can be flushed, or would have to be for ever.
    let applied = serving.node.with_state(|state| state.applied());
    serving.flush.request(LogIndex::from_le_bytes(bytes).min(applied));
    Ok(())
}

/// Only members of the group have something to say about it, and gateways, on behalf of whoever asks them.
fn check_member(serving: &Serving, caller: Caller) -> Result<()> {
    if is_member(serving, caller) {
        return Ok(());
    }
    // Whoever asked it for this may ask another node: one that was taken out is told last, or not at all.
    let message = format!("node {} is not a member of this cluster", caller.node);
    Err(Error::new(ErrorKind::Unavailable, "not_a_member", message).with_number("node", caller.node.0))
}

fn is_member(serving: &Serving, caller: Caller) -> bool {
    if caller.node == NodeId::GATEWAY {
        return true;
    }
    let members = serving.node.members();
    members.iter().any(|member| member.node == caller.node && member.directory == caller.directory)
}

/// Whoever looks for the leader of a shard that was just added goes on looking.
fn not_here(shard: ShardId, kind: u8) -> Error {
    if kind == ADMIN && shard != CATALOG_SHARD {
        return Error::new(ErrorKind::NotLeader, "not_leader", format!("shard {shard} is not open here yet"));
    }
    starting()
}

fn starting() -> Error {
    Error::unavailable("this node is starting")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::Incarnation;

    #[tokio::test]
    async fn what_is_written_down_for_somebody_who_has_gone_is_written_all_the_same_and_in_turn() {
        let dir = tempfile::tempdir().unwrap();
        let identity = NodeIdentity::new("a", Incarnation(1), NodeId(1));
        identity.save(dir.path()).unwrap();
        let dispatch = Dispatch::new(dir.path().to_owned(), OwnProfile::new(Vec::new()));
        dispatch.begin(identity, true);
        for shard in 1..20 {
            let mut gone = Box::pin(dispatch.begun(ShardId(shard)));
            assert!(futures::poll!(&mut gone).is_pending());
        }
        dispatch.opened().await.unwrap();
        let written = NodeIdentity::load(dir.path()).unwrap().unwrap();
        assert_eq!(written.shards, (1..20).map(ShardId).collect::<Vec<_>>());
        assert!(written.opened);
    }
}
