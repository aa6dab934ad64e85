//! The flush of a node that does not lead: asks the leader for what is waited for here, and sees in its own state how far
//! the leader's flushes are.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::task::FlushHandle;
use crate::error::Result;
use crate::model::LogIndex;
use crate::raft::Handle;

/// How often the state is looked at while nobody waits: a request wakes this at once.
const IDLE: Duration = Duration::from_millis(250);
/// How often it is looked at while somebody waits and nothing is applied.
const TICK: Duration = Duration::from_millis(50);
/// How often a leader is asked again: it may have forgotten, or be another one.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// After a leader could not be asked.
const ASK_RETRY: Duration = Duration::from_millis(100);

/// Asks whoever leads to flush.
pub trait AskLeader: Send + Sync {
    /// Has the leader flush all at or below `index`, without waiting for it. Ends by itself after a second or so.
    ///
    /// # Errors
    /// That it could not be asked.
    fn ask(&self, index: LogIndex) -> impl Future<Output = Result<()>> + Send;
}

/// Follows the flushes of the leader until dropped.
pub async fn follow(node: Handle, handle: FlushHandle, leader: impl AskLeader) {
    let mut applied = node.applied();
    let mut next_ask = Instant::now();
    let mut asked = 0;
    loop {
        applied.borrow_and_update();
        let flushed = node.with_state(|state| state.flushed_index());
        handle.observe(flushed);
        let wanted = handle.wanted();
        if wanted <= flushed {
            handle.woken(IDLE).await;
            continue;
        }
        if wanted > asked || Instant::now() >= next_ask {
            match leader.ask(wanted).await {
                Ok(()) => (asked, next_ask) = (wanted, Instant::now() + ASK_AGAIN),
                Err(error) => {
                    tracing::debug!(%error, "the leader cannot be asked to flush");
                    (asked, next_ask) = (wanted, Instant::now() + ASK_RETRY);
                }
            }
        }
        tokio::select! {
            biased;
            () = handle.woken(TICK) => {}
            _ = applied.changed() => {}
        }
    }
}
