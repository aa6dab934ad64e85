//! Whether a leadership opens a shard that it finds closed: only one that was closed when this process began, since starting a
//! node is how an operator opens a cluster again. One that is closed while the process runs stays closed, whoever leads then:
//! the clean checkpoint is what closing was for.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::OnceCell;

use crate::raft::RaftNode;
use crate::state::State;

/// See the module; decided once the node has reached a leader, so that nothing closed before is taken for closed since.
#[derive(Debug, Default)]
pub(super) struct Reopening {
    decided: OnceCell<()>,
    wanted: AtomicBool,
}

impl Reopening {
    /// Whether a shard that is closed now is to be opened. Waits for a leader.
    pub(super) async fn is_wanted(&self, node: &RaftNode) -> bool {
        let decide = async {
            node.ready().await;
            self.wanted.store(node.with_state(State::is_closed), Ordering::Release);
        };
        self.decided.get_or_init(|| decide).await;
        self.wanted.load(Ordering::Acquire)
    }

    /// Returns once the shard is open, or if it was when this process began: what is closed afterwards stays so.
    pub(super) async fn fulfilled(&self, node: &RaftNode) {
        if !self.is_wanted(node).await {
            return;
        }
        let mut applied = node.applied();
        while node.with_state(State::is_closed) {
            if applied.changed().await.is_err() {
                // The node has stopped.
                return;
            }
        }
        self.wanted.store(false, Ordering::Release);
    }
}
