//! Telling the other shards what the catalog wants them to know of topics.
//!
//! A change of a topic is made in the catalog first, is told to every shard that has partitions of it, and then becomes visible.
//! Whoever made it does that; the leader of the first shard goes on with whatever was left. All steps may be repeated and done by
//! several at once.
//!
//! | step | a crash right after leaves |
//! |---|---|
//! | the change is wanted (`topic.wanted`) | a topic as it was, and the leader of the first shard goes on |
//! | a shard knows it (`topic.told`) | the same: the shard is told again and changes nothing |
//! | all know it (`topic.all_told`) | the same |
//! | it is visible (`topic.synced`) | a change that is done |

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info, warn};

use super::Shard;
use super::catalog;
use super::common::Common;
use super::slots::Slots;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::failpoint;
use crate::model::catalog::{CATALOG_SHARD, Revision, TopicSync};
use crate::model::{Answer, Control, LogIndex, ShardId, TopicId};
use crate::raft::{Handle, Leader};
use crate::state::State;

/// Between two looks at what is left to tell.
const LOOK: Duration = Duration::from_millis(200);
/// How long whoever made a change is left alone with it.
const OTHERS: Duration = Duration::from_secs(1);
/// Topics that are told of at a time.
const AT_ONCE: usize = 16;
/// How long the leader of the first shard tries to tell of one before it turns to the others.
const DEADLINE: Duration = Duration::from_secs(10);
/// Before a shard that could not be told is told again.
const PAUSE: Duration = Duration::from_millis(50);

/// Tells all shards what they have to know of a topic, which the catalog wants since entry `changed`, and makes it visible; done
/// already if nothing is left to tell.
///
/// # Errors
/// `timeout` if that is not done by `deadline`: the change takes effect later. What a shard declines for good.
pub(super) async fn tell(shards: &Slots<Shard>, topic: TopicId, changed: LogIndex, deadline: Instant) -> Result<()> {
    let Some(zero) = shards.get(CATALOG_SHARD) else { return Err(absent(CATALOG_SHARD)) };
    // A node that is behind does not know yet that there is something to tell.
    let mut applied = zero.leader().applied();
    if !matches!(timeout_at(deadline, applied.wait_for(|applied| *applied >= changed)).await, Ok(Ok(_))) {
        return Err(late(None));
    }
    let mut last = None;
    while let Some(sync) = zero.leader().node().with_state(|state| state.pending_sync(topic)) {
        failpoint::hit_async("topic.wanted").await?;
        match timeout_at(deadline, step(shards, zero.leader(), &sync)).await {
            Ok(Ok(())) => failpoint::hit_async("topic.synced").await?,
            Ok(Err(error)) if error.kind() == ErrorKind::Unavailable && Instant::now() + PAUSE < deadline => {
                last = Some(error);
                tokio::time::sleep(PAUSE).await;
            }
            Ok(Err(error)) => return Err(late(Some(error))),
            Err(_) => return Err(late(last)),
        }
    }
    Ok(())
}

fn late(why: Option<Error>) -> Error {
    let message = "the change was made, and not every shard knows it yet: it takes effect once all do";
    let error = Error::new(ErrorKind::Unavailable, "timeout", message).with_outcome(Outcome::Unknown);
    match why {
        Some(why) => error.with_source(why),
        None => error,
    }
}

/// Tells of one revision.
async fn step(shards: &Slots<Shard>, zero: &Handle, sync: &TopicSync) -> Result<()> {
    let told = join_all(sync.commands().map(|(shard, control)| async move {
        let told = shards.get(shard).ok_or_else(|| absent(shard))?;
        repeat(told.leader(), control).await?;
        failpoint::hit_async("topic.told").await
    }));
    let told: Result<Vec<()>> = told.await.into_iter().collect();
    match told {
        Ok(_) => {}
        // The shard has forgotten another topic since this change was made, and cannot tell whether this is it.
        Err(error) if error.code() == "stale_job" => {
            let control = Control::RenewTopic { id: sync.id(), revision: sync.revision };
            return zero.control(control).await.map(drop);
        }
        Err(error) => return Err(error),
    }
    failpoint::hit_async("topic.all_told").await?;
    repeat(zero, sync.synced()).await
}

/// Proposes a command that is done in steps until all are.
async fn repeat(leader: &Handle, control: Control) -> Result<()> {
    while let (_, Answer::More) = leader.control(control.clone()).await? {}
    Ok(())
}

fn absent(shard: ShardId) -> Error {
    Error::unavailable(format!("shard {shard} is not open here yet"))
}

/// Goes on with changes that whoever made them left, until dropped: the leader of the first shard does.
pub(super) async fn keep_told(leader: &Leader, common: &Common) {
    let mut seen: BTreeMap<TopicId, (Revision, Instant)> = BTreeMap::new();
    let mut pause = LOOK;
    loop {
        tokio::time::sleep(std::mem::replace(&mut pause, LOOK)).await;
        if leader.node().with_state(State::is_adopting) {
            if let Err(error) = adopt(leader, common).await {
                warn!(?error, "what the other shards have is not in the catalog yet, and this is tried again");
                tokio::time::sleep(OTHERS).await;
            }
            continue;
        }
        let left = leader.node().with_state(|state| state.unsynced(AT_ONCE));
        let now = Instant::now();
        seen.retain(|topic, (revision, _)| left.iter().any(|sync| sync.id() == *topic && sync.revision == *revision));
        let due = left.iter().filter(|sync| {
            let (_, since) = seen.entry(sync.id()).or_insert((sync.revision, now));
            // What was changed in an earlier life is told anew, and nobody else does that.
            sync.revision.index == 0 || now >= *since + OTHERS
        });
        let due: Vec<TopicId> = due.map(TopicSync::id).collect();
        // What is due was seen in the state: there is no entry to wait for.
        let told = due.iter().map(|topic| async move {
            let told = tell(&common.shards, *topic, 0, Instant::now() + DEADLINE).await;
            told.inspect_err(|error| debug!(%topic, ?error, "not every shard knows a topic yet"))
        });
        if !due.is_empty() && join_all(told).await.iter().all(Result::is_ok) {
            pause = Duration::ZERO;
        }
    }
}

/// Has the catalog know what the other shards have, after a start from the bucket: they were restored from other moments.
async fn adopt(leader: &Leader, common: &Common) -> Result<()> {
    let leader = &Handle::from(leader.clone());
    let mut views = Vec::new();
    for shard in (1..catalog::count(leader)).map(ShardId) {
        let other = common.shards.get(shard).ok_or_else(|| absent(shard))?;
        let node = other.leader().node();
        node.linearize().await?;
        let view = node.view();
        if view.incarnation() != common.identity.incarnation {
            return Err(Error::unavailable(format!("shard {shard} has not begun its new life yet")));
        }
        views.push(view);
    }
    leader.node().linearize().await?;
    let view = leader.node().view();
    let found = crate::blocking::spawn(move || view.adoptions(&views)).await;
    let controls = found.map_err(|error| Error::internal("looking at the shards broke off").with_source(error))?;
    let adopted = controls.len();
    for control in controls {
        repeat(leader, control).await?;
    }
    repeat(leader, Control::Adopted { incarnation: common.identity.incarnation }).await?;
    info!(topics = adopted, "the catalog knows what the other shards have");
    Ok(())
}
