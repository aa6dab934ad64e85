//! Producing: batches of JSON records for one partition, under a producer triple or not.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use tidelog_api::fetch::FetchedRecord;
use tidelog_api::headers;
use tidelog_api::produce::ProduceResponse;

use crate::call::{Call, Safety};
use crate::error::{Error, Result};
use crate::topic::Topic;

/// Sequences are modulo this, as in Kafka.
pub const SEQUENCE_MODULUS: u64 = 1 << 31;
/// What an attempt may take beyond the time that the server waits.
const MARGIN: Duration = Duration::from_secs(10);

/// When a produce request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// At once, without a promise.
    None,
    /// Synced on a majority of voters.
    #[default]
    Quorum,
    /// In the bucket, and named by a checkpoint.
    Object,
}

impl Acks {
    /// The value of the parameter.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quorum => "quorum",
            Self::Object => "object",
        }
    }
}

/// Records as NDJSON, ready to be sent: one record a line as in the API.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The lines.
    pub lines: Bytes,
    /// How many.
    pub count: u32,
}

impl Topic {
    /// Sends records without a producer. `partition: None` leaves the choice to the server; an `idempotency_key` makes the
    /// request repeatable.
    ///
    /// # Errors
    /// See [`Error::outcome`] for what was written.
    pub async fn produce(
        &self,
        partition: Option<u32>,
        batch: &Batch,
        acks: Acks,
        timeout: Duration,
        idempotency_key: Option<&str>,
    ) -> Result<ProduceResponse> {
        let safety = if idempotency_key.is_some() { Safety::Repeatable } else { Safety::Once };
        let mut call = self.produce_call(partition, batch, acks, timeout, safety)?;
        if let Some(key) = idempotency_key {
            call = call.header(headers::IDEMPOTENCY_KEY, key);
        }
        call.send_for(self.client()).await
    }

    fn produce_call(
        &self,
        partition: Option<u32>,
        batch: &Batch,
        acks: Acks,
        timeout: Duration,
        safety: Safety,
    ) -> Result<Call> {
        let number = partition.map(|partition| partition.to_string());
        let path: &[&str] = match &number {
            Some(number) => &["partitions", number, "records"],
            None => &["records"],
        };
        Ok(self
            .call(Method::POST, path, safety)?
            .query("acks", acks.as_str())
            .query("timeout_ms", timeout.as_millis())
            .timeout(Some(timeout + MARGIN))
            .body(headers::NDJSON, batch.lines.clone()))
    }
}

/// An idempotent producer of one topic: whatever breaks, a batch that it sends is written once.
///
/// For each partition one batch may be under way at a time; [`Producer::send`] for different partitions may overlap.
#[derive(Debug)]
pub struct Producer {
    topic: Topic,
    id: u64,
    epoch: u16,
    /// Records sent and acknowledged so far, by partition: the next sequence.
    next: Mutex<HashMap<u32, u64>>,
    /// The offset of each partition's last record when the producer was taken up again.
    resumed_after: HashMap<u32, u64>,
}

impl Producer {
    /// Registers a producer: a fresh one without a name; a named one fences its older holder, and begins at sequence 0. It may
    /// fence itself, too: see [`Client::register_producer`](crate::Client::register_producer).
    ///
    /// # Errors
    /// Those of any write.
    pub async fn register(topic: Topic, name: Option<&str>) -> Result<Self> {
        let registered = topic.client().register_producer(name).await?;
        let (id, epoch) = (registered.producer_id, registered.epoch);
        Ok(Self { topic, id, epoch, next: Mutex::default(), resumed_after: HashMap::new() })
    }

    /// Takes up a named producer where it stopped, under the epoch that it had: whoever held it before and is still
    /// running collides with us by sequence, so nothing is written twice. Only one that was written under is found.
    ///
    /// # Errors
    /// `producer_not_found` if the name is not known or no partition remembers it.
    pub async fn resume(topic: Topic, name: &str) -> Result<Self> {
        let found = topic.client().find_producer(name).await?;
        let state = topic.producer_state(found.producer_id).await?;
        let of_epoch = state.partitions.iter().filter(|partition| partition.epoch == found.epoch);
        let next = of_epoch.map(|partition| (partition.partition, u64::from(partition.last_sequence) + 1)).collect();
        let last = state.partitions.iter().filter(|partition| partition.epoch == found.epoch);
        let last = last.map(|partition| (partition.partition, partition.last_offset)).collect();
        Ok(Self { topic, id: found.producer_id, epoch: found.epoch, next: Mutex::new(next), resumed_after: last })
    }

    /// The last record that each partition had of this producer when it was taken up again, with its exact bytes. One that was
    /// trimmed meanwhile is left out.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn resumed_after(&self) -> Result<HashMap<u32, FetchedRecord>> {
        let mut records = HashMap::new();
        for (partition, offset) in &self.resumed_after {
            if let Some(record) = self.topic.record_at(*partition, *offset).await? {
                records.insert(*partition, record);
            }
        }
        Ok(records)
    }

    /// How often the name was registered before.
    #[must_use]
    pub fn epoch(&self) -> u16 {
        self.epoch
    }

    /// The producer's id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Records that each partition has acknowledged under this epoch.
    #[must_use]
    pub fn written(&self) -> HashMap<u32, u64> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends the next batch of a partition, again and again until it is acknowledged, the deadline of the client's retries
    /// is over, or the server declines it.
    ///
    /// # Errors
    /// After one the partition can go on only with the same batch. After `producer_fenced` it cannot: register again, but an
    /// attempt before that answer may have written the batch, see [`Topic::producer_state`].
    pub async fn send(&self, partition: u32, batch: &Batch, acks: Acks, timeout: Duration) -> Result<ProduceResponse> {
        let sequence = self.next.lock().unwrap_or_else(PoisonError::into_inner).get(&partition).copied().unwrap_or(0);
        let answer = self.send_at(partition, sequence, batch, acks, timeout).await?;
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.insert(partition, sequence + u64::from(batch.count));
        Ok(answer)
    }

    async fn send_at(
        &self,
        partition: u32,
        sequence: u64,
        batch: &Batch,
        acks: Acks,
        timeout: Duration,
    ) -> Result<ProduceResponse> {
        if batch.count == 0 {
            return Err(Error::Invalid("a batch has at least one record".to_owned()));
        }
        self.topic
            .produce_call(Some(partition), batch, acks, timeout, Safety::Repeatable)?
            .header(headers::PRODUCER_ID, self.id)
            .header(headers::PRODUCER_EPOCH, self.epoch)
            .header(headers::PRODUCER_SEQUENCE, sequence % SEQUENCE_MODULUS)
            .send_for(self.topic.client())
            .await
    }
}
