//! A produce request made ready: validated whole, assigned to partitions, and a layout that turns the answers of the
//! partitions back into one answer in request order. Pure but for the hint of where keyless records go.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::admission::Permit;
use super::assign::{Sticky, partition_of_idempotency_key, partition_of_key};
use super::batcher::{Content, Submission};
use super::{digest, validate};
use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};
use crate::format::batch;
use crate::metrics::{Direction, topic_traffic};
use crate::model::{
    Appended, Keyed, Payload, ProduceRequest, Produced, Record, RecordOutcome, Topic, TopicId, TopicPartition, Triple,
};

/// Requests with more bytes are prepared on a thread that may block: checking JSON takes milliseconds for each MiB.
const INLINE_BYTES: u64 = 128 << 10;

/// What a request is prepared against.
#[derive(Clone)]
pub struct Context {
    /// The topic as of now.
    pub topic: Arc<Topic>,
    /// Wall time, for the limit of timestamps.
    pub now: Millis,
    /// Monotonic time, for the sticky assignment.
    pub monotonic: Millis,
    /// Where keyless records go; one for the whole gateway.
    pub sticky: Arc<Sticky>,
    /// The number of partitions among which an earlier attempt under the request's idempotency key was assigned: a retry has to
    /// meet them, though the topic may have grown since.
    pub among: Option<u32>,
}

impl Context {
    /// The number of partitions among which records are assigned. Topics only grow, so a number above the topic's own is of a
    /// newer view than the topic, and not for this one.
    fn among(&self) -> u32 {
        let count = self.topic.settings.partitions;
        self.among.filter(|among| *among > 0 && *among < count).unwrap_or(count)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("topic", &self.topic.name).field("among", &self.among).finish_non_exhaustive()
    }
}

/// A valid request, cut by partition.
#[derive(Debug)]
pub struct Prepared {
    topic: Arc<Topic>,
    parts: Vec<Part>,
    /// For each record the index of its part; empty if there is one part.
    placement: Vec<u32>,
    triple: Option<Triple>,
    idempotency: Option<Keyed>,
    digest: u128,
    expected_offset: Option<u64>,
}

/// What goes to one partition.
#[derive(Debug)]
struct Part {
    partition: u32,
    content: Content,
    /// At most what it takes in a Raft entry.
    bytes: u64,
}

/// Prepares `request`, on a blocking thread if it is large.
///
/// # Errors
/// As [`prepare_now`].
pub async fn prepare(request: ProduceRequest, context: Context) -> Result<Prepared> {
    let bytes: u64 = match &request.payload {
        Payload::Records(records) => records.iter().map(|(_, record)| batch::max_encoded_len(record) as u64).sum(),
        Payload::Batch(batch) => batch.len() as u64,
    };
    if bytes <= INLINE_BYTES {
        return prepare_now(request, &context);
    }
    crate::blocking::spawn(move || prepare_now(request, &context))
        .await
        .map_err(|source| Error::internal("preparing the request failed").with_source(source))?
}

/// Validates `request` and assigns its records to partitions.
///
/// # Errors
/// What is wrong with the request; nothing was written.
pub fn prepare_now(request: ProduceRequest, context: &Context) -> Result<Prepared> {
    validate::check_headers(&request)?;
    let topic = &context.topic;
    if let Some(partition) = request.partition {
        check_partition(topic, partition)?;
    }
    let idempotency = request.idempotency_key.as_deref().map(|key| Keyed {
        key: digest::idempotency_key(topic.id, key),
        among: if request.partition.is_some() { 0 } else { context.among() },
        begun: request.partition.is_none() && context.among == Some(context.among()),
    });
    let repeatable = request.triple.is_some() || idempotency.is_some();
    let rules = validate::Rules::new(&topic.settings, context.now);
    let mut prepared = Prepared {
        topic: Arc::clone(topic),
        parts: Vec::new(),
        placement: Vec::new(),
        triple: request.triple,
        idempotency,
        digest: 0,
        expected_offset: request.expected_offset,
    };
    match request.payload {
        Payload::Records(records) => {
            check_records(&records, request.partition, topic, &rules)?;
            if repeatable {
                prepared.digest = digest::of_records(request.partition, &records);
            }
            prepared.place(records, request.partition, context)?;
        }
        Payload::Batch(bytes) => {
            // `check_headers` saw to it that there is a partition.
            let partition = request.partition.unwrap_or_default();
            if repeatable {
                prepared.digest = digest::of_batch(partition, &bytes);
            }
            prepared.parts.push(batch_part(partition, bytes, request.triple, &rules)?);
        }
    }
    Ok(prepared)
}

fn check_partition(topic: &Topic, partition: u32) -> Result<()> {
    let count = topic.settings.partitions;
    if partition < count {
        return Ok(());
    }
    let message = format!("topic {} has no partition {partition}, it has {count}", topic.name);
    Err(Error::new(ErrorKind::NotFound, "partition_not_found", message))
}

fn check_records(
    records: &[(Option<u32>, Record)],
    route: Option<u32>,
    topic: &Topic,
    rules: &validate::Rules,
) -> Result<()> {
    validate::check_count(records.len())?;
    for (index, (partition, record)) in records.iter().enumerate() {
        if let Some(partition) = *partition {
            check_partition(topic, partition).map_err(|error| error.with_number("index", index as u64))?;
            if let Some(route) = route.filter(|route| *route != partition) {
                let message = format!("the record names partition {partition} on the route of partition {route}");
                return Err(Error::invalid("invalid_record", message).with_number("index", index as u64));
            }
        }
        rules.check(index, record)?;
    }
    Ok(())
}

/// Checks a batch that a client encoded as strictly as records that the gateway encodes.
fn batch_part(partition: u32, bytes: Bytes, triple: Option<Triple>, rules: &validate::Rules) -> Result<Part> {
    validate::check_batch_len(partition, &bytes)?;
    let checked = batch::check(&bytes, triple, &rules.check_limits())?;
    // What a reader has to hold: a batch must not be a small bomb.
    validate::check_partition_bytes(partition, checked.records_len() as u64)?;
    for (index, record) in checked.records().enumerate() {
        rules.check_value(record.value).map_err(|error| error.with_number("index", index as u64))?;
    }
    let info = checked.info;
    Ok(Part { partition, bytes: u64::from(info.len), content: Content::Encoded(checked.bytes, info) })
}

impl Prepared {
    /// Assigns records to partitions.
    fn place(&mut self, records: Vec<(Option<u32>, Record)>, route: Option<u32>, context: &Context) -> Result<()> {
        if let Some(partition) = route {
            let bytes = records.iter().map(|(_, record)| batch::max_encoded_len(record) as u64).sum();
            let content = Content::Records(records.into_iter().map(|(_, record)| record).collect());
            self.parts.push(Part { partition, content, bytes });
        } else {
            let partitions = self.assign(&records, context);
            self.split(records, &partitions);
        }
        self.parts.iter().try_for_each(|part| validate::check_partition_bytes(part.partition, part.bytes))
    }

    /// The partition of each record.
    fn assign(&self, records: &[(Option<u32>, Record)], context: &Context) -> Vec<u32> {
        let count = context.among();
        let Some(Keyed { key, .. }) = self.idempotency else {
            let mut run = context.sticky.begin(self.topic.id, count, context.monotonic);
            let keyless = |record: &Record| run.next(batch::max_encoded_len(record) as u64);
            let partitions = assign_by(records, count, keyless);
            context.sticky.end(run);
            return partitions;
        };
        assign_by(records, count, |_| partition_of_idempotency_key(key, count))
    }

    fn split(&mut self, records: Vec<(Option<u32>, Record)>, partitions: &[u32]) {
        let mut index_of: HashMap<u32, u32> = HashMap::new();
        let mut contents: Vec<Vec<Record>> = Vec::new();
        let total = records.len();
        for ((_, record), partition) in records.into_iter().zip(partitions) {
            let index = *index_of.entry(*partition).or_insert_with(|| {
                self.parts.push(Part { partition: *partition, content: Content::Records(Vec::new()), bytes: 0 });
                contents.push(Vec::with_capacity(if contents.is_empty() { total } else { 8 }));
                u32::try_from(contents.len() - 1).unwrap_or(u32::MAX)
            });
            self.parts[index as usize].bytes += batch::max_encoded_len(&record) as u64;
            contents[index as usize].push(record);
            self.placement.push(index);
        }
        for (part, records) in self.parts.iter_mut().zip(contents) {
            part.content = Content::Records(records);
        }
        if self.parts.len() == 1 {
            self.placement = Vec::new();
        }
    }

    /// Bytes to admit for it.
    #[must_use]
    pub fn charge(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes + crate::model::batch::BATCH_OVERHEAD_BYTES).sum()
    }

    /// The submissions, one for each partition, and the layout that awaits one answer for each, in the same order.
    #[must_use]
    pub fn submit(self, permit: Permit, deadline: Instant) -> (Vec<Submission>, Layout) {
        let permit = Arc::new(permit);
        let laid_out =
            |part: &Part| Placed { partition: part.partition, count: part.content.count(), bytes: part.bytes };
        let parts = self.parts.iter().map(laid_out).collect();
        let topic = Arc::clone(&self.topic);
        let submissions = self.parts.into_iter().map(|part| Submission {
            partition: TopicPartition::new(self.topic.id, part.partition),
            content: part.content,
            bytes: part.bytes,
            compression: self.topic.settings.compression,
            triple: self.triple,
            idempotency: self.idempotency,
            digest: self.digest,
            expected_offset: self.expected_offset,
            deadline,
            permit: Arc::clone(&permit),
        });
        let submissions = submissions.collect();
        (submissions, Layout { topic, parts, placement: self.placement })
    }
}

fn assign_by(records: &[(Option<u32>, Record)], count: u32, mut keyless: impl FnMut(&Record) -> u32) -> Vec<u32> {
    let partition = |(named, record): &(Option<u32>, Record)| match (named, &record.key) {
        (Some(named), _) => *named,
        (None, Some(key)) => partition_of_key(key, count),
        (None, None) => keyless(record),
    };
    records.iter().map(partition).collect()
}

/// How the answers of the partitions make the answer to the request.
#[derive(Debug)]
pub struct Layout {
    topic: Arc<Topic>,
    parts: Vec<Placed>,
    placement: Vec<u32>,
}

/// What an answer is about.
#[derive(Debug, Clone, Copy)]
struct Placed {
    partition: u32,
    count: u32,
    bytes: u64,
}

impl Layout {
    /// The topic that is written to.
    #[must_use]
    pub fn topic_id(&self) -> TopicId {
        self.topic.id
    }

    /// The same as this node knew it.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Counts the traffic of a request whose answers nobody waits for: all that was queued, since what becomes of it is
    /// not told. `queued` is in the order of the submissions.
    pub fn count_unanswered(&self, queued: impl Iterator<Item = bool>) {
        for (part, _) in self.parts.iter().zip(queued).filter(|(_, queued)| *queued) {
            topic_traffic(&self.topic.name, Direction::Produced, u64::from(part.count), part.bytes);
        }
    }

    /// Joins the answers, which are in the order of the submissions.
    #[must_use]
    pub fn finish(self, answers: Vec<Result<Appended>>) -> Produced {
        assert_eq!(answers.len(), self.parts.len(), "one answer for each submission");
        let duplicate = answers.iter().all(|answer| answer.as_ref().is_ok_and(|appended| appended.duplicate));
        let mut failures = Vec::new();
        // The next outcome of each part.
        let mut next: Vec<RecordOutcome> = Vec::with_capacity(answers.len());
        for (answer, part) in answers.into_iter().zip(&self.parts) {
            let partition = part.partition;
            next.push(match answer {
                Ok(appended) => {
                    if !appended.duplicate {
                        topic_traffic(&self.topic.name, Direction::Produced, u64::from(part.count), part.bytes);
                    }
                    RecordOutcome::Written { partition, offset: appended.base_offset }
                }
                Err(error) => {
                    failures.push(error);
                    RecordOutcome::Failed { partition, failure: u32::try_from(failures.len() - 1).unwrap_or(u32::MAX) }
                }
            });
        }
        let mut take = |part: usize| {
            let outcome = next[part];
            if let RecordOutcome::Written { offset, .. } = &mut next[part] {
                *offset += 1;
            }
            outcome
        };
        let records = match self.parts.as_slice() {
            [part] => (0..part.count).map(|_| take(0)).collect(),
            _ => self.placement.iter().map(|part| take(*part as usize)).collect(),
        };
        Produced { topic_id: self.topic.id, records, failures, duplicate, flush_failure: None }
    }
}
