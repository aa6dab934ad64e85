//! What is asked to be archived before its time is told to every member: any of them may have the worker, or serve one.
//!
//! Nothing is promised: who was away is not told again, and whoever waits asks again.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use super::members::Members;
use crate::archive::Requests;
use crate::error::{Error, Result};
use crate::model::{Offset, TopicId};
use crate::raft::RaftNode;

/// The kind of the peer request; the answer is empty.
pub(super) const ARCHIVE: u8 = 34;
/// How long a member may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// A topic has at most 10,000 partitions, of some ten bytes each.
const MAX_BYTES: usize = 256 << 10;

/// Tells the other members.
pub(super) async fn tell(members: &Members, topic: TopicId, targets: Vec<(u32, Offset)>) {
    let Some(calls) = members.calls() else { return };
    let body: Bytes = match postcard::to_allocvec(&(topic, targets)) {
        Ok(body) => body.into(),
        Err(error) => {
            tracing::error!(%error, "a message to the peers cannot be encoded");
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

/// Notes what another member was asked for.
pub(super) fn told(node: &RaftNode, requests: &Requests, body: &[u8]) -> Result<()> {
    let malformed = |why: String| Error::invalid("peer_message", format!("a message of a peer is malformed: {why}"));
    if body.len() > MAX_BYTES {
        return Err(malformed(format!("it has {} bytes", body.len())));
    }
    let told = postcard::take_from_bytes::<(TopicId, Vec<(u32, Offset)>)>(body);
    let (topic, targets) = match told {
        Ok((told, [])) => told,
        Ok(_) => return Err(malformed("it is too long".to_owned())),
        Err(error) => return Err(malformed(error.to_string())),
    };
    // What this node has not heard of it will not convert now; a request is kept in memory.
    if node.with_state(|state| state.topic(topic).is_some()) {
        requests.request(topic, targets);
    }
    Ok(())
}
