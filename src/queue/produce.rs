//! Produce and producers.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::topics::topic_not_found;
use super::{ProducerPosition, Queue};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::failpoint;
use crate::model::{Acks, Answer, Appended, Control, ProduceRequest, Produced, ProducerId, Rejection, Topic, TopicId};
use crate::planted::{self, Bug};
use crate::produce::{Context, Layout, Pending, digest, prepare};

/// Bytes of a producer's name.
const MAX_PRODUCER_NAME: usize = 249;

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
        let (layout, pending) = self.submit(request, deadline).await?;
        if acks == Acks::None {
            layout.count_unanswered(pending.iter().map(Result::is_ok));
            return without_waiting(pending, layout.topic_id());
        }
        let (mut layout, mut answers) = (layout, answers(pending).await);
        // The topic grew between the assignment under a key and its place in the log. Assigned anew, what was written already
        // is found as such, and the rest goes where a retry will look for it.
        while let Some(again) = again.as_ref().filter(|_| answers.iter().any(is_assigned_among_others))
            && Instant::now() < deadline
        {
            let Ok((anew, pending)) = self.submit(again.clone(), deadline).await else { break };
            (layout, answers) = (anew, self::answers(pending).await);
        }
        let written = answers.iter().filter_map(|answer| answer.as_ref().ok());
        let written = written.filter(|one| !(one.duplicate && planted::is(Bug::ObjectForUnflushedDuplicate)));
        let newest = written.map(|appended| appended.log_index).max();
        let mut produced = layout.finish(answers);
        if let (Acks::Object, Some(index)) = (acks, newest) {
            produced.flush_failure = self.wait_flushed(index, deadline).await.err();
        }
        Ok(produced)
    }

    /// Assigns the records to partitions and queues them.
    async fn submit(&self, request: ProduceRequest, deadline: Instant) -> Result<(Layout, Vec<Result<Pending>>)> {
        let topic = self.topic_with(&request.topic, request.topic_id, request.partition).await?;
        let context = self.context(topic, &request);
        let prepared = prepare(request, context).await?;
        failpoint::hit_async("produce.assigned").await?;
        let permit = self.admission().admit(prepared.charge())?;
        let (submissions, layout) = prepared.submit(permit, deadline);
        Ok((layout, submissions.into_iter().map(|submission| self.batcher().submit(submission)).collect()))
    }

    /// Waits until all at or below `index` is in the bucket, a committed checkpoint saying so.
    async fn wait_flushed(&self, index: u64, deadline: Instant) -> Result<()> {
        let flushed = timeout_at(deadline, self.flusher().flushed(index)).await;
        let late = |_| {
            let message =
                "the records are written, but not yet in the bucket; wait for the flushed offset, do not resend";
            Error::new(ErrorKind::Unavailable, "flush_timeout", message)
        };
        flushed.map_err(late)?.map_err(|error| error.with_outcome(Outcome::Written))
    }

    /// Which part of a view is how old does not matter: `apply` declines an assignment that another one would contradict.
    fn context(&self, topic: Arc<Topic>, request: &ProduceRequest) -> Context {
        let among = request.idempotency_key.as_deref().and_then(|key| {
            let key = digest::idempotency_key(topic.id, key);
            self.read(|state| state.assigned_among(key))
        });
        Context { topic, now: request.now, monotonic: self.clock().monotonic(), sticky: self.sticky(), among }
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
        let topic_state = self.topic(topic, topic_id)?;
        let positions = self.read(|state| {
            state.topic(topic_state.id).ok_or_else(|| topic_not_found(topic))?;
            Ok::<_, Error>(state.producer_positions(id, topic_state.id))
        })?;
        let positions: Vec<ProducerPosition> = positions
            .into_iter()
            .filter_map(|(partition, position)| ProducerPosition::new(partition, position))
            .collect();
        if positions.is_empty() {
            let message = format!("topic {topic} remembers nothing of producer {id}");
            return Err(Error::new(ErrorKind::NotFound, "producer_not_found", message));
        }
        Ok(positions)
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
