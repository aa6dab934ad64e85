//! What an archive file says of itself, for whoever has nothing but the file: the footer alone is read.
//!
//! Everything that the replicated state knows of a file follows from it, but the checksum of the footer, which is taken from the bytes
//! that are there: damage to the footer that leaves it readable is not found here.

use bytes::Bytes;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use super::metadata;
use super::reader::{ArchiveReader, contained};
use super::schema::column;
use crate::error::{Error, Result};
use crate::model::{ArchiveFile, ArchiveRange, LogTime, ObjectId, TopicId, TopicPartition, ValueFormat};

/// Parquet's length of the metadata and its magic, at the end of a file.
const END_BYTES: u64 = 8;
const MAGIC: &[u8] = b"PAR1";
/// Two to three KiB for each row group, of which there are at most 1,024.
const MAX_FOOTER_BYTES: u64 = 64 << 20;

/// A file as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// What the state would know of it.
    pub file: ArchiveFile,
    /// The namespace and the name of the topic when it was written.
    pub topic: (String, String),
    /// The topic's.
    pub value_format: ValueFormat,
    /// What it holds, a range for each row group.
    pub ranges: Vec<ArchiveRange>,
}

/// Why the end of a file does not describe it.
#[derive(Debug)]
pub enum Undescribed {
    /// This many bytes of the end are needed.
    Needs(u64),
    /// It is no archive file of a known version.
    Error(Error),
}

/// Describes file `id`, which has `file_len` bytes, by its last bytes `tail`.
///
/// # Errors
/// More bytes are needed, or it is not an archive file.
pub fn describe(id: ObjectId, file_len: u64, tail: &Bytes) -> Result<Described, Undescribed> {
    let corrupt = |what: String| Undescribed::Error(Error::corrupt(format!("archive file {id} {what}")));
    let needs = |len: u64| {
        if len <= file_len && len <= MAX_FOOTER_BYTES && len > tail.len() as u64 {
            Undescribed::Needs(len)
        } else {
            corrupt("is shorter than its footer says".to_owned())
        }
    };
    let Some((before, end)) = tail.split_last_chunk::<{ END_BYTES as usize }>() else { return Err(needs(END_BYTES)) };
    let [l0, l1, l2, l3, magic @ ..] = *end;
    if magic != MAGIC {
        return Err(corrupt("does not end as Parquet does".to_owned()));
    }
    let len = u32::from_le_bytes([l0, l1, l2, l3]);
    let start = before.len().checked_sub(len as usize).ok_or_else(|| needs(u64::from(len) + END_BYTES))?;
    let parquet = contained(|| ParquetMetaDataReader::decode_metadata(&before[start..])).map_err(|error| {
        Undescribed::Error(Error::corrupt(format!("archive file {id} has a bad footer")).with_source(error))
    })?;
    let pairs = parquet.file_metadata().key_value_metadata();
    let footer_start = metadata::end_of_groups(pairs).map_err(|what| corrupt(format!("cannot be used: {what}")))?;
    let footer_len = file_len.checked_sub(footer_start).filter(|len| *len >= END_BYTES);
    let footer_len = footer_len.ok_or_else(|| corrupt("is shorter than its row groups".to_owned()))?;
    let skip = (tail.len() as u64).checked_sub(footer_len).ok_or_else(|| needs(footer_len))?;
    let described = whole(id, (file_len, footer_start), tail.slice(skip as usize..), &parquet);
    described.map_err(Undescribed::Error)
}

fn whole(
    id: ObjectId,
    (bytes, footer_start): (u64, u64),
    footer: Bytes,
    parquet: &ParquetMetaData,
) -> Result<Described> {
    let unusable = |what: String| Error::corrupt(format!("archive file {id} cannot be used: {what}"));
    let pairs = parquet.file_metadata().key_value_metadata();
    let ours = metadata::decode(pairs, footer_start).map_err(unusable)?;
    let topic = metadata::topic_name(pairs).map_err(unusable)?;
    let lacks = || unusable("it lacks statistics".to_owned());
    let theirs = parquet.row_groups();
    let (mut min_timestamp, mut max_timestamp) = (i64::MAX, i64::MIN);
    let mut ranges = Vec::with_capacity(ours.groups.len());
    for (group, found) in ours.groups.iter().zip(theirs) {
        let (min, max) = bounds(found, column::TIMESTAMP).ok_or_else(lacks)?;
        (min_timestamp, max_timestamp) = (min_timestamp.min(min), max_timestamp.max(max));
        let (first, last) = bounds(found, column::APPEND_TIME).ok_or_else(lacks)?;
        let (first, last) =
            (LogTime::try_from(first).map_err(|_| lacks())?, LogTime::try_from(last).map_err(|_| lacks())?);
        ranges.push(ArchiveRange {
            partition: TopicPartition::new(ours.topic, group.partition),
            start: group.start,
            end: group.end,
            file: id,
            bytes: group.bytes,
            max_timestamp: group.max_timestamp,
            min_append_time: first,
            max_append_time: last,
        });
    }
    let rows = ours.groups.iter().map(metadata::RowGroup::rows).sum();
    let footer_crc32c = crc32c::crc32c(&footer);
    let (topic_id, day): (TopicId, u32) = (ours.topic, ours.day);
    let file = ArchiveFile {
        id,
        topic: topic_id,
        day,
        rows,
        bytes,
        footer_start,
        footer_crc32c,
        min_timestamp,
        max_timestamp,
    };
    // Holds rows, positions and row groups against each other.
    ArchiveReader::open(&file, footer)?;
    Ok(Described { file, topic, value_format: ours.value_format, ranges })
}

/// The smallest and the largest value of a column of 64 bits.
fn bounds(group: &RowGroupMetaData, column: usize) -> Option<(i64, i64)> {
    match group.columns().get(column)?.statistics()? {
        Statistics::Int64(values) => Some((*values.min_opt()?, *values.max_opt()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::format::archive::{ArchiveWriter, FinishedArchive, append_day, renamed};
    use crate::model::{Record, StoredRecord, Topic, TopicSettings};

    const TIME: LogTime = 1_700_049_600_000;

    fn written(format: ValueFormat) -> FinishedArchive {
        let topic = Topic {
            id: TopicId(uuid::Uuid::from_u128(0x1234)),
            name: "flights".to_owned(),
            namespace: "default".to_owned(),
            settings: TopicSettings { value_format: format, ..TopicSettings::default() },
            created_at: 1,
            deleted_at: None,
        };
        let mut writer = ArchiveWriter::new(ObjectId::from_parts(TIME, 7), &topic, append_day(TIME)).unwrap();
        for partition in [0, 3] {
            for offset in 10..40 {
                // Statistics hold keys: one that looks like the metadata is not taken for it.
                let key = Bytes::from(format!("\u{18}\u{10}tidelog.topic_id\u{18}${}", topic.id));
                let record = Record {
                    timestamp: 1_000 + i64::try_from(offset).unwrap(),
                    key: Some(key),
                    value: Some(Bytes::from(format!("value {offset}"))),
                    headers: Vec::new(),
                };
                writer.push(partition, &stored(offset, record)).unwrap();
                if offset == 20 {
                    writer.cut().unwrap();
                }
            }
        }
        writer.finish().unwrap()
    }

    fn stored(offset: u64, record: Record) -> StoredRecord {
        StoredRecord { offset, append_time: TIME + offset, triple: None, record }
    }

    /// Neighbours in one file as the writer has them.
    fn merged(ranges: &[ArchiveRange]) -> Vec<ArchiveRange> {
        let mut merged: Vec<ArchiveRange> = Vec::new();
        for range in ranges {
            match merged.last_mut().filter(|last| (last.partition, last.end) == (range.partition, range.start)) {
                Some(last) => {
                    (last.end, last.bytes) = (range.end, last.bytes + range.bytes);
                    last.max_timestamp = last.max_timestamp.max(range.max_timestamp);
                    last.max_append_time = range.max_append_time;
                }
                None => merged.push(*range),
            }
        }
        merged
    }

    #[test]
    fn a_file_describes_itself_as_its_writer_did() {
        for format in [ValueFormat::Bytes, ValueFormat::Text] {
            let FinishedArchive { bytes, file, ranges } = written(format);
            let mut wanted = 1;
            let described = loop {
                let tail = bytes.slice(bytes.len() - wanted..);
                match describe(file.id, file.bytes, &tail) {
                    Ok(described) => break described,
                    Err(Undescribed::Needs(more)) => {
                        assert!(more > wanted as u64);
                        wanted = usize::try_from(more).unwrap();
                    }
                    Err(Undescribed::Error(error)) => panic!("{error}"),
                }
            };
            assert_eq!((&described.file, merged(&described.ranges)), (&file, ranges));
            assert_eq!(described.ranges.len(), 4, "one for each row group");
            assert_eq!(described.topic, ("default".to_owned(), "flights".to_owned()));
            assert_eq!(described.value_format, format);
        }
    }

    #[test]
    fn cut_and_changed_files_do_not_panic_and_do_not_describe_another() {
        let FinishedArchive { bytes, file, .. } = written(ValueFormat::Bytes);
        let footer = file.footer_start as usize;
        for at in footer..bytes.len() {
            assert!(describe(file.id, at as u64, &bytes.slice(..at)).is_err(), "cut at {at}");
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x41;
            // What it says of offsets is Parquet's word against ours: both would have to be changed alike.
            if let Ok(described) = describe(file.id, file.bytes, &changed.into()) {
                let rows: u64 = described.ranges.iter().map(|range| range.end - range.start).sum();
                assert_eq!((described.file.rows, rows), (file.rows, file.rows), "byte {at}");
            }
        }
    }

    #[test]
    fn another_topic_id_changes_nothing_but_itself() {
        let FinishedArchive { bytes, file, .. } = written(ValueFormat::Bytes);
        let footer = bytes.slice(file.footer_start as usize..);
        let other = TopicId(uuid::Uuid::from_u128(u128::MAX));
        let (new, changed) = renamed(&file, &footer, other).unwrap();
        assert_eq!(changed.len(), footer.len());
        assert_eq!(ArchiveFile { topic: file.topic, footer_crc32c: file.footer_crc32c, ..new.clone() }, file);
        assert_eq!(renamed(&new, &changed, file.topic).unwrap(), (file.clone(), footer.clone()));
        let stranger = ArchiveFile { topic: TopicId(uuid::Uuid::from_u128(5)), ..file };
        assert!(renamed(&stranger, &footer, other).is_err());
    }
}
