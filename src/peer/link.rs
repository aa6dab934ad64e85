//! The connection to one peer: made when it is needed, by one attempt for all who wait, and made anew when it broke.
//!
//! Between two failed attempts there is a pause, and a call in the pause fails at once with the last attempt's error: who
//! calls knows better than this module whether to wait or to ask somebody else.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::dial::{Dialed, Dialer, Sender};
use crate::error::{Error, ErrorKind, Result};
use crate::model::NodeId;

/// The first pause; each next one is twice as long, less up to half of it at random.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A connection that lived for so long is replaced at once; one that did not counts as a failed attempt.
const STABLE: Duration = Duration::from_secs(1);

/// The connection to one peer.
pub(super) struct Link {
    node: NodeId,
    address: String,
    dialer: Arc<Dialer>,
    state: watch::Sender<State>,
}

enum State {
    /// No attempt before `until`.
    Down {
        until: Instant,
        failures: u32,
        why: Why,
    },
    Dialing,
    Up {
        dialed: Dialed,
        since: Instant,
        failures: u32,
    },
}

/// What the last attempt failed with; an error can be had only once.
#[derive(Clone)]
struct Why {
    kind: ErrorKind,
    code: &'static str,
    message: String,
}

/// What is to be done with a link.
enum Step {
    Use(Sender),
    Fail(Why),
    Dial { failures: u32 },
    Wait,
}

impl Link {
    pub(super) fn new(node: NodeId, address: String, dialer: Arc<Dialer>) -> Self {
        let why = Why { kind: ErrorKind::Unavailable, code: "peer_unreachable", message: String::new() };
        let state = watch::Sender::new(State::Down { until: Instant::now(), failures: 0, why });
        Self { node, address, dialer, state }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Whether there is a connection now.
    pub(super) fn is_up(&self) -> bool {
        matches!(&*self.state.borrow(), State::Up { dialed, .. } if !dialed.sender.is_closed())
    }

    /// A connection, made if there is none.
    ///
    /// # Errors
    /// What the last attempt failed with, or `peer_timeout` if none had ended by `until`.
    pub(super) async fn sender(self: &Arc<Self>, until: Instant) -> Result<Sender> {
        loop {
            // Before the look: what happens after it is news.
            let mut news = self.state.subscribe();
            match self.step() {
                Step::Use(sender) => return Ok(sender),
                Step::Fail(why) => return Err(Error::new(why.kind, why.code, why.message)),
                Step::Dial { failures } => {
                    // A task of its own: who waits for it may give up, and the next one wants the connection too.
                    tokio::spawn(Arc::clone(self).dial(failures));
                }
                Step::Wait => {
                    let dialed = news.wait_for(|state| !matches!(state, State::Dialing));
                    if timeout_at(until, dialed).await.is_err() {
                        let message = format!("node {} was not reached at {} in time", self.node, self.address);
                        return Err(Error::new(ErrorKind::Unavailable, "peer_timeout", message));
                    }
                }
            }
        }
    }

    fn step(&self) -> Step {
        let mut step = Step::Wait;
        self.state.send_if_modified(|state| {
            self.notice_end(state);
            match state {
                State::Up { dialed, .. } => step = Step::Use(dialed.sender.clone()),
                State::Down { until, why, .. } if Instant::now() < *until => step = Step::Fail(why.clone()),
                State::Down { failures, .. } => {
                    step = Step::Dial { failures: *failures };
                    *state = State::Dialing;
                }
                State::Dialing => {}
            }
            // Those who wait do so for the end of an attempt only.
            false
        });
        step
    }

    /// Turns a connection that ended, or that was made with older certificates, into none.
    fn notice_end(&self, state: &mut State) {
        let State::Up { dialed, since, failures } = state else { return };
        let is_outdated = match (&dialed.identity, &self.dialer.tls) {
            (Some(identity), Some(tls)) => !Arc::ptr_eq(identity, &tls.last()),
            _ => false,
        };
        let is_closed = dialed.sender.is_closed();
        if !is_outdated && !is_closed {
            return;
        }
        let failures = if is_outdated || since.elapsed() >= STABLE { 0 } else { *failures + 1 };
        let message = format!("node {} at {} ends connections", self.node, self.address);
        let why = Why { kind: ErrorKind::Unavailable, code: "peer_unreachable", message };
        *state = State::Down { until: Instant::now() + pause(failures), failures, why };
    }

    async fn dial(self: Arc<Self>, failures: u32) {
        let (node, address) = (self.node, &self.address);
        let state = match self.dialer.dial(node, address).await {
            Ok(dialed) => {
                if failures > 0 {
                    tracing::info!(%node, address, "a peer is reached again");
                }
                State::Up { dialed, since: Instant::now(), failures }
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(%node, address, ?error, "a peer cannot be reached");
                }
                let failures = failures.saturating_add(1);
                let why = Why { kind: error.kind(), code: error.code(), message: text(&error) };
                State::Down { until: Instant::now() + pause(failures), failures, why }
            }
        };
        self.state.send_replace(state);
    }
}

/// The message with its sources: the error itself stays with whoever dialed.
fn text(error: &Error) -> String {
    let mut text = error.message().to_owned();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// The pause after so many failures one after the other.
fn pause(failures: u32) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
    let longest = FIRST_PAUSE.saturating_mul(1 << doublings.min(16)).min(LONGEST_PAUSE);
    longest.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!(pause(0), Duration::ZERO);
        for (failures, longest) in [(1, 100), (2, 200), (3, 400), (5, 1_600), (6, 2_000), (u32::MAX, 2_000)] {
            let longest = Duration::from_millis(longest);
            for _ in 0..50 {
                let pause = pause(failures);
                assert!(pause >= longest / 2 && pause <= longest, "{failures}: {pause:?}");
            }
        }
    }
}
