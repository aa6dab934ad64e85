//! Produce and producers.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::{Instant, timeout_at};

use super::route::views;
use super::{ProducerPosition, Queue};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::failpoint;
use crate::model::catalog::CATALOG_SHARD;
use crate::model::{
    Acks, Answer, Appended, Control, IdempotencyKey, LogIndex, ProduceRequest, Produced, ProducerId, Rejection,
    ShardId, Topic, TopicId,
};
use crate::planted::{self, Bug};
use crate::produce::{Context, Layout, Pending, digest, prepare};

/// Bytes of a producer's name.
const MAX_PRODUCER_NAME: usize = 249;
/// Before records under a key are assigned anew: a topic's growth takes about this to reach all shards.
const AGAIN: Duration = Duration::from_millis(10);
/// Topics that are remembered as being in the bucket.
const MAX_SECURED: usize = 65_536;

impl Queue {
    /// Appends records; atomic for each partition. Dropping the future does not take back what was submitted.
    ///
    /// # Errors
    /// What is wrong with the whole request; nothing was written then. What failed in single partitions is in the answer.
    pub async fn produce(&self, request: ProduceRequest) -> Result<Produced> {
        let deadline = Instant::now() + request.timeout;
        let acks = request.acks;
        // Kept only where another assignment may be needed: a clone is cheap, not free.
        let again = (request.idempotency_key.is_some() && request.partition.is_none()).then(|| request.clone());
        let mut submitted = self.submit(request, deadline).await?;
        if acks == Acks::None {
            let Submitted { layout, pending, .. } = submitted;
            layout.count_unanswered(pending.iter().map(Result::is_ok));
            return without_waiting(pending, layout.topic_id());
        }
        let mut answers = answers(std::mem::take(&mut submitted.pending)).await;
        // The topic grew between the assignment under a key and its place in the log. Assigned anew, what was written already
        // is found as such, and the rest goes where a retry will look for it.
        while let Some(again) = again.as_ref().filter(|_| answers.iter().any(is_assigned_among_others))
            && Instant::now() < deadline
        {
            // A node that is behind would assign as before, and each time costs an entry of the log.
            if !self.is_sole_voter() && self.linearize().await.is_err() {
                break;
            }
            tokio::time::sleep(AGAIN).await;
            let Ok(anew) = self.submit(again.clone(), deadline).await else { break };
            submitted = anew;
            answers = self::answers(std::mem::take(&mut submitted.pending)).await;
        }
        let newest = if acks == Acks::Object { newest(&submitted.shards, &answers) } else { BTreeMap::new() };
        let topic = submitted.layout.topic_id();
        if answers.iter().any(is_topic_unknown) && !self.is_sole_voter() {
            // Boxed: it is rare, and every produce would carry it around.
            Box::pin(self.tell_replaced(submitted.layout.topic(), &mut answers, deadline)).await;
        }
        let mut produced = submitted.layout.finish(answers);
        if !newest.is_empty() {
            produced.flush_failure = self.wait_flushed(topic, newest, deadline).await.err();
        }
        Ok(produced)
    }

    /// A node that is behind writes to what it knows under the name. That there is no such topic is told only if there is none:
    /// under another one's id the same request is good.
    async fn tell_replaced(&self, topic: &Topic, answers: &mut [Result<Appended>], deadline: Instant) {
        let late = |_| Err(Error::unavailable("the leader did not answer in time"));
        let now = match timeout_at(deadline, self.linearize()).await.unwrap_or_else(late) {
            Ok(()) => self.topic(&topic.name, None),
            Err(error) => Err(error),
        };
        let message = match now {
            Ok(now) if now.id != topic.id => "the topic was deleted and created again meanwhile",
            Err(error) if error.kind() != ErrorKind::NotFound => "this node may be behind and reaches no leader to ask",
            _ => return,
        };
        for answer in answers.iter_mut().filter(|answer| is_topic_unknown(answer)) {
            *answer = Err(Error::unavailable(format!("{message}; nothing was written, send it again")));
        }
    }

    /// Assigns the records to partitions and queues them, each with the batcher of its shard.
    async fn submit(&self, request: ProduceRequest, deadline: Instant) -> Result<Submitted> {
        let topic = self.topic_with(&request.topic, request.topic_id, request.partition).await?;
        let context = self.context(Arc::clone(&topic), &request).await?;
        let prepared = prepare(request, context).await?;
        failpoint::hit_async("produce.assigned").await?;
        let permit = self.admission().admit(prepared.charge())?;
        let (submissions, layout) = prepared.submit(permit, deadline);
        let (mut shards, mut pending) = (Vec::with_capacity(submissions.len()), Vec::with_capacity(submissions.len()));
        for submission in submissions {
            let shard = self.shard_of(&topic, submission.partition.partition);
            shards.push(shard.as_ref().map_or(CATALOG_SHARD, |shard| shard.id()));
            pending.push(shard.and_then(|shard| shard.batcher().submit(submission)));
        }
        Ok(Submitted { layout, shards, pending })
    }

    /// Waits until all at or below the index of each shard is in the bucket, a committed checkpoint saying so, and the topic too.
    async fn wait_flushed(&self, topic: TopicId, newest: BTreeMap<ShardId, LogIndex>, deadline: Instant) -> Result<()> {
        let each = newest.iter().map(|(shard, index)| async move { self.shard(*shard)?.flush().flushed(*index).await });
        let flushed = async {
            try_join_all(each).await?;
            // Elsewhere than in the catalog's own shard nothing else says that its topics are in the bucket.
            if newest.keys().any(|shard| *shard != CATALOG_SHARD) { self.secure(topic).await } else { Ok(()) }
        };
        let late = |_| {
            let message =
                "the records are written, but not yet in the bucket; wait for the flushed offset, do not resend";
            Error::new(ErrorKind::Unavailable, "flush_timeout", message)
        };
        timeout_at(deadline, flushed).await.map_err(late)?.map_err(|error| error.with_outcome(Outcome::Written))
    }

    /// Returns once the creation of a topic that this node knows is in a checkpoint of the catalog.
    async fn secure(&self, topic: TopicId) -> Result<()> {
        if self.0.secured.has(topic) {
            return Ok(());
        }
        let applied = self.read(|state| state.applied());
        self.0.shards.zero().flush().flushed(applied).await?;
        self.0.secured.add(topic);
        Ok(())
    }

    /// Which part of a view is how old does not matter: `apply` declines an assignment that another one would contradict. What one
    /// shard remembers of a key may count in another once the topic has grown: all of them are asked for the newest then.
    async fn context(&self, topic: Arc<Topic>, request: &ProduceRequest) -> Result<Context> {
        let key = request.idempotency_key.as_deref().map(|key| digest::idempotency_key(topic.id, key));
        let among = match key {
            // Nothing is assigned.
            Some(_) if request.partition.is_some() => None,
            // Boxed: it is rare, and every produce would carry it around.
            Some(key) => Box::pin(self.assigned_among(&topic, key)).await?,
            None => None,
        };
        Ok(Context { topic, now: request.now, monotonic: self.clock().monotonic(), sticky: self.sticky(), among })
    }

    async fn assigned_among(&self, topic: &Topic, key: IdempotencyKey) -> Result<Option<u32>> {
        let shards = self.shards_of(topic.id)?;
        if self.read(|state| state.has_grown(topic.id)) {
            self.linearize_all(&shards).await?;
        }
        Ok(shards.iter().find_map(|shard| shard.leader().node().with_state(|state| state.assigned_among(key))))
    }

    /// Registers a producer; a known name raises its epoch and fences its older holder.
    ///
    /// # Errors
    /// `invalid_parameter` for a bad name, or the log's.
    pub async fn register_producer(&self, name: Option<String>) -> Result<(ProducerId, u16)> {
        if let Some(name) = &name
            && (name.is_empty() || name.len() > MAX_PRODUCER_NAME || name.chars().any(char::is_control))
        {
            let message = format!("a producer's name has 1 to {MAX_PRODUCER_NAME} bytes and no control characters");
            return Err(Error::invalid("invalid_request", message));
        }
        match self.leader().control(Control::RegisterProducer { name }).await?.1 {
            Answer::Producer { id, epoch } => Ok((id, epoch)),
            other => Err(Error::internal(format!("apply answered {other:?} to a registration"))),
        }
    }

    /// The id and the current epoch of a named producer, which this does not raise. A resumed `tidelog produce` goes on under
    /// the epoch that it had, because its sequences count records of that epoch.
    ///
    /// # Errors
    /// `producer_not_found`.
    pub async fn find_producer(&self, name: &str) -> Result<(ProducerId, u16)> {
        self.linearize().await?;
        let found = self.read(|state| state.producer_by_name(name));
        found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "producer_not_found", format!("there is no producer named {name:?}"))
        })
    }

    /// What the partitions of `topic` remember of a producer.
    ///
    /// # Errors
    /// `topic_not_found`, `topic_replaced`, `producer_not_found`.
    pub async fn producer_positions(
        &self,
        id: ProducerId,
        topic: &str,
        topic_id: Option<TopicId>,
    ) -> Result<Vec<ProducerPosition>> {
        self.linearize().await?;
        let known = self.topic(topic, topic_id)?;
        let shards = self.shards_of(known.id)?;
        self.linearize_all(&shards).await?;
        let mut positions: Vec<ProducerPosition> = views(&shards)
            .iter()
            .flat_map(|view| view.producer_positions(id, known.id))
            .filter_map(|(partition, position)| ProducerPosition::new(partition, position))
            .collect();
        positions.sort_unstable_by_key(|position| position.partition);
        if positions.is_empty() {
            let message = format!("topic {topic} remembers nothing of producer {id}");
            return Err(Error::new(ErrorKind::NotFound, "producer_not_found", message));
        }
        Ok(positions)
    }
}

/// A request that waits for its answers.
struct Submitted {
    layout: Layout,
    /// The shard of each part.
    shards: Vec<ShardId>,
    /// One for each part.
    pending: Vec<Result<Pending>>,
}

/// The newest log index that was written to in each shard.
fn newest(shards: &[ShardId], answers: &[Result<Appended>]) -> BTreeMap<ShardId, LogIndex> {
    let mut newest = BTreeMap::new();
    for (shard, answer) in shards.iter().zip(answers) {
        // The first copy of a duplicate counts, whenever that was.
        let counts = |one: &&Appended| !(one.duplicate && planted::is(Bug::ObjectForUnflushedDuplicate));
        if let Some(appended) = answer.as_ref().ok().filter(counts) {
            let known = newest.entry(*shard).or_default();
            *known = appended.log_index.max(*known);
        }
    }
    newest
}

/// Topics of which a checkpoint of the catalog is known to have them. Forgetting one costs a checkpoint more.
#[derive(Debug, Default)]
pub(super) struct Secured(Mutex<HashSet<TopicId>>);

impl Secured {
    fn has(&self, topic: TopicId) -> bool {
        self.lock().contains(&topic)
    }

    fn add(&self, topic: TopicId) {
        let mut known = self.lock();
        if known.len() >= MAX_SECURED {
            known.clear();
        }
        known.insert(topic);
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<TopicId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for all, one after another: they were submitted together, and each waits until the same deadline.
async fn answers(pending: Vec<Result<Pending>>) -> Vec<Result<Appended>> {
    let mut answers = Vec::with_capacity(pending.len());
    for pending in pending {
        answers.push(match pending {
            Ok(pending) => pending.wait().await,
            Err(refused) => Err(refused),
        });
    }
    answers
}

fn is_topic_unknown(answer: &Result<Appended>) -> bool {
    answer.as_ref().is_err_and(|error| error.code() == "topic_not_found")
}

fn is_assigned_among_others(answer: &Result<Appended>) -> bool {
    answer.as_ref().is_err_and(|error| error.code() == Rejection::AssignedAmongOthers.classify().1)
}

/// `acks=none`: what the queue refuses at once is an error all the same.
fn without_waiting(pending: Vec<Result<Pending>>, topic_id: TopicId) -> Result<Produced> {
    let total = pending.len();
    let mut refused: Vec<Error> = pending.into_iter().filter_map(Result::err).collect();
    let count = refused.len();
    match refused.pop() {
        Some(error) if count < total => Err(error.with_outcome(Outcome::Partial)),
        Some(error) => Err(error),
        None => {
            Ok(Produced { topic_id, records: Vec::new(), failures: Vec::new(), duplicate: false, flush_failure: None })
        }
    }
}
