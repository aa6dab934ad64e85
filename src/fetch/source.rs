//! What fetch needs of a shard's Raft node; a trait so that tests can stand in for it.

use std::future::Future;

use bytes::Bytes;

use crate::error::Result;
use crate::model::{LogIndex, TopicPartition};
use crate::state::State;

/// A shard's replicated state and its log.
pub trait Source: Send + Sync + 'static {
    /// What [`Source::watch_growth`] returns.
    type Growth: Growth;

    /// The state now; O(1).
    fn view(&self) -> State;

    /// The encoded command of an entry; `None` if the log does not have it any more.
    ///
    /// # Errors
    /// If it is damaged or cannot be read.
    fn read_entry(&self, index: LogIndex) -> impl Future<Output = Result<Option<Bytes>>> + Send;

    /// Whether the view may be read although nobody was asked whether it is the newest.
    ///
    /// # Errors
    /// That it is too old: what it names may be deleted.
    fn usable(&self) -> Result<()> {
        Ok(())
    }

    /// Returns once the view holds all that was committed when it was called.
    ///
    /// # Errors
    /// If no leader could be reached.
    fn linearize(&self) -> impl Future<Output = Result<()>> + Send;

    /// Subscribes to the growth of high watermarks: subscribe, look at the view, then wait, and nothing is missed.
    ///
    /// # Errors
    /// If too many wait.
    fn watch_growth(&self, partitions: &[TopicPartition]) -> Result<Self::Growth>;
}

/// A subscription; dropping it forgets it.
pub trait Growth: Send {
    /// Returns once one of the partitions has grown since the last call, or since the subscription.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}
