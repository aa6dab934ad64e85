//! What the leader of a shard does to its members.
//!
//! Operators change the first shard, and its leader has every other shard have the same members: at once, and again and again
//! where a change broke off (`match_others`). A node is taken in as a learner first and votes once it has caught up, and no voter
//! goes unless enough of the others answer.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use tokio::time::Instant;

use super::admin::{Request, Seat};
use super::hello::Hello;
use super::members::Inner;
use super::network::Calls;
use crate::config::is_host_and_port;
use crate::error::{Error, ErrorKind, Result};
use crate::model::catalog::CATALOG_SHARD;
use crate::model::{LogIndex, NodeId, ShardId};
use crate::raft::{self, MAX_VOTERS, Member};

/// How long a node that is to be taken in is asked who it is.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);
/// Between two greetings.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one request waits for a node to catch up; whoever asked may ask again.
const CATCH_UP: Duration = Duration::from_secs(60);
/// How far behind a learner may be when it begins to vote: what it lacks is sent within the time of an election.
const VOTER_LAG: LogIndex = 100;

impl Inner {
    pub(super) async fn change(&self, request: Request) -> Result<()> {
        let leadership = *self.node.leadership().borrow();
        if !leadership.is_leader {
            return Err(not_leader());
        }
        match request {
            Request::Status => Ok(()),
            Request::Add { node, address } => self.add(node, address).await,
            Request::Remove { node } => self.remove(node).await,
            Request::Replace { old, new, address } => self.replace(old, new, address).await,
            Request::Transfer { to } => self.transfer(to).await,
            Request::Moved { node, address } => self.moved(node, address).await,
            Request::Match { seats } => self.match_seats(&seats).await,
        }
    }

    /// Has every other shard have the members of this one, which is the first.
    pub(super) fn match_others(&self) -> BoxFuture<'_, Result<()>> {
        async move {
            // What a node that was deposed knows must not be what counts, nor what is answered.
            self.node.linearize().await?;
            let Some(shards) = self.shards.upgrade() else { return Ok(()) };
            if shards.iter().count() < 2 {
                return Ok(());
            }
            if self.node.is_changing() {
                return Err(Error::unavailable("the members are being changed"));
            }
            let seats = self.seats();
            let others = shards.iter().filter(|(shard, _)| *shard != CATALOG_SHARD).map(|(shard, other)| {
                let request = Request::Match { seats: seats.clone() };
                async move { other.members().run(request).await.map_err(|error| of_shard(shard, &error)) }
            });
            join_all(others).await.into_iter().try_for_each(|done| done.map(drop))
        }
        .boxed()
    }

    /// Makes `seats` the members of this shard.
    async fn match_seats(&self, seats: &[Seat]) -> Result<()> {
        // Between the two steps of a change the members look as they do after it.
        self.node.end_change().await?;
        for seat in seats {
            let known = self.member(seat.node);
            if known.as_ref().is_some_and(|known| known.directory != seat.directory) {
                let node = seat.node;
                return Err(mismatch(node, format!("node {node} is a member of the shard with another directory")));
            }
            let same = known.is_some_and(|known| known.address == seat.address);
            // A sole node may have no listener.
            if !same && !seat.address.is_empty() {
                let member = Member { address: seat.address.clone(), directory: seat.directory };
                self.node.add_learner(seat.node, member).await?;
            }
        }
        let voters: BTreeSet<NodeId> = seats.iter().filter(|seat| seat.voter).map(|seat| seat.node).collect();
        if self.voters() != voters {
            self.match_voters(voters).await?;
        }
        for member in self.node.members() {
            if !seats.iter().any(|seat| seat.node == member.node) {
                self.node.remove_learner(member.node).await?;
            }
        }
        Ok(())
    }

    async fn match_voters(&self, voters: BTreeSet<NodeId>) -> Result<()> {
        let deadline = Instant::now() + CATCH_UP;
        for node in voters.difference(&self.voters()) {
            self.node.wait_caught_up(*node, VOTER_LAG, deadline).await.map_err(in_time)?;
        }
        let stays = |member: &raft::MemberStatus| member.voter && voters.contains(&member.node);
        let next = self.node.members().into_iter().filter(stays).max_by_key(|member| member.matched);
        if !voters.contains(&self.identity.node)
            && let Some(next) = next
        {
            self.node.transfer_leader(next.node).await.map_err(in_time)?;
            // Whoever leads now goes on with the request.
            return Err(not_leader());
        }
        let _one_at_a_time = self.changing.lock().await;
        self.set_voters(voters).await
    }

    async fn add(&self, node: NodeId, address: String) -> Result<()> {
        self.check_room(node, None)?;
        self.take_in(node, address).await?;
        let one_at_a_time = self.changing.lock().await;
        let mut voters = self.voters();
        voters.insert(node);
        self.set_voters(voters).await.map_err(Error::in_part)?;
        drop(one_at_a_time);
        self.match_others().await.map_err(Error::in_part)
    }

    async fn remove(&self, node: NodeId) -> Result<()> {
        let Some(member) = self.member(node) else { return self.match_others().await };
        if !member.voter {
            self.node.remove_learner(node).await?;
            return self.match_others().await;
        }
        let mut voters = self.voters();
        voters.remove(&node);
        if voters.is_empty() {
            return Err(invalid(&format!("node {node} is the last voter: without it there is no cluster")));
        }
        self.hand_over(node).await?;
        let one_at_a_time = self.changing.lock().await;
        let mut voters = self.voters();
        voters.remove(&node);
        self.set_voters(voters).await?;
        drop(one_at_a_time);
        self.match_others().await.map_err(Error::in_part)
    }

    async fn replace(&self, old: NodeId, new: NodeId, address: String) -> Result<()> {
        if old == new {
            return Err(invalid_node("a node is replaced by one with another number"));
        }
        let (leaves, comes) = (self.member(old), self.member(new));
        match (&leaves, &comes) {
            (None, Some(comes)) if comes.voter => return self.match_others().await,
            (None, _) => {
                let message = format!("node {old} is not a member of the cluster");
                return Err(Error::new(ErrorKind::NotFound, "node_not_found", message).with_number("node", old.0));
            }
            _ => {}
        }
        self.check_room(new, Some(old))?;
        self.hand_over(old).await?;
        self.take_in(new, address).await?;
        let one_at_a_time = self.changing.lock().await;
        let mut voters = self.voters();
        voters.remove(&old);
        voters.insert(new);
        self.set_voters(voters).await.map_err(Error::in_part)?;
        // A voter that was replaced has left with that; a learner has not.
        self.node.remove_learner(old).await.map_err(Error::in_part)?;
        drop(one_at_a_time);
        self.match_others().await.map_err(Error::in_part)
    }

    async fn transfer(&self, to: Option<NodeId>) -> Result<()> {
        let me = self.identity.node;
        let others = || self.node.members().into_iter().filter(|member| member.voter && member.node != me);
        let to = match to {
            Some(to) if to == me => return Ok(()),
            Some(to) if others().any(|member| member.node == to) => to,
            Some(to) => return Err(invalid(&format!("node {to} does not vote, so it cannot lead"))),
            // Whoever has most of the log can take over soonest.
            None => match others().max_by_key(|member| member.matched) {
                Some(furthest) => furthest.node,
                None => return Ok(()),
            },
        };
        self.node.transfer_leader(to).await.map_err(in_time)
    }

    async fn moved(&self, node: NodeId, address: String) -> Result<()> {
        check_named(node, &address)?;
        let Some(member) = self.member(node) else { return Ok(()) };
        tracing::info!(%node, address, "a node has another address");
        self.node.add_learner(node, Member { address, directory: member.directory }).await
    }

    /// Takes `node` in as a learner and waits until it has caught up.
    async fn take_in(&self, node: NodeId, address: String) -> Result<()> {
        check_named(node, &address)?;
        let calls = self.calls.as_ref().ok_or_else(|| alone("no other node can join it"))?;
        let known = self.member(node);
        let directory = if node == self.identity.node {
            self.identity.directory
        } else {
            let hello = greet(calls, node, &address).await?;
            if let Some(known) = &known
                && known.directory != hello.directory
            {
                let message = format!(
                    "node {node} is a member with another directory than the one at {address}: one that lost its log comes \
                     back under a new number, in its place (replace-node)"
                );
                return Err(Error::new(ErrorKind::AlreadyExists, "node_exists", message).with_number("node", node.0));
            }
            if known.is_none() && !hello.empty && !self.has_a_log_of_this_group(&hello) {
                let message = format!(
                    "node {node} at {address} is not a member, and has a log that is not known to be of this group: start it \
                     with a new number and an empty data directory"
                );
                return Err(mismatch(node, message));
            }
            hello.directory
        };
        self.node.add_learner(node, Member { address, directory }).await?;
        let caught_up = self.node.wait_caught_up(node, VOTER_LAG, Instant::now() + CATCH_UP).await;
        // It is a learner now.
        caught_up.map_err(|error| in_time(error).in_part())
    }

    /// Whether a node that is no member was one: it has left, or whoever took it in was deposed before that was committed. (It is of
    /// this cluster and life, or it would not have answered.) What its log has more than the leader's was never committed, and
    /// goes as with any follower.
    fn has_a_log_of_this_group(&self, hello: &Hello) -> bool {
        self.node.members().iter().any(|member| hello.knows(member.node, member.directory))
    }

    /// If `node` leads, which is this one then, gives the leadership to another and says who leads.
    async fn hand_over(&self, node: NodeId) -> Result<()> {
        if node != self.identity.node {
            return Ok(());
        }
        self.transfer(None).await?;
        // Whoever leads now goes on with the request.
        if self.node.leadership().borrow().is_leader { Ok(()) } else { Err(not_leader()) }
    }

    async fn set_voters(&self, voters: BTreeSet<NodeId>) -> Result<()> {
        self.check_quorum(&voters).await?;
        self.node.set_voters(voters).await
    }

    /// Refuses voters of which too few answer to decide anything.
    async fn check_quorum(&self, voters: &BTreeSet<NodeId>) -> Result<()> {
        let asked = join_all(voters.iter().map(|node| self.node.peer_status(*node))).await;
        let silent = voters.iter().zip(asked).filter_map(|(node, answer)| answer.err().map(|_| node.to_string()));
        let silent: Vec<String> = silent.collect();
        if voters.len() - silent.len() > voters.len() / 2 {
            return Ok(());
        }
        let silent = silent.join(", ");
        Err(invalid(&format!(
            "too few of the voters that would stay answer (not: {silent}): they could decide nothing"
        )))
    }

    /// Refuses one voter too many before anything is begun.
    fn check_room(&self, comes: NodeId, goes: Option<NodeId>) -> Result<()> {
        let mut voters = self.voters();
        goes.map(|goes| voters.remove(&goes));
        voters.insert(comes);
        if voters.len() <= MAX_VOTERS {
            return Ok(());
        }
        Err(invalid(&format!("a cluster has at most {MAX_VOTERS} voters")))
    }

    pub(super) fn member(&self, node: NodeId) -> Option<raft::MemberStatus> {
        self.node.members().into_iter().find(|member| member.node == node)
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        self.node.members().into_iter().filter(|member| member.voter).map(|member| member.node).collect()
    }
}

fn check_named(node: NodeId, address: &str) -> Result<()> {
    if node.0 == 0 {
        return Err(invalid_node("node numbers begin with 1"));
    }
    if !is_host_and_port(address) {
        return Err(invalid_node(&format!("{address:?} is not a host and a port such as \"node-4.example:7072\"")));
    }
    Ok(())
}

/// Asks whoever listens at `address` who it is. One that was just started may not be reached at once: a peer that was away is
/// called again only now and then.
async fn greet(calls: &Calls, node: NodeId, address: &str) -> Result<Hello> {
    let deadline = Instant::now() + HELLO_PATIENCE;
    loop {
        match calls.hello(node, address).await {
            Ok(hello) => return Ok(hello),
            Err(error) if error.kind() == ErrorKind::Conflict || Instant::now() + PAUSE >= deadline => {
                return Err(unmet(node, address, &error));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// That whoever is at `address` cannot be taken in.
fn unmet(node: NodeId, address: &str, error: &Error) -> Error {
    match error.kind() {
        // It answered, and is somebody else.
        ErrorKind::Conflict => {
            let message = format!("what listens at {address} is not node {node} of this cluster: {error}");
            Error::new(ErrorKind::Conflict, error.code(), message).with_number("node", node.0)
        }
        _ => Error::unavailable(format!("node {node} does not answer at {address}: {error}")),
    }
}

/// What did not happen in time may be asked for again.
fn in_time(error: Error) -> Error {
    if error.code() != "unavailable" {
        return error;
    }
    Error::new(ErrorKind::Unavailable, "timeout", format!("{error}; it may be asked for again"))
}

pub(super) fn alone(what: &str) -> Error {
    invalid(&format!("this node has no peer listener (peer.listen), so that {what}"))
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::Conflict, "invalid_membership", message)
}

fn invalid_node(message: &str) -> Error {
    Error::invalid("invalid_node", message)
}

fn mismatch(node: NodeId, message: String) -> Error {
    Error::new(ErrorKind::Conflict, "node_identity_mismatch", message).with_number("node", node.0)
}

/// What went wrong in a shard, said of it.
pub(super) fn of_shard(shard: ShardId, error: &Error) -> Error {
    let named = Error::new(error.kind(), error.code(), format!("shard {shard}: {error}"));
    named.with_outcome(error.outcome())
}

fn not_leader() -> Error {
    Error::new(ErrorKind::NotLeader, "not_leader", "this node does not lead the shard")
}
