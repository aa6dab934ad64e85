//! Limits that the state machine itself enforces: replicated, so that every replica decides alike.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Config;

/// Set by a command when a leader's configuration differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// A producer of a partition that has been idle for longer is forgotten.
    pub producer_expiry_ms: u64,
    /// Producers remembered for a partition; the longest idle goes first.
    pub producers_per_partition: u32,
    /// How long an idempotency key is remembered.
    pub idempotency_window_ms: u64,
    /// Idempotency keys remembered in a shard; the oldest goes first.
    pub idempotency_keys: u32,
    /// How long a deleted topic can be undeleted.
    pub topic_delete_grace_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            producer_expiry_ms: 7 * 24 * 3_600_000,
            producers_per_partition: 4_096,
            idempotency_window_ms: 600_000,
            idempotency_keys: 200_000,
            topic_delete_grace_ms: 24 * 3_600_000,
        }
    }
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            producer_expiry_ms: millis(config.producer.expiry),
            producers_per_partition: config.producer.per_partition,
            idempotency_window_ms: millis(config.idempotency.window),
            idempotency_keys: config.idempotency.keys,
            topic_delete_grace_ms: millis(config.topic.delete_grace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_configuration_has_the_default_limits() {
        assert_eq!(Limits::from(&Config::default()), Limits::default());
    }
}
