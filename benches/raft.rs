//! The Raft log's acknowledgements against the disk's own: 1 KiB entries at 1 and 64 in flight, beside bare
//! write + `fdatasync` of as many bytes in the same run.
//!
//! Absolute figures are the disk's; what counts is the ratio. Set `TIDELOG_BENCH_DIR` to choose the disk.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use futures::stream::{FuturesUnordered, StreamExt};
use tidelog::format::command;
use tidelog::model::{
    Append, BatchInfo, Command, Control, Incarnation, LoggedCommand, NamedSettings, NodeId, ShardId, TopicId,
    TopicPartition, TopicSettings,
};
use tidelog::raft::{Alone, RaftNode, RaftOptions, Start};
use uuid::Uuid;

const ENTRY_BYTES: usize = 1024;
const TOPIC: TopicId = TopicId(Uuid::from_u128(1));

fn encode(command: Command) -> Bytes {
    command::encode(&LoggedCommand { log_time: 1, command }).expect("a command can be encoded")
}

fn append() -> Bytes {
    let info = BatchInfo { count: 1, len: ENTRY_BYTES as u32, max_timestamp: 1 };
    encode(Command::Append(vec![Append {
        partition: TopicPartition::new(TOPIC, 0),
        batch: Bytes::from(vec![0x5a; ENTRY_BYTES]),
        position: 0,
        info,
        triple: None,
        idempotency: None,
        digest: 0,
        expected_offset: None,
    }]))
}

async fn node(dir: &std::path::Path) -> RaftNode {
    let node = RaftNode::start(RaftOptions {
        wal_dir: dir.to_owned(),
        directory: Uuid::from_u128(2),
        shard: ShardId(0),
        incarnation: Incarnation(1),
        node: NodeId(1),
        tail_memory: 64 << 20,
        wal_keep: 0,
        wal_file_size: 16 << 20,
        wal_spare: 1 << 30,
        election_timeout: Duration::from_millis(750),
        heartbeat: Duration::from_millis(150),
        advertise: String::new(),
        transport: Arc::new(Alone),
        checkpoints: Arc::new(Alone),
        start: Start::alone(NodeId(1), Uuid::from_u128(2)),
    })
    .await
    .expect("a node can be started");
    node.ready().await;
    let create = Control::CreateTopic {
        id: TOPIC,
        name: "bench".to_owned(),
        settings: TopicSettings::default(),
        named: NamedSettings::default(),
    };
    node.propose(encode(Command::Control(create))).await.expect("a topic can be created");
    node
}

/// Proposes `count` entries, `in_flight` at a time.
async fn propose(node: &RaftNode, entry: &Bytes, count: u64, in_flight: usize) -> Duration {
    let begun = Instant::now();
    let mut waiting = FuturesUnordered::new();
    for _ in 0..count {
        if waiting.len() >= in_flight {
            waiting.next().await;
        }
        let (node, entry) = (node.clone(), entry.clone());
        waiting.push(tokio::spawn(async move { node.propose(entry).await.expect("the node leads") }));
    }
    while waiting.next().await.is_some() {}
    begun.elapsed()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    let base = std::env::var_os("TIDELOG_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(base).expect("a directory for the log");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let entry = append();
    let mut group = criterion.benchmark_group("raft_1kib");
    group.throughput(Throughput::Elements(1));

    let mut file = File::create(dir.path().join("bare")).expect("a file");
    group.bench_function("write_fdatasync", |bencher| {
        bencher.iter(|| file.write_all(&entry).and_then(|()| file.sync_data()).expect("the disk takes it"));
    });
    let node = runtime.block_on(node(&dir.path().join("wal")));
    for in_flight in [1, 64] {
        group.bench_function(format!("propose_{in_flight}_in_flight"), |bencher| {
            bencher.iter_custom(|count| runtime.block_on(propose(&node, &entry, count, in_flight)));
        });
    }
    group.finish();
    criterion.final_summary();
    runtime.block_on(node.shutdown());
}
