//! Bytes that incoming bodies may hold at once.
//!
//! Who gets no share is refused and does not wait: an unread body would keep its part of the connection's window, and with it
//! the heartbeats of all who wait behind it. Small bodies need no share for the same reason; they are bounded by the
//! number of connections and of streams on each.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest body that needs no share.
pub(super) const SMALL: u64 = 16 << 10;
/// What a permit stands for, so that a large budget is a number that the semaphore takes.
const UNIT: u64 = 1 << 10;

/// See the module; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<Semaphore>);

/// A share of the budget, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        let permits = usize::try_from(bytes / UNIT).unwrap_or(usize::MAX);
        Self(Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))))
    }

    /// A share of `bytes`; `None` if there is not so much left.
    pub(super) fn take(&self, bytes: u64) -> Option<Share> {
        if bytes <= SMALL {
            return Some(Share { _permit: None });
        }
        let permits = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        let permit = Arc::clone(&self.0).try_acquire_many_owned(permits).ok()?;
        Some(Share { _permit: Some(permit) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_given_until_the_budget_is_used_and_come_back() {
        let budget = Budget::new(100 << 10);
        let first = budget.take(60 << 10);
        assert!(first.is_some() && budget.take(60 << 10).is_none());
        assert!(budget.take(SMALL).is_some(), "what is small always passes");
        assert!(budget.take(40 << 10).is_some(), "and what there is room for");
        drop(first);
        assert!(budget.take(100 << 10).is_some());
        assert!(budget.take(u64::MAX).is_none());
    }
}
