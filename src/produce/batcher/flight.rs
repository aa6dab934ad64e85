//! One entry on its way: which submissions share it, its bytes, and the answers for each of them. Pure.

use ::metrics::{counter, histogram};
use bytes::Bytes;

use super::{Content, Waiting};
use crate::error::{Error, Outcome, Result};
use crate::format::{batch, command};
use crate::metrics::{PRODUCE_BATCHES, PRODUCE_ENTRY_BYTES, PRODUCE_RECORDS};
use crate::model::{
    Answer, Append, Appended, BatchOutcome, Command, LogTime, LoggedCommand, Record, Rejection, TopicPartition,
};

/// Submissions that share an entry.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) number: u64,
    pub(super) members: Vec<Waiting>,
    /// For each batch of the entry its members, as indexes.
    batches: Vec<Vec<usize>>,
    /// The partitions it writes to, sorted, each once.
    partitions: Vec<TopicPartition>,
}

impl Flight {
    /// Decides which members share a batch: neighbours in a partition that may be merged, up to `merge_bytes`.
    pub(super) fn plan(number: u64, members: Vec<Waiting>, merge_bytes: u64) -> Self {
        let mut batches: Vec<(Vec<usize>, u64, u64)> = Vec::new();
        let mut last: std::collections::HashMap<TopicPartition, usize> = std::collections::HashMap::new();
        for (index, member) in members.iter().enumerate() {
            let submission = &member.submission;
            let records = u64::from(submission.content.count());
            if let Some((joined, bytes, count)) = last.get(&submission.partition).map(|batch| &mut batches[*batch]) {
                let previous = &members[joined[0]].submission;
                if previous.mergeable()
                    && submission.mergeable()
                    && previous.compression == submission.compression
                    && *bytes + submission.bytes <= merge_bytes
                    && *count + records <= u64::from(batch::MAX_BATCH_RECORDS)
                {
                    joined.push(index);
                    *bytes += submission.bytes;
                    *count += records;
                    continue;
                }
            }
            last.insert(submission.partition, batches.len());
            batches.push((vec![index], submission.bytes, records));
        }
        let mut partitions: Vec<TopicPartition> = last.into_keys().collect();
        partitions.sort_unstable();
        Self { number, members, batches: batches.into_iter().map(|(joined, ..)| joined).collect(), partitions }
    }

    /// Bytes to encode, about.
    pub(super) fn bytes(&self) -> u64 {
        self.members.iter().map(|member| member.submission.bytes).sum()
    }

    /// Counts a proposal of it with an entry of `bytes`.
    pub(super) fn count(&self, bytes: usize) {
        let records = self.members.iter().map(|member| u64::from(member.submission.content.count())).sum();
        counter!(PRODUCE_RECORDS).increment(records);
        counter!(PRODUCE_BATCHES).increment(self.batches.len() as u64);
        histogram!(PRODUCE_ENTRY_BYTES).record(bytes as f64);
    }

    /// Whether both write to one partition, so that the earlier has to enter Raft first.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let mut theirs = other.partitions.iter().peekable();
        self.partitions.iter().any(|partition| {
            while theirs.next_if(|their| *their < partition).is_some() {}
            theirs.peek() == Some(&partition)
        })
    }

    /// The entry.
    ///
    /// # Errors
    /// Only for what validation should have refused.
    pub(super) fn encode(&self, log_time: LogTime) -> Result<Bytes> {
        let appends: Result<Vec<Append>> = self.batches.iter().map(|joined| self.append(joined)).collect();
        command::encode(&LoggedCommand { log_time, command: Command::Append(appends?) })
    }

    fn append(&self, joined: &[usize]) -> Result<Append> {
        let first = &self.members[joined[0]].submission;
        let (batch, info) = match &first.content {
            Content::Encoded(bytes, info) => (bytes.clone(), *info),
            Content::Records(_) => {
                let records = joined.iter().flat_map(|member| self.records(*member));
                let encoded = batch::encode(records, first.compression, first.triple)?;
                (encoded.bytes, encoded.info)
            }
        };
        Ok(Append {
            partition: first.partition,
            batch,
            position: 0,
            info,
            triple: first.triple,
            idempotency: first.idempotency,
            digest: first.digest,
            expected_offset: first.expected_offset,
        })
    }

    fn records(&self, member: usize) -> &[Record] {
        match &self.members[member].submission.content {
            Content::Records(records) => records,
            Content::Encoded(..) => &[],
        }
    }

    /// Answers every member with what `apply` said.
    pub(super) fn answer(self, answer: Answer) {
        let outcomes = match answer {
            Answer::Appended(outcomes) if outcomes.len() == self.batches.len() => outcomes,
            Answer::Rejected(rejection) => vec![Err(rejection); self.batches.len()],
            _ => {
                let defect = || Error::internal("the answer does not fit the entry").with_outcome(Outcome::Unknown);
                self.members.into_iter().for_each(|member| member.answer(Err(defect())));
                return;
            }
        };
        let mut members: Vec<Option<Waiting>> = self.members.into_iter().map(Some).collect();
        for (joined, outcome) in self.batches.iter().zip(outcomes) {
            let mut before = 0;
            for member in joined.iter().filter_map(|member| members[*member].take()) {
                let count = member.submission.content.count();
                member.answer(share(&outcome, before, count));
                before += u64::from(count);
            }
        }
    }

    /// Takes the flight apart, in order of arrival.
    pub(super) fn into_members(self) -> Vec<Waiting> {
        self.members
    }
}

/// What a batch's outcome means to one of its members: `count` records after `before` others.
fn share(outcome: &BatchOutcome, before: u64, count: u32) -> Result<Appended> {
    match outcome {
        Ok(appended) => Ok(Appended { base_offset: appended.base_offset + before, count, ..*appended }),
        Err(rejection) => Err(Error::from(Rejection::clone(rejection))),
    }
}
