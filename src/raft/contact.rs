//! Whether the peers of a leader answer it: one that nobody answers falls silent, so that the others elect.
//!
//! Whatever arrives from a leader keeps a node from electing, whether the answer gets back or not. A leader that is heard and hears
//! nobody would hold the others for as long as their connections last, without being able to acknowledge anything. So a peer that
//! has answered nothing for as long as a leader is believed in is asked first, by a call that does not speak for a leader, and gets
//! heartbeats and entries again once it answers. It is asked whenever something is to be sent, so one that comes back waits for
//! nothing; one that answers slowly is waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::types::Vote;

/// When each peer answered this node as the leader of a term, for all of openraft's connections to it.
pub(super) struct Contact {
    /// How long a leader is believed in.
    lease: Duration,
    peers: Mutex<BTreeMap<u64, Known>>,
}

struct Known {
    vote: Vote,
    /// When the last answer came, or the leadership began.
    answered: Instant,
    /// A question is under way.
    asked: bool,
}

impl Contact {
    pub(super) fn new(lease: Duration) -> Self {
        Self { lease, peers: Mutex::default() }
    }

    /// How long a question waits for its answer.
    pub(super) fn lease(&self) -> Duration {
        self.lease
    }

    /// Whether `target` may be spoken to as by the leader of `vote`.
    pub(super) fn is_kept(&self, target: u64, vote: &Vote) -> bool {
        let now = Instant::now();
        let mut peers = self.peers();
        let known = peers.entry(target).or_insert(Known { vote: *vote, answered: now, asked: false });
        if known.vote != *vote {
            (known.vote, known.answered) = (*vote, now);
        }
        now.duration_since(known.answered) < self.lease
    }

    /// `target` has answered something.
    pub(super) fn answered(&self, target: u64) {
        if let Some(known) = self.peers().get_mut(&target) {
            known.answered = Instant::now();
        }
    }

    /// The right to ask `target`, unless it is being asked.
    pub(super) fn ask(self: &Arc<Self>, target: u64) -> Option<Asking> {
        let mut peers = self.peers();
        let known = peers.get_mut(&target).filter(|known| !known.asked)?;
        known.asked = true;
        Some(Asking { contact: Arc::clone(self), target })
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<u64, Known>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question that is under way until it is dropped.
pub(super) struct Asking {
    contact: Arc<Contact>,
    target: u64,
}

impl Asking {
    /// The peer has answered it.
    pub(super) fn answered(self) {
        self.contact.answered(self.target);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(known) = self.contact.peers().get_mut(&self.target) {
            known.asked = false;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LEASE: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_asked_once_it_has_not_answered_for_a_lease() {
        let contact = Arc::new(Contact::new(LEASE));
        let vote = Vote::new_committed(3, 1);
        assert!(contact.is_kept(2, &vote), "a leadership begins with all of them");
        tokio::time::advance(LEASE / 2).await;
        contact.answered(2);
        tokio::time::advance(LEASE - Duration::from_millis(1)).await;
        assert!(contact.is_kept(2, &vote));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!contact.is_kept(2, &vote));
        assert!(contact.is_kept(3, &vote), "another one was not spoken to yet");
        assert!(contact.is_kept(2, &Vote::new_committed(4, 1)), "a leadership begins with all of them");
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_at_a_time_and_its_answer_counts() {
        let contact = Arc::new(Contact::new(LEASE));
        let vote = Vote::new_committed(3, 1);
        assert!(contact.is_kept(2, &vote));
        tokio::time::advance(LEASE).await;
        assert!(!contact.is_kept(2, &vote));
        let asking = contact.ask(2).unwrap();
        assert!(contact.ask(2).is_none());
        drop(asking);
        assert!(!contact.is_kept(2, &vote), "it was given up");
        contact.ask(2).unwrap().answered();
        assert!(contact.is_kept(2, &vote) && contact.ask(2).is_some());
    }
}
