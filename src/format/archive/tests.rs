//! Round trips, limits, corruption.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::error::ErrorKind;
use crate::model::{
    ArchiveFile, Header, ObjectId, Offset, ProducerId, Record, StoredRecord, Topic, TopicId, TopicSettings, Triple,
    ValueFormat,
};

const DAY: u32 = 20_000;
const START: u64 = DAY as u64 * DAY_MS;

pub(super) fn topic(value_format: ValueFormat) -> Topic {
    Topic {
        id: TopicId(Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef)),
        name: "flights".to_owned(),
        namespace: "default".to_owned(),
        settings: TopicSettings { value_format, ..TopicSettings::default() },
        created_at: 1,
        deleted_at: None,
    }
}

fn id() -> ObjectId {
    ObjectId::from_parts(START, 42)
}

fn plain(offset: Offset, value: impl Into<Bytes>) -> StoredRecord {
    StoredRecord {
        offset,
        append_time: START + offset,
        triple: None,
        record: Record { timestamp: 1_700_000_000_000, value: Some(value.into()), ..Record::default() },
    }
}

/// A complete file with its bytes.
struct Archive {
    bytes: Bytes,
    file: ArchiveFile,
    ranges: Vec<crate::model::ArchiveRange>,
}

fn write<'a>(topic: &Topic, records: impl IntoIterator<Item = (u32, &'a StoredRecord)>) -> Archive {
    let mut writer = ArchiveWriter::new(id(), topic, DAY).unwrap();
    let mut bytes = Vec::new();
    for (partition, record) in records {
        writer.push(partition, record).unwrap();
        bytes.extend_from_slice(&writer.take_bytes());
    }
    let finished = writer.finish().unwrap();
    bytes.extend_from_slice(&finished.bytes);
    assert_eq!(bytes.len() as u64, finished.file.bytes);
    Archive { bytes: bytes.into(), file: finished.file, ranges: finished.ranges }
}

impl Archive {
    fn footer(&self) -> Bytes {
        self.bytes.slice(self.file.footer_start as usize..)
    }

    fn open(&self) -> ArchiveReader {
        ArchiveReader::open(&self.file, self.footer()).unwrap()
    }

    fn group(&self, group: &RowGroup) -> Bytes {
        self.bytes.slice(group.position as usize..(group.position + group.bytes) as usize)
    }

    fn read_all(&self) -> Vec<(u32, StoredRecord)> {
        let reader = self.open();
        let mut all = Vec::new();
        for (index, group) in reader.groups().iter().enumerate() {
            let records = reader.records(index, self.group(group), 0..Offset::MAX).unwrap();
            assert_eq!(records.len() as u64, group.rows());
            assert_eq!(records.iter().map(|record| record.record.timestamp).max(), Some(group.max_timestamp));
            all.extend(records.into_iter().map(|record| (group.partition, record)));
        }
        all
    }
}

fn opaque() -> impl Strategy<Value = Option<Bytes>> {
    prop_oneof![
        Just(None),
        Just(Some(Bytes::new())),
        Just(Some(Bytes::from_static(b"null"))),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Some(bytes.into())),
    ]
}

fn record(text: bool) -> impl Strategy<Value = Record> {
    let value = if text {
        prop_oneof![Just(None), "\\PC{0,20}".prop_map(|text| Some(Bytes::from(text)))].boxed()
    } else {
        opaque().boxed()
    };
    let header = ("[a-c\u{e9}]{0,2}", opaque()).prop_map(|(name, value)| Header { name, value });
    (any::<i64>(), opaque(), value, proptest::collection::vec(header, 0..4))
        .prop_map(|(timestamp, key, value, headers)| Record { timestamp, key, value, headers })
}

fn triple() -> impl Strategy<Value = Option<Triple>> {
    proptest::option::of((0..1u64 << 53, any::<u16>(), 0..1u32 << 31).prop_map(|(id, epoch, sequence)| Triple {
        id: ProducerId(id),
        epoch,
        sequence,
    }))
}

/// Partitions in order, each with a start offset and its records.
fn partitions(text: bool) -> impl Strategy<Value = Vec<(u32, StoredRecord)>> {
    let records = proptest::collection::vec((record(text), triple(), 0..3u64), 1..30);
    proptest::collection::btree_map(0..1000u32, (0..1u64 << 50, records), 1..4).prop_map(|partitions| {
        let mut all = Vec::new();
        for (partition, (start, records)) in partitions {
            let mut append_time = START;
            for (offset, (record, triple, pause)) in (start..).zip(records) {
                append_time += pause;
                all.push((partition, StoredRecord { offset, append_time, triple, record }));
            }
        }
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(
        (format, records) in prop_oneof![
            partitions(false).prop_map(|records| (ValueFormat::Bytes, records)),
            partitions(true).prop_map(|records| (ValueFormat::Text, records)),
            partitions(true).prop_map(|records| (ValueFormat::Json, records)),
        ],
    ) {
        let archive = write(&topic(format), records.iter().map(|(partition, record)| (*partition, record)));
        prop_assert_eq!(&archive.read_all(), &records);
        prop_assert_eq!(archive.file.rows, records.len() as u64);
        for range in &archive.ranges {
            let of_it = || records.iter().filter(|(p, _)| *p == range.partition.partition).map(|(_, record)| record);
            prop_assert_eq!(of_it().map(|record| record.offset).min(), Some(range.start));
            prop_assert_eq!(of_it().map(|record| record.offset + 1).max(), Some(range.end));
            prop_assert_eq!(of_it().map(|record| record.record.timestamp).max(), Some(range.max_timestamp));
            prop_assert_eq!(of_it().map(|record| record.append_time).min(), Some(range.min_append_time));
            prop_assert_eq!(of_it().map(|record| record.append_time).max(), Some(range.max_append_time));
        }
        let groups: u64 = archive.ranges.iter().map(|range| range.bytes).sum();
        prop_assert_eq!(groups, archive.file.footer_start);
    }
}

/// Null, empty, the bytes `null` and something, for key, value and header value; repeated and empty header names.
fn matrix() -> Vec<StoredRecord> {
    let kinds = [None, Some(Bytes::new()), Some(Bytes::from_static(b"null")), Some(Bytes::from_static(b"x"))];
    let mut records = Vec::new();
    for key in &kinds {
        for value in &kinds {
            for header in &kinds {
                let header = |name: &str| Header { name: name.to_owned(), value: header.clone() };
                for headers in [vec![], vec![header("h")], vec![header("h"), header(""), header("a"), header("h")]] {
                    let record = Record { timestamp: -1, key: key.clone(), value: value.clone(), headers };
                    let offset = 7 + records.len() as u64;
                    let triple = Triple { id: ProducerId(1 << 40), epoch: u16::MAX, sequence: (1 << 31) - 1 };
                    let triple = offset.is_multiple_of(2).then_some(triple);
                    records.push(StoredRecord { offset, append_time: START, triple, record });
                }
            }
        }
    }
    records
}

#[test]
fn null_empty_and_absent_stay_what_they_are() {
    for format in [ValueFormat::Bytes, ValueFormat::Text, ValueFormat::Json] {
        let records = matrix();
        let archive = write(&topic(format), records.iter().map(|record| (3, record)));
        let read: Vec<_> = archive.read_all().into_iter().map(|(_, record)| record).collect();
        assert_eq!(read, records, "{format:?}");
    }
}

#[test]
fn a_file_of_version_1_is_read_for_ever() {
    let bytes = Bytes::from_static(include_bytes!("golden-v1.parquet"));
    let file = ArchiveFile {
        id: id(),
        topic: topic(ValueFormat::Json).id,
        day: DAY,
        rows: 192,
        bytes: bytes.len() as u64,
        footer_start: GOLDEN_FOOTER_START,
        footer_crc32c: GOLDEN_FOOTER_CRC32C,
        min_timestamp: -1,
        max_timestamp: -1,
    };
    let read = Archive { bytes, file, ranges: Vec::new() }.read_all();
    assert_eq!(read, matrix().into_iter().map(|record| (3, record)).collect::<Vec<_>>());
}

const GOLDEN_FOOTER_START: u64 = 851;
const GOLDEN_FOOTER_CRC32C: u32 = 3_171_203_158;

/// Writes `golden-v1.parquet` anew; only for a new version.
#[test]
#[ignore = "writes into the source tree"]
fn write_golden() {
    let records = matrix();
    let archive = write(&topic(ValueFormat::Json), records.iter().map(|record| (3, record)));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/format/archive/golden-v1.parquet");
    std::fs::write(path, &archive.bytes).unwrap();
    println!("{:?}", archive.file);
}

#[test]
fn row_groups_end_with_their_partition_and_at_their_limits() {
    let rows = ROW_GROUP_ROWS as u64 + 10;
    let many: Vec<_> = (0..rows).map(|offset| plain(offset, "v")).collect();
    let large: Vec<_> = (5..9).map(|offset| plain(offset, vec![b'x'; ROW_GROUP_BYTES / 2])).collect();
    let few = [plain(0, "a"), plain(1, "b")];
    let all = many.iter().map(|record| (0, record)).chain(large.iter().map(|record| (1, record)));
    let archive = write(&topic(ValueFormat::Bytes), all.chain(few.iter().map(|record| (9, record))));
    let reader = archive.open();
    let shape: Vec<_> = reader.groups().iter().map(|group| (group.partition, group.start, group.end)).collect();
    let limit = ROW_GROUP_ROWS as u64;
    assert_eq!(shape, [(0, 0, limit), (0, limit, rows), (1, 5, 7), (1, 7, 9), (9, 0, 2)]);
    assert_eq!(archive.ranges.len(), 3);
    // Two rows of half a group each, and what goes with them.
    assert_eq!(
        (reader.rows_within(2, ROW_GROUP_BYTES as u64 / 4), reader.rows_within(2, ROW_GROUP_BYTES as u64)),
        (0, 1)
    );
    assert_eq!((reader.rows_within(2, 0), reader.rows_within(5, 1)), (0, 0));
    assert!(reader.rows_within(0, u64::MAX) >= limit);
    for (partition, offset, found) in [
        (0, 0, Some(0)),
        (0, limit - 1, Some(0)),
        (0, limit, Some(1)),
        (0, rows, None),
        (1, 0, Some(2)),
        (1, 8, Some(3)),
    ] {
        assert_eq!(reader.group_at(partition, offset), found, "{partition} {offset}");
    }
    assert_eq!((reader.group_at(2, 0), reader.group_at(9, 1), reader.group_at(10, 0)), (None, Some(4), None));
}

#[test]
fn a_part_of_a_row_group_is_read_by_offset_and_by_timestamp() {
    let records: Vec<_> = (100..20_100u64)
        .map(|offset| {
            let mut record = plain(offset, format!("value {offset}"));
            record.record.timestamp = (offset as i64 * 7919) % 20_011;
            record
        })
        .collect();
    let archive = write(&topic(ValueFormat::Text), records.iter().map(|record| (0, record)));
    let reader = archive.open();
    let bytes = archive.group(&reader.groups()[0]);
    for range in [0..0, 0..101, 100..20_100, 4_195..4_197, 12_345..12_345, 20_000..99_999, 20_100..20_200] {
        let read = reader.records(0, bytes.clone(), range.clone()).unwrap();
        let expected: Vec<_> = records.iter().filter(|record| range.contains(&record.offset)).cloned().collect();
        assert_eq!(read, expected, "{range:?}");
    }
    for (from, timestamp) in [(0, 0), (0, 20_010), (5_000, 20_000), (20_099, 0), (100, 20_012), (20_100, 0)] {
        let expected = records
            .iter()
            .find(|record| record.offset >= from && record.record.timestamp >= timestamp)
            .map(|record| record.offset);
        let found = reader.offset_of_timestamp(0, bytes.clone(), from, timestamp).unwrap();
        assert_eq!(found, expected, "{from} {timestamp}");
    }
}

#[test]
fn a_gap_in_the_offsets_begins_another_row_group_and_range() {
    let records: Vec<_> = (0..10).chain(20..30).chain(30..40).map(|offset| plain(offset, "v")).collect();
    let archive = write(&topic(ValueFormat::Text), records.iter().map(|record| (0, record)));
    let reader = archive.open();
    let shape: Vec<_> = reader.groups().iter().map(|group| (group.start, group.end)).collect();
    assert_eq!(shape, [(0, 10), (20, 40)]);
    assert_eq!(archive.ranges.iter().map(|range| (range.start, range.end)).collect::<Vec<_>>(), shape);
    assert_eq!((reader.group_at(0, 9), reader.group_at(0, 10), reader.group_at(0, 20)), (Some(0), Some(1), Some(1)));
    assert_eq!(archive.read_all().into_iter().map(|(_, record)| record).collect::<Vec<_>>(), records);
}

#[test]
fn what_does_not_belong_is_refused() {
    let topic = topic(ValueFormat::Json);
    let mut writer = ArchiveWriter::new(id(), &topic, DAY).unwrap();
    writer.push(1, &plain(5, "1")).unwrap();
    let mut late = plain(6, "2");
    late.append_time = START + DAY_MS;
    for (partition, record) in
        [(1, plain(5, "1")), (1, plain(4, "1")), (0, plain(9, "1")), (1, late), (1 << 31, plain(6, "2"))]
    {
        assert_eq!(writer.push(partition, &record).unwrap_err().kind(), ErrorKind::Corrupt, "{partition} {record:?}");
    }
    writer.cut().unwrap();
    assert_eq!(writer.push(1, &plain(5, "1")).unwrap_err().kind(), ErrorKind::Corrupt);
    writer.push(1, &plain(6, vec![0xff])).unwrap();
    assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::Corrupt, "a value that is not UTF-8");
    assert_eq!(ArchiveWriter::new(id(), &topic, DAY).unwrap().finish().unwrap_err().kind(), ErrorKind::Internal);
}

#[test]
fn a_file_is_full_before_its_footer_grows_too_large() {
    let mut writer = ArchiveWriter::new(id(), &topic(ValueFormat::Bytes), DAY).unwrap();
    let mut partition = 0;
    while !writer.is_full(u64::MAX) {
        writer.push(partition, &plain(0, "v")).unwrap();
        partition += 1;
    }
    let finished = writer.finish().unwrap();
    assert!(finished.ranges.len() <= MAX_ROW_GROUPS && finished.ranges.len() + 9 > MAX_ROW_GROUPS);
    let footer = finished.file.bytes - finished.file.footer_start;
    assert!(footer < 4 << 20, "the footer has {footer} bytes");
    let footer = finished.bytes.slice(finished.file.footer_start as usize..);
    assert_eq!(ArchiveReader::open(&finished.file, footer).unwrap().groups().len(), finished.ranges.len());
}

fn small() -> Archive {
    let records = matrix();
    let of_first = records[..40].iter().map(|record| (0, record));
    write(&topic(ValueFormat::Bytes), of_first.chain(records[50..59].iter().map(|record| (1, record))))
}

#[test]
fn every_truncation_and_flipped_byte_is_refused() {
    let archive = small();
    let footer = archive.footer();
    for len in 0..footer.len() {
        assert!(ArchiveReader::open(&archive.file, footer.slice(..len)).is_err(), "footer of {len} bytes");
        assert!(ArchiveReader::open(&archive.file, flipped(&footer, len)).is_err(), "footer flipped at {len}");
    }
    let reader = archive.open();
    for (index, group) in reader.groups().iter().enumerate() {
        let bytes = archive.group(group);
        for len in 0..bytes.len() {
            for bad in [bytes.slice(..len), flipped(&bytes, len)] {
                let error = reader.records(index, bad.clone(), 0..Offset::MAX).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                assert!(reader.offset_of_timestamp(index, bad, 0, 0).is_err());
            }
        }
    }
    let tiled: u64 = reader.groups().iter().map(|group| group.bytes).sum::<u64>() + footer.len() as u64;
    assert_eq!(tiled, archive.bytes.len() as u64, "every byte is under a checksum");
}

fn flipped(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << (at % 8);
    bytes.into()
}

/// The checksum is not what keeps the decoder from panicking.
#[test]
fn a_footer_with_a_right_checksum_and_wrong_content_does_not_panic() {
    let records = matrix();
    let archive = write(&topic(ValueFormat::Bytes), records[5..9].iter().map(|record| (0, record)));
    let footer = archive.footer();
    for at in 0..footer.len() {
        let bad = flipped(&footer, at);
        let file = ArchiveFile { footer_crc32c: crc32c::crc32c(&bad), ..archive.file.clone() };
        let Ok(reader) = ArchiveReader::open(&file, bad) else { continue };
        for (index, group) in reader.groups().iter().enumerate() {
            let _ = reader.records(index, archive.group(group), 0..Offset::MAX);
        }
    }
}
