#![allow(clippy::unwrap_used)]

use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::error::{Detail, Outcome};
use crate::model::{Acks, Compression, Header, ProducerId, Rejection, TopicSettings, ValueFormat};
use crate::produce::{Admission, assign};

const NOW: Millis = 1_700_000_000_000;

fn topic(partitions: u32, value_format: ValueFormat) -> Arc<Topic> {
    Arc::new(Topic {
        id: TopicId(Uuid::from_u128(7)),
        name: "flights".into(),
        namespace: "default".into(),
        settings: TopicSettings { partitions, value_format, ..TopicSettings::default() },
        created_at: 0,
        deleted_at: None,
    })
}

fn context(topic: Arc<Topic>) -> Context {
    Context { topic, now: NOW, monotonic: 0, sticky: Arc::new(Sticky::new(0)), among: None }
}

fn record(key: Option<&str>, value: Option<&str>) -> Record {
    let owned = |text: &str| Bytes::from(text.to_owned());
    Record { timestamp: NOW as i64, key: key.map(owned), value: value.map(owned), headers: Vec::new() }
}

fn request(records: Vec<(Option<u32>, Record)>) -> ProduceRequest {
    ProduceRequest {
        topic: "flights".into(),
        topic_id: None,
        partition: None,
        payload: Payload::Records(records),
        acks: Acks::Quorum,
        timeout: Duration::from_secs(10),
        triple: None,
        idempotency_key: None,
        expected_offset: None,
        now: 0,
    }
}

fn refused(request: ProduceRequest, context: &Context) -> (&'static str, Option<u64>) {
    let error = prepare_now(request, context).unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotWritten);
    let index = error.details().iter().find_map(|(name, detail)| match detail {
        Detail::Number(index) if *name == "index" => Some(*index),
        _ => None,
    });
    (error.code(), index)
}

/// Partition and values of each submission.
fn places(prepared: &Prepared) -> Vec<(u32, Vec<String>)> {
    let values = |part: &Part| match &part.content {
        Content::Records(records) => {
            records.iter().map(|record| String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap()).collect()
        }
        Content::Encoded(..) => Vec::new(),
    };
    prepared.parts.iter().map(|part| (part.partition, values(part))).collect()
}

#[test]
fn an_explicit_partition_wins_over_the_key_and_the_key_over_stickiness() {
    let context = context(topic(8, ValueFormat::Bytes));
    let by_key = partition_of_key(b"foobar", 8);
    let explicit = (by_key + 1) % 8;
    let records = vec![
        (Some(explicit), record(Some("foobar"), Some("explicit"))),
        (None, record(Some("foobar"), Some("key"))),
        (None, record(None, Some("sticky"))),
    ];
    let places = places(&prepare_now(request(records), &context).unwrap());
    assert_eq!(places[0], (explicit, vec!["explicit".into()]));
    assert_eq!(places[1].0, by_key);
    assert!(places.iter().flat_map(|(_, values)| values).any(|value| value == "sticky"));
}

#[test]
fn answers_come_back_in_request_order() {
    let context = context(topic(3, ValueFormat::Bytes));
    let order = [2, 0, 2, 1, 0];
    let records = order.iter().map(|partition| (Some(*partition), record(None, Some("v")))).collect();
    let prepared = prepare_now(request(records), &context).unwrap();
    let permit = Admission::new(1 << 20).admit(prepared.charge()).unwrap();
    let (submissions, layout) = prepared.submit(permit, Instant::now());
    let partitions: Vec<u32> = submissions.iter().map(|submission| submission.partition.partition).collect();
    assert_eq!(partitions, [2, 0, 1]);
    let appended = |base_offset, count, duplicate| Appended { base_offset, count, duplicate, log_index: 1 };
    let answers = vec![Ok(appended(10, 2, true)), Err(Error::from(Rejection::Closed)), Ok(appended(30, 1, true))];
    let produced = layout.finish(answers);
    let written = |partition, offset| RecordOutcome::Written { partition, offset };
    let failed = RecordOutcome::Failed { partition: 0, failure: 0 };
    assert_eq!(produced.records, [written(2, 10), failed, written(2, 11), written(1, 30), failed]);
    assert_eq!((produced.failures.len(), produced.duplicate), (1, false));
}

#[test]
fn one_bad_record_refuses_the_request_and_is_named() {
    let bytes = context(topic(2, ValueFormat::Bytes));
    let text = context(topic(2, ValueFormat::Text));
    let json = context(topic(2, ValueFormat::Json));
    let good = || (None, record(None, Some("{}")));
    let with = |bad: (Option<u32>, Record)| request(vec![good(), bad]);
    let not_utf8 = || (None, Record { value: Some(Bytes::from_static(b"\"\xff\"")), ..record(None, None) });
    let at = |timestamp| (None, Record { timestamp, ..record(None, Some("{}")) });
    let header = Header { name: "h".into(), value: None };
    let headers = |count| (None, Record { headers: vec![header.clone(); count], ..record(None, Some("{}")) });
    let large = || (None, record(Some("k"), Some(&"x".repeat(1 << 20))));

    assert_eq!(refused(with((Some(2), record(None, None))), &bytes), ("partition_not_found", Some(1)));
    assert_eq!(refused(with(large()), &bytes), ("record_too_large", Some(1)));
    assert_eq!(refused(with(headers(65)), &bytes), ("invalid_record", Some(1)));
    assert_eq!(refused(with(at(-1)), &bytes), ("invalid_record", Some(1)));
    assert_eq!(refused(with(at(NOW as i64 + 3_600_001)), &bytes), ("invalid_record", Some(1)));
    assert_eq!(refused(with(not_utf8()), &text), ("invalid_record", Some(1)));
    assert_eq!(refused(with(not_utf8()), &json), ("invalid_record", Some(1)));
    for broken in ["", "{", "{} {}", "nul", "01", "\"\u{1}\""] {
        assert_eq!(refused(with((None, record(None, Some(broken)))), &json), ("invalid_record", Some(1)), "{broken:?}");
    }
    let fine = vec![headers(64), at(0), at(NOW as i64 + 3_600_000), (None, record(None, None)), good()];
    assert!(prepare_now(request(fine), &json).is_ok(), "null is taken by every format");
    assert!(prepare_now(with(not_utf8()), &bytes).is_ok());
}

#[test]
fn limits_of_a_request_hold() {
    let context = context(topic(8, ValueFormat::Bytes));
    assert_eq!(refused(request(vec![]), &context), ("invalid_request", None));
    let many = |count| request(vec![(None, record(None, Some("v"))); count]);
    assert_eq!(refused(many(10_001), &context), ("too_many_records", None));
    assert!(prepare_now(many(10_000), &context).is_ok());
    let megabyte = || record(Some("k"), Some(&"x".repeat((1 << 20) - 1)));
    let keyed = |count| request((0..count).map(|_| (None, megabyte())).collect());
    assert!(prepare_now(keyed(3), &context).is_ok());
    assert_eq!(refused(keyed(4), &context), ("batch_too_large", None));
    let keyless = (0..8).map(|_| (None, Record { key: None, ..megabyte() })).collect();
    let prepared = prepare_now(request(keyless), &context).unwrap();
    assert_eq!(prepared.parts.len(), 8, "keyless records are spread before they meet the limit");
}

#[test]
fn headers_that_need_the_partition_route_say_so() {
    let context = context(topic(2, ValueFormat::Bytes));
    let one = || request(vec![(None, record(None, Some("v")))]);
    let triple = Some(Triple { id: ProducerId(1), epoch: 0, sequence: 0 });
    assert_eq!(refused(ProduceRequest { triple, ..one() }, &context).0, "partition_required");
    assert_eq!(refused(ProduceRequest { expected_offset: Some(0), ..one() }, &context).0, "partition_required");
    let batch = Payload::Batch(Bytes::from_static(b"batch"));
    assert_eq!(refused(ProduceRequest { payload: batch, ..one() }, &context).0, "partition_required");
    let on_route = |partition| ProduceRequest { partition: Some(partition), triple, ..one() };
    assert!(prepare_now(on_route(1), &context).is_ok());
    assert_eq!(refused(on_route(2), &context).0, "partition_not_found");
    let both = ProduceRequest { idempotency_key: Some("k".into()), ..on_route(0) };
    assert_eq!(refused(both, &context).0, "invalid_parameter");
    for key in ["", "with space", "ä", &"x".repeat(65)] {
        let keyed = ProduceRequest { idempotency_key: Some(key.into()), ..one() };
        assert_eq!(refused(keyed, &context).0, "invalid_parameter", "{key:?}");
    }
    let elsewhere = ProduceRequest { partition: Some(0), ..request(vec![(Some(1), record(None, None))]) };
    assert_eq!(refused(elsewhere, &context), ("invalid_record", Some(0)));
}

#[test]
fn a_retry_under_a_key_meets_its_partitions_also_after_a_growth() {
    let records = || {
        let keyed = (0..40).map(|key| (None, record(Some(&format!("k{key}")), Some("v"))));
        keyed.chain([(None, record(None, Some("keyless")))]).collect::<Vec<_>>()
    };
    let keyed = || ProduceRequest { idempotency_key: Some("once".into()), ..request(records()) };
    let first = prepare_now(keyed(), &context(topic(3, ValueFormat::Bytes))).unwrap();
    let retry = prepare_now(keyed(), &context(topic(3, ValueFormat::Bytes))).unwrap();
    assert_eq!((places(&first), first.digest), (places(&retry), retry.digest));
    assert_ne!(first.digest, 0);

    let Keyed { key, among, begun } = first.idempotency.unwrap();
    assert_eq!((among, begun), (3, false));
    let grown = |among| Context { among, ..context(topic(16, ValueFormat::Bytes)) };
    let retry = prepare_now(keyed(), &grown(Some(3))).unwrap();
    let begun = Keyed { key, among: 3, begun: true };
    assert_eq!((places(&retry), retry.idempotency), (places(&first), Some(begun)));
    let fresh = prepare_now(keyed(), &grown(None)).unwrap();
    assert!(fresh.parts.len() > 3, "an unknown key is assigned among all partitions");
    assert_eq!(fresh.idempotency, Some(Keyed { key, among: 16, begun: false }));
    let keyless = fresh.parts.iter().position(|part| part.partition == assign::partition_of_idempotency_key(key, 16));
    assert!(keyless.is_some());

    let named = ProduceRequest { partition: Some(1), ..keyed() };
    let named = prepare_now(named, &grown(Some(3))).unwrap();
    assert_eq!(named.idempotency, Some(Keyed { key, among: 0, begun: false }), "nothing was assigned");
    assert_ne!(named.digest, first.digest, "another route is another request");
}

#[test]
fn a_clients_batch_is_checked_as_strictly_as_records() {
    let json = context(topic(2, ValueFormat::Json));
    let triple = Triple { id: ProducerId(5), epoch: 1, sequence: 9 };
    let encode = |records: &[Record], triple| batch::encode(records, Compression::Zstd, triple).unwrap().bytes;
    let with = |bytes, triple| ProduceRequest {
        partition: Some(1),
        triple,
        payload: Payload::Batch(bytes),
        ..request(Vec::new())
    };
    let good = [record(None, Some("{}")), record(Some("k"), None)];
    let prepared = prepare_now(with(encode(&good, Some(triple)), Some(triple)), &json).unwrap();
    assert_eq!((prepared.parts.len(), prepared.parts[0].content.count()), (1, 2));
    assert_ne!(prepared.digest, 0);

    assert_eq!(refused(with(encode(&good, None), Some(triple)), &json).0, "invalid_batch");
    assert_eq!(refused(with(encode(&good, Some(triple)), None), &json).0, "invalid_batch");
    let other = Triple { sequence: 10, ..triple };
    assert_eq!(refused(with(encode(&good, Some(triple)), Some(other)), &json).0, "invalid_batch");
    let bad_value = [record(None, Some("{}")), record(None, Some("{"))];
    assert_eq!(refused(with(encode(&bad_value, None), None), &json), ("invalid_record", Some(1)));
    let ahead = [Record { timestamp: NOW as i64 * 2, ..record(None, None) }];
    assert_eq!(refused(with(encode(&ahead, None), None), &json), ("invalid_batch", Some(0)));
    let bomb: Vec<Record> = (0..6).map(|_| record(None, Some(&"1".repeat(1 << 20)))).collect();
    assert_eq!(refused(with(encode(&bomb, None), None), &json).0, "batch_too_large");
    let mut broken = encode(&good, None).to_vec();
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(refused(with(broken.into(), None), &json).0, "invalid_batch");
}

#[tokio::test]
async fn a_large_request_is_prepared_off_the_runtime_with_the_same_result() {
    let context = context(topic(4, ValueFormat::Json));
    let value = format!("\"{}\"", "x".repeat(300_000));
    let large = || request(vec![(Some(3), record(None, Some(&value)))]);
    let prepared = prepare(large(), context.clone()).await.unwrap();
    assert_eq!(places(&prepared), places(&prepare_now(large(), &context).unwrap()));
}
