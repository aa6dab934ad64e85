//! Record batches of format v2 that are not what they say. Built here byte by byte, not by our encoder.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Case, case};

const PATH: &str = "/v1/topics/t/partitions/0/records";
const MEDIA: &str = "application/vnd.tidelog.batch";

/// The fields of a batch; what is not set is right for its records.
#[derive(Debug, Clone)]
struct Batch {
    base_offset: i64,
    length: Option<i32>,
    magic: i8,
    crc: Option<u32>,
    attributes: i16,
    last_delta: Option<i32>,
    base_timestamp: i64,
    max_timestamp: i64,
    producer: (i64, i16, i32),
    count: Option<i32>,
    records: Vec<Vec<u8>>,
    /// What stands in the place of the records.
    stored: Option<Vec<u8>>,
}

const TIME: i64 = 1_700_000_000_000;

fn batch(records: Vec<Vec<u8>>) -> Batch {
    Batch {
        base_offset: 0,
        length: None,
        magic: 2,
        crc: None,
        attributes: 0,
        last_delta: None,
        base_timestamp: TIME,
        max_timestamp: TIME,
        producer: (-1, -1, -1),
        count: None,
        records,
        stored: None,
    }
}

impl Batch {
    fn bytes(&self) -> Vec<u8> {
        let count = self.records.len() as i32;
        let mut body = self.attributes.to_be_bytes().to_vec();
        body.extend(self.last_delta.unwrap_or(count - 1).to_be_bytes());
        body.extend(self.base_timestamp.to_be_bytes());
        body.extend(self.max_timestamp.to_be_bytes());
        body.extend(self.producer.0.to_be_bytes());
        body.extend(self.producer.1.to_be_bytes());
        body.extend(self.producer.2.to_be_bytes());
        body.extend(self.count.unwrap_or(count).to_be_bytes());
        body.extend(self.stored.clone().unwrap_or_else(|| self.records.concat()));
        let mut bytes = self.base_offset.to_be_bytes().to_vec();
        bytes.extend(self.length.unwrap_or(body.len() as i32 + 9).to_be_bytes());
        bytes.extend(0i32.to_be_bytes());
        bytes.extend(self.magic.to_be_bytes());
        bytes.extend(self.crc.unwrap_or_else(|| crc32c(&body)).to_be_bytes());
        bytes.extend(body);
        bytes
    }
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// A zigzag varint.
fn varint(value: i64) -> Vec<u8> {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

/// A record of these fields, which begin after its attributes.
fn record(fields: &[Vec<u8>]) -> Vec<u8> {
    let body = [&[0u8][..], &fields.concat()].concat();
    [varint(body.len() as i64), body].concat()
}

/// The n-th record: a null key, a value, no headers.
fn plain(n: i64) -> Vec<u8> {
    record(&[varint(0), varint(n), varint(-1), varint(1), b"v".to_vec(), varint(0)])
}

fn two() -> Batch {
    batch(vec![plain(0), plain(1)])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn cases() -> Vec<Case> {
    [headers(), compressed(), records(), requests()].concat()
}

/// What a good batch is sent with.
pub(super) fn send(name: &'static str, bytes: Vec<u8>) -> Case {
    case(name, "POST", PATH, "x").header("content-type", MEDIA).body(bytes)
}

/// A batch that has to be taken: without it the refusals could all have one wrong reason.
pub(super) fn good() -> Case {
    send("a good batch", two().bytes())
}

fn bad(name: &'static str, batch: &Batch) -> Case {
    send(name, batch.bytes()).is(422, "invalid_batch")
}

fn headers() -> Vec<Case> {
    let with = |change: fn(&mut Batch)| {
        let mut batch = two();
        change(&mut batch);
        batch
    };
    let whole = two().bytes();
    vec![
        send("an empty batch", Vec::new()).is(422, "invalid_batch"),
        send("half a header", whole[..40].to_vec()).is(422, "invalid_batch"),
        send("a batch cut short", whole[..whole.len() - 1].to_vec()).is(422, "invalid_batch"),
        send("two batches", [&whole[..], &whole[..]].concat()).is(422, "invalid_batch"),
        send("noise", vec![0xa5; 200]).is(422, "invalid_batch"),
        bad("format 0", &with(|batch| batch.magic = 0)).says("magic 0"),
        bad("format 1", &with(|batch| batch.magic = 1)),
        bad("a format of the future", &with(|batch| batch.magic = 3)),
        bad("a wrong CRC", &with(|batch| batch.crc = Some(7))).says("crc"),
        bad("a length of nothing", &with(|batch| batch.length = Some(0))),
        bad("a negative length", &with(|batch| batch.length = Some(-1))),
        bad("a length beyond the bytes", &with(|batch| batch.length = Some(i32::MAX))),
        bad("a length below the bytes", &with(|batch| batch.length = Some(55))),
        bad("a base offset", &with(|batch| batch.base_offset = 5)).says("baseOffset"),
        bad("a negative base offset", &with(|batch| batch.base_offset = -1)),
        bad("control bit", &with(|batch| batch.attributes = 0x20)).says("control"),
        bad("transactional bit", &with(|batch| batch.attributes = 0x10)).says("transactional"),
        bad("log append time bit", &with(|batch| batch.attributes = 0x08)),
        bad("delete horizon bit", &with(|batch| batch.attributes = 0x40)),
        bad("an unknown attribute", &with(|batch| batch.attributes = 0x80)),
        bad("a negative attribute", &with(|batch| batch.attributes = i16::MIN)),
        bad("a count above the records", &with(|batch| (batch.count, batch.last_delta) = (Some(3), Some(2)))),
        bad("a count below the records", &with(|batch| (batch.count, batch.last_delta) = (Some(1), Some(0)))),
        bad("a count of nothing", &with(|batch| (batch.count, batch.last_delta) = (Some(0), Some(-1)))),
        bad("a negative count", &with(|batch| (batch.count, batch.last_delta) = (Some(-5), Some(-6)))),
        bad(
            "a count of all memory",
            &with(|batch| (batch.count, batch.last_delta) = (Some(i32::MAX), Some(i32::MAX - 1))),
        )
        .is(413, "too_many_records"),
        bad("a last delta that is not the last", &with(|batch| batch.last_delta = Some(7))),
        bad("a maximum timestamp that is not", &with(|batch| batch.max_timestamp = TIME + 5)),
        bad("a producer that the request has not", &with(|batch| batch.producer = (5, 0, 0))).says("producerId"),
        bad("half a producer", &with(|batch| batch.producer = (-1, 0, 0))),
    ]
}

fn compressed() -> Vec<Case> {
    let with = |codec: i16, stored: Vec<u8>| Batch { attributes: codec, stored: Some(stored), ..two() };
    let plain = two().records.concat();
    let bomb = gzip(&vec![0; 64 << 20]);
    vec![
        bad("snappy", &with(2, plain.clone())).says("snappy"),
        bad("lz4", &with(3, plain.clone())).says("lz4"),
        bad("codec 5", &with(5, plain.clone())),
        bad("codec 7", &with(7, plain.clone())),
        bad("gzip records that are none", &with(1, plain.clone())),
        bad("zstd records that are none", &with(4, plain.clone())),
        bad("gzip records cut short", &with(1, gzip(&plain[..plain.len() - 1]))),
        bad("gzip records and more", &with(1, [gzip(&plain), b"x".to_vec()].concat())),
        bad("gzip of nothing", &with(1, gzip(b""))),
        bad("a decompression bomb", &with(1, bomb)),
        bad("zstd with a window of gigabytes", &with(4, vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00])),
    ]
}

fn records() -> Vec<Case> {
    let one = |fields: &[Vec<u8>]| batch(vec![record(fields)]);
    let value = || [varint(1), b"v".to_vec()].concat();
    let after = |lengths: Vec<u8>| one(&[varint(0), varint(0), lengths]);
    let huge = vec![0xff; 10];
    let header =
        |name: Vec<u8>, value: Vec<u8>| one(&[varint(0), varint(0), varint(-1), varint(-1), varint(1), name, value]);
    let raw = |bytes: Vec<u8>| Batch { stored: Some(bytes), ..batch(vec![plain(0)]) };
    let ahead =
        Batch { max_timestamp: i64::MAX, ..one(&[varint(i64::MAX - TIME), varint(0), varint(-1), value(), varint(0)]) };
    let overflow = one(&[varint(i64::MAX), varint(0), varint(-1), value(), varint(0)]);
    let before = Batch { max_timestamp: -1, ..one(&[varint(-TIME - 1), varint(0), varint(-1), value(), varint(0)]) };
    let many = |count: i64| {
        let headers = [varint(1), b"h".to_vec(), varint(-1)].concat().repeat(count as usize);
        one(&[varint(0), varint(0), varint(-1), varint(-1), varint(count), headers])
    };
    vec![
        bad("a record of length zero", &raw(varint(0))),
        bad("a record of a negative length", &raw(varint(-7))),
        bad("a record longer than the batch", &raw([varint(1_000), vec![0; 20]].concat())),
        bad("a record length without an end", &raw(huge.clone())),
        bad("a record shorter than its fields", &raw([varint(3), plain(0)[1..].to_vec()].concat())),
        bad(
            "a record longer than its fields",
            &one(&[varint(0), varint(0), varint(-1), value(), varint(0), vec![0; 4]]),
        ),
        bad("offset deltas that repeat", &batch(vec![plain(0), plain(0)])).detail("index", 1),
        bad("offset deltas that run back", &batch(vec![plain(1), plain(0)])).detail("index", 0),
        bad("a negative offset delta", &batch(vec![plain(-1)])),
        bad("an offset delta without an end", &one(&[varint(0), huge.clone(), varint(-1), value(), varint(0)])),
        bad("a timestamp delta without an end", &one(&[vec![0xff; 11], varint(0), varint(-1), value(), varint(0)])),
        bad("a timestamp delta that overflows", &overflow),
        bad("a timestamp of the far future", &ahead),
        bad("a timestamp before 1970", &before),
        bad("a key of a negative length", &after([varint(-2), value(), varint(0)].concat())),
        bad("a key longer than the record", &after([varint(1 << 30), value(), varint(0)].concat())),
        bad("a key length without an end", &after(huge.clone())),
        bad("a value of a negative length", &after([varint(-1), varint(-2), varint(0)].concat())),
        bad("a value longer than the record", &after([varint(-1), varint(i64::from(i32::MAX)), varint(0)].concat())),
        bad("a negative number of headers", &after([varint(-1), varint(-1), varint(-1)].concat())),
        bad("more headers than bytes", &after([varint(-1), varint(-1), varint(1 << 30)].concat())),
        bad("a null header name", &header(varint(-1), varint(-1))),
        bad("a header name that is not UTF-8", &header([varint(1), vec![0xff]].concat(), varint(-1))),
        bad("a header value of a negative length", &header([varint(1), b"h".to_vec()].concat(), varint(-3))),
        bad("65 headers", &many(65)).detail("index", 0),
        send("a record of more than a mebibyte", {
            let value = [varint((1 << 20) + 1), vec![b'x'; (1 << 20) + 1]].concat();
            one(&[varint(0), varint(0), varint(-1), value, varint(0)]).bytes()
        })
        .is(413, "record_too_large")
        .detail("index", 0),
        send("10,001 records", batch((0..10_001).map(plain).collect()).bytes()).is(413, "too_many_records"),
        send("a batch above an entry", vec![0; (4 << 20) + 1]).is(413, "batch_too_large"),
    ]
}

fn requests() -> Vec<Case> {
    let bytes = two().bytes();
    let json = batch(vec![plain(0)]);
    let mut text = batch(vec![record(&[varint(0), varint(0), varint(-1), varint(1), vec![0xff], varint(0)])]);
    text.max_timestamp = TIME;
    let to = |name, path: &str, bytes: Vec<u8>| case(name, "POST", path, "x").header("content-type", MEDIA).body(bytes);
    vec![
        to("a batch without a partition", "/v1/topics/t/records", bytes.clone()).is(400, "partition_required"),
        to("a batch for a topic of JSON", "/v1/topics/json/partitions/0/records", json.bytes())
            .is(422, "invalid_record")
            .detail("index", 0),
        to("a batch for a topic of text", "/v1/topics/text/partitions/0/records", text.bytes())
            .is(422, "invalid_record")
            .detail("index", 0),
        send("a batch without the triple of its request", bytes.clone())
            .header("producer-id", "1")
            .header("producer-epoch", "0")
            .header("producer-sequence", "0")
            .is(422, "invalid_batch"),
        send("a batch with a key beside it", bytes)
            .header("content-type", "application/x-kafka")
            .is(415, "unsupported_media_type"),
    ]
}
