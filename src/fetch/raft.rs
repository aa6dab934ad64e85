//! A shard as a [`source::Source`], whether its log is here or not.

use bytes::Bytes;

use super::source;
use crate::error::Result;
use crate::model::{LogIndex, TopicPartition};
use crate::raft::{Growth, Handle};
use crate::state::State;

impl source::Source for Handle {
    type Growth = Growth;

    fn view(&self) -> State {
        Self::view(self)
    }

    async fn read_entry(&self, index: LogIndex) -> Result<Option<Bytes>> {
        Self::read_entry(self, index).await
    }

    fn usable(&self) -> Result<()> {
        Self::usable(self)
    }

    async fn linearize(&self) -> Result<()> {
        Self::linearize(self).await
    }

    fn watch_growth(&self, partitions: &[TopicPartition]) -> Result<Growth> {
        Self::watch_growth(self, partitions)
    }
}

impl source::Growth for Growth {
    async fn changed(&mut self) {
        Self::changed(self).await;
    }
}
