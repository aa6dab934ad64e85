//! Random submissions against a log that fails at random: nothing acknowledged is lost, nothing under a triple or key is
//! written twice, a producer's order holds, and what was reported as not written is not there.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::model::Rejection;

/// A log of one shard, kept the way `apply` keeps it as far as a batcher can tell.
#[derive(Default)]
struct Log {
    partitions: HashMap<TopicPartition, Vec<String>>,
    sequences: HashMap<(ProducerId, TopicPartition), Vec<(u32, Offset)>>,
    keys: HashMap<(IdempotencyKey, TopicPartition), Offset>,
}

impl Log {
    fn apply(&mut self, append: &Append) -> crate::model::BatchOutcome {
        let records = self.partitions.entry(append.partition).or_default();
        let base_offset = records.len() as Offset;
        let appended =
            |base_offset, duplicate| Appended { base_offset, count: append.info.count, duplicate, log_index: 1 };
        if let Some(triple) = append.triple {
            let written = self.sequences.entry((triple.id, append.partition)).or_default();
            if let Some((_, base)) = written.iter().find(|(sequence, _)| *sequence == triple.sequence) {
                return Ok(appended(*base, true));
            }
            let expected = written.len() as u32;
            if triple.sequence != expected {
                return Err(Rejection::SequenceGap { expected });
            }
            written.push((triple.sequence, base_offset));
        }
        if let Some(Keyed { key, .. }) = append.idempotency {
            if let Some(base) = self.keys.get(&(key, append.partition)) {
                return Ok(appended(*base, true));
            }
            self.keys.insert((key, append.partition), base_offset);
        }
        records.extend(values(append));
        Ok(appended(base_offset, false))
    }
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    NotWritten,
    UnknownAndWritten,
    UnknownAndLost,
}

struct Faulty {
    log: Mutex<Log>,
    faults: Mutex<std::vec::IntoIter<Fault>>,
}

impl Proposer for Faulty {
    fn log_time(&self) -> LogTime {
        1
    }

    async fn propose(&self, entry: Bytes) -> Result<(LogIndex, Answer), ProposeFailure> {
        tokio::task::yield_now().await;
        let fault = self.faults.lock().unwrap().next().unwrap_or(Fault::None);
        match fault {
            Fault::NotWritten => return Err(ProposeFailure::NotWritten),
            Fault::UnknownAndLost => return Err(ProposeFailure::Unknown),
            Fault::None | Fault::UnknownAndWritten => {}
        }
        let Command::Append(appends) = command::decode(&entry).unwrap().command else { unreachable!() };
        let outcomes = {
            let mut log = self.log.lock().unwrap();
            appends.iter().map(|append| log.apply(append)).collect()
        };
        tokio::task::yield_now().await;
        match fault {
            Fault::UnknownAndWritten => Err(ProposeFailure::Unknown),
            _ => Ok((1, Answer::Appended(outcomes))),
        }
    }
}

/// What is submitted: partition, records, kind (plain, producer, key), and whether the batcher runs before the next.
type Step = (u32, usize, u8, bool);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0..3u32, 1..4usize, 0..4u8, any::<bool>()), 1..60)
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        3 => Just(Fault::None),
        1 => Just(Fault::NotWritten),
        1 => Just(Fault::UnknownAndWritten),
        1 => Just(Fault::UnknownAndLost),
    ];
    // Few enough that backoff does not make a case slow.
    prop::collection::vec(fault, 0..10)
}

async fn run(steps: Vec<Step>, faults: Vec<Fault>) {
    let proposer = Arc::new(Faulty { log: Mutex::default(), faults: Mutex::new(faults.into_iter()) });
    let mut options = BatcherOptions::new(Arc::new(|| Ok(())));
    options.entry_bytes = 400;
    let (batcher, task) = Batcher::start(Arc::clone(&proposer), options);
    let bench = Bench::new(1);
    let mut sequences: HashMap<(u64, u32), u32> = HashMap::new();
    let mut expected = Vec::new();
    for (number, (partition, count, kind, run)) in steps.into_iter().enumerate() {
        let texts: Vec<String> = (0..count).map(|record| format!("{number}-{record}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut submission = bench.many(partition, &texts);
        match kind {
            0 => {}
            1 | 2 => {
                let sequence = sequences.entry((u64::from(kind), partition)).or_default();
                submission.triple = triple(u64::from(kind), *sequence);
                *sequence += 1;
            }
            _ => submission.idempotency = Some(keyed(number as u128)),
        }
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        expected.push((submission.partition, texts, kind, batcher.submit(submission).unwrap()));
        if run {
            tokio::task::yield_now().await;
        }
    }
    let mut answers = Vec::new();
    for (partition, texts, kind, pending) in expected {
        answers.push((partition, texts, kind, pending.wait().await));
    }
    drop(batcher);
    task.await.unwrap();
    assert_eq!(bench.admission.used(), 0);
    check(&proposer.log.lock().unwrap(), answers);
}

fn check(log: &Log, answers: Vec<(TopicPartition, Vec<String>, u8, Result<Appended>)>) {
    let written: Vec<&String> = log.partitions.values().flatten().collect();
    assert_eq!(written.iter().collect::<HashSet<_>>().len(), written.len(), "written twice");
    for (partition, texts, kind, answer) in answers {
        let records = log.partitions.get(&partition).map_or(&[][..], Vec::as_slice);
        match answer {
            Ok(appended) => {
                let start = appended.base_offset as usize;
                assert_eq!(&records[start..start + texts.len()], texts, "not at the offset that was acknowledged");
            }
            Err(error) if error.outcome() == Outcome::NotWritten => {
                assert!(!records.contains(&texts[0]), "{texts:?} was reported as not written: {error:?}");
            }
            Err(_) => assert_eq!(kind, 0, "{texts:?} could have been repeated"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn promises_hold_whatever_fails(steps in steps(), faults in faults()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run(steps, faults));
    }
}
