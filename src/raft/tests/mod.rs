//! The node as a whole: proposals, restarts, flushes, starts from a checkpoint.
#![allow(clippy::unwrap_used)]

mod begin;
mod cancelled;
mod elections;
mod forwarding;
mod group;
mod lost;
mod membership;
mod node;
mod remote;
mod replication;
mod restart;
mod snapshots;
mod versions;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::format::{checkpoint, command};
use crate::model::{
    Answer, Append, BatchInfo, CheckpointRef, Command, Control, Incarnation, IndexPartRef, LogIndex, LoggedCommand,
    NamedSettings, NodeId, ObjectId, SegmentInfo, SegmentRange, ShardId, TopicId, TopicPartition, TopicSettings,
};

const DIRECTORY: Uuid = Uuid::from_u128(0xd1);
pub(super) const SHARD: ShardId = ShardId(0);
pub(super) const TOPIC: TopicId = TopicId(Uuid::from_u128(0x70));
pub(super) const PARTITION: TopicPartition = TopicPartition::new(TOPIC, 0);

pub(super) fn options(dir: &Path, start: Start) -> RaftOptions {
    RaftOptions {
        wal_dir: dir.to_owned(),
        directory: DIRECTORY,
        shard: SHARD,
        incarnation: Incarnation(1),
        node: NodeId(1),
        tail_memory: 1 << 20,
        wal_keep: 0,
        wal_file_size: 16 << 20,
        wal_spare: 64 << 20,
        // Far more than a machine with other work holds a thread up: leaders are to stay where a test has them.
        election_timeout: Duration::from_millis(500),
        heartbeat: Duration::from_millis(100),
        advertise: String::new(),
        transport: Arc::new(Alone),
        checkpoints: Arc::new(Alone),
        start,
    }
}

/// A group of one.
pub(super) fn new() -> Start {
    Start::alone(NodeId(1), DIRECTORY)
}

/// Starts a node and waits until it leads.
pub(super) async fn run(options: RaftOptions) -> RaftNode {
    let node = RaftNode::start(options).await.unwrap();
    node.ready().await;
    node
}

pub(super) fn control(control: Control) -> Bytes {
    command::encode(&LoggedCommand { log_time: 1_000, command: Command::Control(control) }).unwrap()
}

pub(super) fn create_topic() -> Bytes {
    control(Control::CreateTopic {
        id: TOPIC,
        name: "t".to_owned(),
        settings: TopicSettings::default(),
        named: NamedSettings::default(),
    })
}

/// An append of one record; the state does not look into the batch.
pub(super) fn append(len: usize) -> Bytes {
    let batch = Bytes::from(vec![7; len]);
    let info = BatchInfo { count: 1, len: u32::try_from(len).unwrap(), max_timestamp: 5 };
    let append = Append {
        partition: PARTITION,
        batch,
        position: 0,
        info,
        triple: None,
        idempotency: None,
        digest: 0,
        expected_offset: None,
    };
    command::encode(&LoggedCommand { log_time: 2_000, command: Command::Append(vec![append]) }).unwrap()
}

/// What a flush of all of the tail would write and propose.
pub(super) fn flush(node: &RaftNode, term: u64) -> (Control, CheckpointFiles) {
    let view = node.view();
    let index = view.applied();
    let id = |kind: u128| ObjectId::from_parts(3_000, (u128::from(index) << 8) | kind);
    let mut ranges = Vec::new();
    for partition in view.unflushed() {
        let tail = partition.tail();
        let (first, last) = (tail.front().unwrap(), tail.back().unwrap());
        ranges.push(SegmentRange {
            partition: partition.id(),
            start: first.base_offset,
            end: last.end_offset(),
            position: 0,
            len: tail.iter().map(|batch| u64::from(batch.len)).sum(),
            max_timestamp: last.max_timestamp,
            min_append_time: first.append_time,
            max_append_time: last.append_time,
        });
    }
    let (mut segments, mut segment_ranges) = (Vec::new(), Vec::new());
    if !ranges.is_empty() {
        segments.push(SegmentInfo {
            id: id(1),
            bytes: 1000,
            footer_start: 900,
            min_append_time: ranges[0].min_append_time,
            max_append_time: ranges[0].max_append_time,
        });
        segment_ranges.push(ranges);
    }
    let numbers = view.parts_to_write(segments.len()).into_iter();
    let parts: Vec<IndexPartRef> =
        numbers.map(|part| IndexPartRef { part, id: id(16 + u128::from(part)), written_at: index }).collect();
    let reference = CheckpointRef { incarnation: view.incarnation(), index, id: id(2) };
    let flushed = Control::Flushed {
        previous: view.flushed_index(),
        index,
        segments: segments.clone(),
        ranges: segment_ranges.clone(),
        checkpoint: reference,
        parts: parts.clone(),
    };
    let (mut content, contents) = view.checkpoint(&flushed).unwrap();
    content.term = term;
    let files = CheckpointFiles {
        reference,
        checkpoint: checkpoint::encode_checkpoint(&content).unwrap(),
        parts: parts
            .iter()
            .zip(&contents)
            .map(|(part, content)| (part.id, checkpoint::encode_part(content).unwrap()))
            .collect(),
        ranges: segments.iter().map(|segment| segment.id).zip(segment_ranges).collect(),
    };
    (flushed, files)
}

/// Flushes and adopts.
pub(super) async fn flush_and_adopt(node: &RaftNode) -> LogIndex {
    let (flushed, files) = flush(node, node.status().term);
    node.stage_checkpoint(&files).await.unwrap();
    let index = files.reference.index;
    let (_, answer) = node.propose(control(flushed)).await.unwrap();
    assert_eq!(answer, Answer::Done);
    node.adopt_checkpoint(files).await.unwrap();
    index
}

/// How often a directory is copied until no file is renamed meanwhile.
pub(crate) const COPIES: usize = 1_000;

/// A copy of all files as a kill would leave them: one during which no file was renamed or removed.
pub(super) fn copy(dir: &Path) -> TempDir {
    fn names(dir: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                names(&entry.path(), found);
            }
            found.insert(entry.path());
        }
    }
    fn into(dir: &Path, names: &BTreeSet<PathBuf>, to: &Path) -> std::io::Result<()> {
        for path in names {
            let target = to.join(path.strip_prefix(dir).unwrap());
            if path.is_dir() {
                std::fs::create_dir_all(target)?;
            } else {
                std::fs::copy(path, target)?;
            }
        }
        Ok(())
    }
    for _ in 0..COPIES {
        let (mut before, mut after) = (BTreeSet::new(), BTreeSet::new());
        let copied = tempfile::tempdir().unwrap();
        names(dir, &mut before);
        let whole = into(dir, &before, copied.path());
        names(dir, &mut after);
        if before == after {
            whole.unwrap();
            return copied;
        }
    }
    panic!("files of {} are renamed all the time", dir.display());
}
