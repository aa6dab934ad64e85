//! Produce and producers.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::topics::topic_not_found;
use super::{ProducerPosition, Queue};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::model::{
    Acks, Answer, Appended, Control, ProduceRequest, Produced, ProducerId, Topic, TopicId, TopicPartition,
};
use crate::produce::{Context, Growth, Pending, prepare};

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
        let topic = self.topic(&request.topic, request.topic_id)?;
        let context = self.context(topic);
        let prepared = prepare(request, context).await?;
        let permit = self.admission().admit(prepared.charge())?;
        let (submissions, layout) = prepared.submit(permit, deadline);
        let pending: Vec<Result<Pending>> =
            submissions.into_iter().map(|submission| self.batcher().submit(submission)).collect();
        if acks == Acks::None {
            return without_waiting(pending, layout.topic_id());
        }
        // One after another: all were submitted above, and each waits until the same deadline.
        let mut answers: Vec<Result<Appended>> = Vec::with_capacity(pending.len());
        for pending in pending {
            answers.push(match pending {
                Ok(pending) => pending.wait().await,
                Err(refused) => Err(refused),
            });
        }
        let newest = answers.iter().filter_map(|answer| answer.as_ref().ok()).map(|appended| appended.log_index).max();
        let mut produced = layout.finish(answers);
        if let (Acks::Object, Some(index)) = (acks, newest) {
            produced.flush_failure = self.wait_flushed(index, deadline).await.err();
        }
        Ok(produced)
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

    fn context(&self, topic: Arc<Topic>) -> Context {
        let growth = topic.grown.and_then(|(at, partitions)| {
            let remembered =
                self.read(|state| state.log_time().saturating_sub(at) <= state.limits().idempotency_window_ms);
            let (queue, id) = (self.clone(), topic.id);
            remembered.then(|| Growth {
                partitions,
                remembers: Arc::new(move |partition, key| {
                    queue.read(|state| state.remembers(TopicPartition::new(id, partition), key))
                }),
            })
        });
        let clock = self.clock();
        Context { topic, now: clock.wall(), monotonic: clock.monotonic(), sticky: self.sticky(), growth }
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
