//! The state of a followed shard, how far it is, and how old it may be.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::clock::{Clock, Millis};
use crate::error::{Error, Result};
use crate::format::command;
use crate::model::{Answer, Command, Control, LogIndex, LogTime};
use crate::raft::growth::Waiters;
use crate::state::{STATE_VERSION, State};

/// See the module.
pub(super) struct View {
    state: RwLock<State>,
    /// The next entry to apply; none before there was a checkpoint or a first entry.
    next: Mutex<Option<LogIndex>>,
    applied: watch::Sender<LogIndex>,
    waiters: Arc<Waiters>,
    /// When the last question for the read index was asked that the state has caught up with.
    contact: watch::Sender<Option<Moment>>,
    max_age: Duration,
    clock: Clock,
    /// What the leader's log time was at least, and when.
    log_time: Mutex<(LogTime, Millis)>,
}

/// A moment on two clocks: one that stands still while the machine sleeps, one that may be set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    steady: Millis,
    wall: Millis,
}

impl View {
    pub(super) fn new(state: State, clock: Clock, max_age: Duration) -> Self {
        Self {
            applied: watch::Sender::new(state.applied()),
            state: RwLock::new(state),
            next: Mutex::new(None),
            waiters: Arc::default(),
            contact: watch::Sender::new(None),
            max_age,
            clock,
            log_time: Mutex::new((0, 0)),
        }
    }

    /// # Panics
    /// If `apply` panicked: a state that was left halfway must not be seen.
    #[allow(clippy::expect_used, reason = "a panic in a task ends the process, and this one must")]
    pub(super) fn with_state<R>(&self, f: impl FnOnce(&State) -> R) -> R {
        f(&self.state.read().expect("apply panicked, the state is not usable"))
    }

    pub(super) fn applied(&self) -> watch::Receiver<LogIndex> {
        self.applied.subscribe()
    }

    pub(super) fn waiters(&self) -> &Arc<Waiters> {
        &self.waiters
    }

    /// The first entry that is lacking.
    pub(super) fn next(&self) -> Option<LogIndex> {
        *self.next_entry()
    }

    /// Goes on from a checkpoint that is ahead of the state.
    ///
    /// # Panics
    /// As [`View::with_state`].
    #[allow(clippy::expect_used, reason = "as in with_state")]
    pub(super) fn replace(&self, state: State) {
        let applied = state.applied();
        let mut next = self.next_entry();
        if next.is_some_and(|next| applied < next) {
            return;
        }
        *self.state.write().expect("apply panicked, the state is not usable") = state;
        *next = Some(applied + 1);
        drop(next);
        self.applied.send_replace(applied);
        self.waiters.wake_all();
    }

    /// Applies the heads of the entries from [`View::next`] on; the index up to which the tail is in segments, if that changed.
    ///
    /// # Errors
    /// An entry that cannot be applied: the process must end, as a node does.
    pub(super) fn apply(&self, heads: &[Option<Bytes>]) -> Result<Option<LogIndex>> {
        let mut next = self.next_entry();
        let mut index = next.unwrap_or(0);
        let mut flushed = None;
        for head in heads {
            flushed = self.apply_one(index, head.as_ref())?.or(flushed);
            index += 1;
            *next = Some(index);
        }
        drop(next);
        if !heads.is_empty() {
            self.applied.send_replace(index.saturating_sub(1));
        }
        Ok(flushed)
    }

    fn apply_one(&self, index: LogIndex, head: Option<&Bytes>) -> Result<Option<LogIndex>> {
        let unusable = || Error::internal("an earlier apply panicked");
        let Some(head) = head else {
            self.state.write().map_err(|_| unusable())?.skip(index);
            return Ok(None);
        };
        let logged = command::decode_head(head).map_err(|error| {
            Error::internal(format!("entry {index} of the log cannot be applied: {error}")).with_source(error)
        })?;
        // Applied, it would have this process see something else than those that know it.
        if let Command::Control(Control::RaiseVersion { version }) = logged.command
            && version > STATE_VERSION
        {
            return Err(Error::internal(format!(
                "entry {index} of the log has the nodes behave as of version {version}, and this program knows versions up to \
                 {STATE_VERSION}: start this gateway with a newer one"
            )));
        }
        let applied = self.state.write().map_err(|_| unusable())?.apply(index, &logged);
        self.waiters.wake(&applied.grown);
        Ok(match (&logged.command, applied.answer) {
            (Command::Control(Control::Flushed { index, .. }), Answer::Done) => Some(*index),
            _ => None,
        })
    }

    /// Waits until entry `index` was applied.
    pub(super) async fn wait_applied(&self, index: LogIndex, deadline: Instant) -> Result<()> {
        let mut applied = self.applied();
        let waiting = timeout_at(deadline, applied.wait_for(|applied| *applied >= index)).await;
        match waiting {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::unavailable("the shard is not followed any more")),
            Err(_) => Err(Error::unavailable(format!("this gateway did not catch up with entry {index} in time"))),
        }
    }

    /// Now.
    pub(super) fn moment(&self) -> Moment {
        Moment { steady: self.clock.monotonic(), wall: self.clock.wall() }
    }

    /// Everything that was committed at `moment` is in the state.
    pub(super) fn in_contact(&self, moment: Moment) {
        self.contact.send_if_modified(|last| {
            let first = last.is_none();
            if last.is_none_or(|last| last.steady < moment.steady) {
                *last = Some(moment);
            }
            // Only the first one is waited for.
            first
        });
    }

    /// How long after a contact it is usable.
    pub(super) fn max_age(&self) -> Duration {
        self.max_age
    }

    /// Returns after the first contact.
    pub(super) async fn reached(&self) {
        let mut contact = self.contact.subscribe();
        if contact.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn age(&self) -> Option<Duration> {
        let Moment { steady, wall } = (*self.contact.borrow())?;
        let passed = self.clock.monotonic().saturating_sub(steady);
        Some(Duration::from_millis(passed.max(self.clock.wall().saturating_sub(wall))))
    }

    pub(super) fn usable(&self) -> Result<()> {
        match self.age() {
            Some(age) if age <= self.max_age => Ok(()),
            Some(age) => {
                let seconds = age.as_secs();
                Err(Error::unavailable(format!("this gateway has had no contact with the shard for {seconds} s")))
            }
            None => Err(Error::unavailable("this gateway has not reached the shard yet")),
        }
    }

    /// A node says that log time is at least `log_time`.
    pub(super) fn heard_log_time(&self, log_time: LogTime) {
        let now = self.clock.monotonic();
        let mut known = self.known_log_time();
        if log_time > reckoned(*known, now) {
            *known = (log_time, now);
        }
    }

    pub(super) fn log_time(&self) -> LogTime {
        reckoned(*self.known_log_time(), self.clock.monotonic())
    }

    pub(super) fn log_time_lag_ms(&self) -> i64 {
        i64::try_from(i128::from(self.clock.wall()) - i128::from(self.log_time())).unwrap_or(i64::MAX)
    }

    fn known_log_time(&self) -> MutexGuard<'_, (LogTime, Millis)> {
        self.log_time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_entry(&self) -> MutexGuard<'_, Option<LogIndex>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Slower than any leader's clock runs, so that it is not ahead of it: a leader slews by a tenth at most.
fn reckoned((log_time, at): (LogTime, Millis), now: Millis) -> LogTime {
    if log_time == 0 {
        return 0;
    }
    let passed = now.saturating_sub(at);
    log_time.saturating_add(passed - passed / 5)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::{Incarnation, ShardId};

    fn view(clock: &Clock) -> View {
        View::new(State::new(ShardId(0), Incarnation(1)), clock.clone(), Duration::from_secs(30))
    }

    #[test]
    fn a_view_is_usable_for_a_time_after_the_last_contact() {
        let clock = Clock::manual(1_700_000_000_000);
        let view = view(&clock);
        assert_eq!(view.usable().unwrap_err().code(), "unavailable");
        view.in_contact(view.moment());
        clock.advance(30_000);
        assert!(view.usable().is_ok());
        let earlier = view.moment();
        clock.advance(1);
        assert!(view.usable().is_err());
        view.in_contact(earlier);
        assert!(view.usable().is_ok());
        // A machine that slept: its steady clock stood still.
        clock.set_wall(clock.wall() + 31_000);
        assert!(view.usable().is_err());
        view.in_contact(view.moment());
        assert!(view.usable().is_ok());
        view.in_contact(earlier);
        assert!(view.usable().is_ok(), "an older answer came later");
    }

    #[test]
    fn a_version_that_this_program_does_not_know_is_not_applied() {
        let view = view(&Clock::manual(5));
        let raise = |version| {
            let command = Command::Control(Control::RaiseVersion { version });
            Some(command::encode(&crate::model::LoggedCommand { log_time: 1, command }).unwrap())
        };
        view.apply(&[None, raise(STATE_VERSION)]).unwrap();
        let refused = view.apply(&[raise(STATE_VERSION + 1)]).unwrap_err();
        assert!(refused.message().contains("newer"), "{refused}");
        assert_eq!((view.next(), view.with_state(State::applied)), (Some(2), 1));
    }

    #[test]
    fn log_time_goes_on_and_never_back() {
        let clock = Clock::manual(5);
        let view = view(&clock);
        assert_eq!(view.log_time(), 0);
        view.heard_log_time(1_000);
        clock.advance(10_000);
        assert_eq!(view.log_time(), 9_000);
        view.heard_log_time(8_999);
        assert_eq!(view.log_time(), 9_000, "an older answer came later");
        view.heard_log_time(20_000);
        assert_eq!(view.log_time(), 20_000);
    }
}
