//! Admission: how many bytes of produce requests this process holds before Raft has taken them.
//!
//! Σ bytes of the records as encoded, plus 128 for each batch, against one budget for all shards. A request is admitted
//! whole or refused whole with `overloaded`; its permit is given back when the last of its batches was answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::metrics::{counter, gauge};

use crate::error::{Error, Result};
use crate::metrics::{PRODUCE_MEMORY_BUDGET_BYTES, PRODUCE_REFUSED};

/// When a refused request may come again: about what a full budget takes to drain.
const RETRY_AFTER_MS: u64 = 250;

/// The budget. Clones share it.
#[derive(Debug, Clone)]
pub struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    used: AtomicU64,
    limit: u64,
}

impl Admission {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        gauge!(PRODUCE_MEMORY_BUDGET_BYTES).set(limit as f64);
        Self { shared: Arc::new(Shared { used: AtomicU64::new(0), limit }) }
    }

    /// Takes `bytes`. Into an empty budget anything is admitted, so that no setting refuses a valid request for ever.
    ///
    /// # Errors
    /// `overloaded` with `retry_after_ms`; nothing was written.
    pub fn admit(&self, bytes: u64) -> Result<Permit> {
        let take = |used: u64| (used == 0 || used.saturating_add(bytes) <= self.shared.limit).then_some(used + bytes);
        match self.shared.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, take) {
            Ok(_) => Ok(Permit { shared: Arc::clone(&self.shared), bytes }),
            Err(_) => {
                counter!(PRODUCE_REFUSED, "reason" => "memory").increment(1);
                Err(overloaded("the budget for requests that wait to be written is used up", RETRY_AFTER_MS))
            }
        }
    }

    /// Bytes taken now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared.used.load(Ordering::Acquire)
    }

    /// Bytes there are.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.shared.limit
    }
}

/// Bytes taken from the budget; given back on drop.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// An `overloaded` error that says when to come again.
#[must_use]
pub fn overloaded(message: &str, retry_after_ms: u64) -> Error {
    Error::overloaded(message).with_number("retry_after_ms", retry_after_ms)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::error::{Detail, Outcome};

    #[test]
    fn a_full_budget_refuses_until_a_permit_is_dropped() {
        let admission = Admission::new(100);
        let first = admission.admit(60).unwrap();
        let refused = admission.admit(41).unwrap_err();
        assert_eq!((refused.code(), refused.outcome()), ("overloaded", Outcome::NotWritten));
        assert_eq!(refused.details(), [("retry_after_ms", Detail::Number(RETRY_AFTER_MS))]);
        let second = admission.admit(40).unwrap();
        assert_eq!(admission.used(), 100);
        drop((first, second));
        assert_eq!(admission.used(), 0);
    }

    #[test]
    fn a_request_above_the_whole_budget_is_taken_alone() {
        let admission = Admission::new(100);
        let large = admission.admit(1_000).unwrap();
        assert!(admission.admit(1).is_err());
        drop(large);
        assert!(admission.admit(1).is_ok());
    }
}
