//! What is asked to be archived before its time is told to every member: any of them may have the worker, or serve one.
//!
//! Nothing is promised: who was away is not told again, and whoever waits asks again. A gateway is told by nobody, and asks.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use super::gateway::Onlooker;
use super::message;
use super::roster::Roster;
use crate::archive::Requests;
use crate::error::{Error, Result};
use crate::model::{Offset, TopicId};
use crate::raft::RaftNode;

/// The kind of the peer request; the answer is empty.
pub(super) const ARCHIVE: u8 = 34;
/// The kind of the request for all of them, by a gateway that converts; its body is empty.
pub(super) const ARCHIVE_REQUESTS: u8 = 36;
/// How long a member may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// A topic has at most 10,000 partitions, of some ten bytes each.
const MAX_BYTES: usize = 256 << 10;

/// Topics, and up to which offsets their partitions are to be archived.
type Asked = Vec<(TopicId, Vec<(u32, Offset)>)>;

/// Tells the other members.
pub(super) async fn tell(members: &Roster, topic: TopicId, targets: Vec<(u32, Offset)>) {
    let Some(calls) = members.calls() else { return };
    let body = match message::encode(&(topic, targets)) {
        Ok(body) => body,
        Err(error) => {
            tracing::error!(?error, "the others are not told what is to be archived");
            return;
        }
    };
    let others = members.others();
    join_all(others.iter().map(|other| async {
        if let Err(error) = calls.call(other, ARCHIVE, body.clone(), DEADLINE).await {
            tracing::debug!(node = %other.node, %error, "a member was not told what is to be archived");
        }
    }))
    .await;
}

/// Asks the nodes, the first that answers, what is to be archived before its time.
///
/// # Errors
/// That none does.
pub(super) async fn ask(onlooker: &Onlooker) -> Result<Asked> {
    let mut last = Error::unavailable("no node of the shard is known");
    for other in onlooker.others() {
        match onlooker.calls().call(&other, ARCHIVE_REQUESTS, Bytes::new(), DEADLINE).await {
            Ok(body) => return message::decode(&body, MAX_BYTES),
            Err(error) => last = error.into_error(),
        }
    }
    Err(last)
}

/// Answers [`ask`]; what does not fit is left for the next time.
pub(super) fn answer(requests: &Requests) -> Result<Bytes> {
    let mut asked = requests.targets();
    loop {
        let body = message::encode(&asked)?;
        if body.len() <= MAX_BYTES {
            return Ok(body);
        }
        asked.truncate(asked.len() / 2);
    }
}

/// Notes what another member was asked for.
pub(super) fn told(node: &RaftNode, requests: &Requests, body: &[u8]) -> Result<()> {
    let (topic, targets): (TopicId, Vec<(u32, Offset)>) = message::decode(body, MAX_BYTES)?;
    // What this node has not heard of it will not convert now; a request is kept in memory.
    if node.with_state(|state| state.topic(topic).is_some()) {
        requests.request(topic, targets);
    }
    Ok(())
}
