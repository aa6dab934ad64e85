//! Writing and reading archive files: 64 Ki JSON records of about 200 bytes, as flights are.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidelog::format::archive::{ArchiveReader, ArchiveWriter, FinishedArchive, ROW_GROUP_ROWS, append_day};
use tidelog::model::{ObjectId, Record, StoredRecord, Topic, TopicId, TopicSettings, ValueFormat};

const START: u64 = 1_700_000_000_000;

fn topic() -> Topic {
    Topic {
        id: TopicId(uuid::Uuid::from_u128(1)),
        name: "flights".to_owned(),
        namespace: "default".to_owned(),
        settings: TopicSettings { value_format: ValueFormat::Json, ..TopicSettings::default() },
        created_at: START,
        deleted_at: None,
    }
}

fn records() -> Vec<StoredRecord> {
    const AIRPORTS: [&str; 6] = ["ATL", "ORD", "DFW", "DEN", "LAX", "SFO"];
    (0..ROW_GROUP_ROWS as u64)
        .map(|offset| {
            // A multiplicative hash: values that do not repeat in a short cycle.
            let noise = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
            let (origin, dest) = (AIRPORTS[(noise % 6) as usize], AIRPORTS[(noise / 6 % 6) as usize]);
            let value = format!(
                "{{\"date\":\"2006-01-{:02}\",\"delay\":{},\"distance\":{},\"origin\":\"{origin}\",\"destination\":\"{dest}\"}}",
                1 + noise % 28,
                noise % 120,
                noise % 2_500,
            );
            let record = Record {
                timestamp: (START + offset / 16) as i64,
                key: Some(Bytes::from_static(origin.as_bytes())),
                value: Some(value.into()),
                headers: Vec::new(),
            };
            StoredRecord { offset, append_time: START + offset / 16, triple: None, record }
        })
        .collect()
}

fn write(topic: &Topic, records: &[StoredRecord]) -> FinishedArchive {
    let mut writer = ArchiveWriter::new(ObjectId(1), topic, append_day(START)).unwrap();
    for record in records {
        writer.push(0, record).unwrap();
    }
    writer.finish().unwrap()
}

fn archive(c: &mut Criterion) {
    let (topic, records) = (topic(), records());
    let payload: usize = records.iter().map(|record| record.record.payload_len()).sum();
    let mut group = c.benchmark_group("archive");
    group.sample_size(20);

    group.throughput(Throughput::Bytes(payload as u64));
    group.bench_function("write_row_group", |b| b.iter(|| write(&topic, black_box(&records))));

    let file = write(&topic, &records);
    println!("{payload} payload bytes, {} rows, {} file bytes", file.file.rows, file.file.bytes);
    let footer = file.bytes.slice(file.file.footer_start as usize..);
    let reader = ArchiveReader::open(&file.file, footer.clone()).unwrap();
    let place = reader.groups()[0];
    let bytes = file.bytes.slice(place.position as usize..(place.position + place.bytes) as usize);
    group.bench_function("read_row_group", |b| b.iter(|| reader.records(0, bytes.clone(), 0..place.end).unwrap()));

    group.throughput(Throughput::Elements(1_000));
    let middle = place.rows() / 2;
    group.bench_function("read_1000_records", |b| {
        b.iter(|| reader.records(0, bytes.clone(), middle..middle + 1_000).unwrap());
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("open_footer", |b| b.iter(|| ArchiveReader::open(&file.file, footer.clone()).unwrap()));
    group.finish();
}

criterion_group!(benches, archive);
criterion_main!(benches);
