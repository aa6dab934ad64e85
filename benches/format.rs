//! Encoding, checking and decoding of record batches, log entries and segments, on records like the flights of the main
//! job: JSON of about 150 bytes, with a key.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tidelog::format::segment::{self, Footer, FrameReader, SegmentWriter};
use tidelog::format::{batch, command};
use tidelog::model::{
    Append, Command, Compression, LoggedCommand, ObjectId, Record, StoredBatch, Topic, TopicId, TopicPartition,
    TopicSettings,
};

const RECORDS: usize = 5_000;
const ID: ObjectId = ObjectId::from_parts(1_700_000_000_000, 1);

fn records() -> Vec<Record> {
    let airports = ["ATL", "ORD", "DFW", "LAX", "PHX", "DEN", "DTW", "IAH"];
    let record = |n: usize| {
        let (origin, destination) = (airports[n % 8], airports[(n * 7 + n / 8) % 8]);
        let delay = (n * 7919 % 211) as i64 - 20;
        let value = format!(
            r#"{{"date":"2006-0{}-{:02}T{:02}:{:02}:00","delay":{delay},"distance":{},"origin":"{origin}","destination":"{destination}"}}"#,
            1 + n % 9,
            1 + n / 31 % 28,
            n * 13 % 24,
            n * 17 % 60,
            100 + n * 104_729 % 2_500,
        );
        Record {
            timestamp: 1_140_000_000_000 + n as i64 * 60_000,
            key: Some(Bytes::from_static(origin.as_bytes())),
            value: Some(value.into()),
            headers: Vec::new(),
        }
    };
    (0..RECORDS).map(record).collect()
}

fn stored(records: &[Record], compression: Compression) -> StoredBatch {
    let encoded = batch::encode(records, compression, None).unwrap();
    StoredBatch {
        base_offset: 0,
        count: encoded.info.count,
        max_timestamp: encoded.info.max_timestamp,
        append_time: 0,
        bytes: encoded.bytes,
    }
}

fn batches(c: &mut Criterion) {
    let records = records();
    let payload: usize = records.iter().map(Record::payload_len).sum();
    for compression in [Compression::None, Compression::Zstd] {
        let mut group = c.benchmark_group(format!("batch/{}", compression.as_str()));
        group.throughput(Throughput::Bytes(payload as u64));
        group.bench_function("encode", |b| b.iter(|| batch::encode(black_box(&records), compression, None).unwrap()));
        let stored = stored(&records, compression);
        println!("{} bytes of payload, {} encoded", payload, stored.bytes.len());
        let limits = batch::CheckLimits::default();
        group.bench_function("check", |b| b.iter(|| batch::check(black_box(&stored.bytes), None, &limits).unwrap()));
        group.bench_function("open", |b| {
            b.iter(|| {
                let open = batch::open(black_box(&stored)).unwrap();
                open.records().map(|record| record.unwrap().payload_len()).sum::<usize>()
            });
        });
        group.bench_function("decode", |b| b.iter(|| batch::decode(black_box(&stored)).unwrap()));
        group.finish();
    }
}

/// What one small request costs: the fixed part.
fn small_batches(c: &mut Criterion) {
    let records = &records()[..4];
    let batch = stored(records, Compression::Zstd);
    let mut group = c.benchmark_group("batch/four records, zstd");
    group.throughput(Throughput::Elements(4));
    group.bench_function("encode", |b| {
        b.iter(|| batch::encode(black_box(records), Compression::Zstd, None).unwrap());
    });
    group.bench_function("decode", |b| b.iter(|| batch::decode(black_box(&batch)).unwrap()));
    group.finish();
}

fn commands(c: &mut Criterion) {
    let encoded = batch::encode(&records(), Compression::Zstd, None).unwrap();
    let append = |partition| Append {
        partition: TopicPartition::new(topic().id, partition),
        batch: encoded.bytes.clone(),
        position: 0,
        info: encoded.info,
        triple: None,
        idempotency: None,
        digest: 1 << 127,
        expected_offset: None,
    };
    let logged = LoggedCommand { log_time: 1, command: Command::Append((0..16).map(append).collect()) };
    let bytes = command::encode(&logged).unwrap();
    let mut group = c.benchmark_group("command");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode", |b| b.iter(|| command::encode(black_box(&logged)).unwrap()));
    group.bench_function("decode", |b| b.iter(|| command::decode(black_box(&bytes)).unwrap()));
    group.finish();
}

fn topic() -> Topic {
    Topic {
        id: TopicId(uuid::Uuid::from_u128(1)),
        name: "flights".to_owned(),
        namespace: "default".to_owned(),
        settings: TopicSettings::default(),
        created_at: 0,
        deleted_at: None,
    }
}

fn write_segment(topic: &Topic, batch: &StoredBatch) -> segment::FinishedSegment {
    let mut writer = SegmentWriter::new(ID);
    let mut batch = batch.clone();
    for partition in 0..4 {
        batch.base_offset = 0;
        while writer.len() < u64::from(partition + 1) * segment::TARGET_BYTES / 4 {
            writer.push(topic, partition, &batch).unwrap();
            batch.base_offset += u64::from(batch.count);
        }
    }
    writer.finish().unwrap()
}

fn segments(c: &mut Criterion) {
    let topic = topic();
    let batch = stored(&records()[..1000], Compression::Zstd);
    let finished = write_segment(&topic, &batch);
    let object = Bytes::from(finished.bytes.concat());
    let footer_start = finished.info.footer_start;
    let footer = object.slice(footer_start as usize..);
    let mut group = c.benchmark_group("segment");
    group.throughput(Throughput::Bytes(object.len() as u64));
    group.sample_size(20);
    group.bench_function("write", |b| {
        b.iter_batched(|| (), |()| write_segment(&topic, &batch), BatchSize::PerIteration)
    });
    group.bench_function("read", |b| {
        b.iter(|| {
            let footer = Footer::decode(ID, &footer).unwrap();
            footer
                .ranges()
                .map(|range| {
                    let mut reader = FrameReader::new(range, footer.position_of(range.partition, range.start).unwrap());
                    let mut batches = 0;
                    while let Some(index) = reader.needs() {
                        let block = segment::block_bytes(index, footer_start);
                        let block = object.slice(block.start as usize..block.end as usize);
                        reader.feed(&segment::verify_block(ID, index, &block).unwrap()).unwrap();
                        while reader.next().unwrap().is_some() {
                            batches += 1;
                        }
                    }
                    batches
                })
                .sum::<u32>()
        });
    });
    group.finish();
}

criterion_group!(benches, batches, small_batches, commands, segments);
criterion_main!(benches);
