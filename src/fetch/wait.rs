//! Waiting for records: long polls and followers.

use std::time::Duration;

use ::metrics::gauge;
use tokio::time::{Instant, sleep_until};

use super::source::{Growth, Source};
use crate::error::Result;
use crate::metrics::FETCH_WAITING;
use crate::model::TopicPartition;
use crate::state::State;

/// How often a waiter looks whether something else than growth ended its wait: a topic that was deleted or has more
/// partitions. Growth itself is told at once.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Returns once `ready` holds for the view, which is looked at after every growth of one of `partitions` and about once a
/// second, or when `deadline` is over.
///
/// # Errors
/// `overloaded` if too many wait.
pub(super) async fn wait_until<S: Source>(
    source: &S,
    partitions: &[TopicPartition],
    deadline: Instant,
    ready: impl Fn(&State) -> bool + Send,
) -> Result<()> {
    let _waiting = Waiting::begin();
    // Before the first look, so that what grows in between is not missed.
    let mut growth = source.watch_growth(partitions)?;
    while !ready(&source.view()) {
        let now = Instant::now();
        if now >= deadline {
            break;
        }
        tokio::select! {
            biased;
            () = growth.changed() => {}
            () = sleep_until(deadline.min(now + LOOK_INTERVAL)) => {}
        }
    }
    Ok(())
}

/// Counts a waiter while it lives, also one whose caller went away.
struct Waiting;

impl Waiting {
    fn begin() -> Self {
        gauge!(FETCH_WAITING).increment(1);
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        gauge!(FETCH_WAITING).decrement(1);
    }
}
