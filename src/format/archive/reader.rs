//! Reads an archive file from fetched bytes: first the footer, then the row groups that hold what is wanted.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;

use super::metadata::{self, RowGroup};
use super::schema::column;
use super::window::Window;
use super::{ROW_GROUP_ROWS, check, decode};
use crate::error::{Error, Result};
use crate::model::{ArchiveFile, ObjectId, Offset, StoredRecord};

/// A decoded footer: says which bytes to fetch for which offsets, and decodes them. Cheap to clone.
#[derive(Clone)]
pub struct ArchiveReader {
    file: ObjectId,
    file_len: u64,
    parquet: ArrowReaderMetadata,
    groups: Arc<[RowGroup]>,
}

impl ArchiveReader {
    /// Decodes `footer`: the bytes from `file.footer_start` to the end of the object.
    ///
    /// # Errors
    /// `corrupt` if they fail their checksum, are not a footer of this version, or contradict `file`.
    pub fn open(file: &ArchiveFile, footer: Bytes) -> Result<Self> {
        let corrupt = |what: String| Error::corrupt(format!("the footer of archive file {} {what}", file.id));
        if file.footer_start.checked_add(footer.len() as u64) != Some(file.bytes) {
            return Err(corrupt(format!("has {} bytes", footer.len())));
        }
        if crc32c::crc32c(&footer) != file.footer_crc32c {
            return Err(corrupt("fails its checksum".to_owned()));
        }
        let window = Window { file_len: file.bytes, start: file.footer_start, bytes: footer };
        // Only the offset index: it lets a reader skip pages. The column index is for analysts.
        let options = ArrowReaderOptions::new()
            .with_skip_arrow_metadata(true)
            .with_offset_index_policy(PageIndexPolicy::Required)
            .with_column_index_policy(PageIndexPolicy::Skip);
        let parquet = contained(|| ArrowReaderMetadata::load(&window, options))
            .map_err(|error| corrupt("cannot be decoded".to_owned()).with_source(error))?;
        let ours = metadata::decode(parquet.metadata().file_metadata().key_value_metadata(), file.footer_start)
            .map_err(|what| corrupt(format!("cannot be used: {what}")))?;
        check::footer(file, &parquet, &ours).map_err(|what| corrupt(format!("contradicts itself: {what}")))?;
        Ok(Self { file: file.id, file_len: file.bytes, parquet, groups: ours.groups.into() })
    }

    /// The row groups, by partition and offset.
    #[must_use]
    pub fn groups(&self) -> &[RowGroup] {
        &self.groups
    }

    /// The first row group of `partition` that holds offsets at or above `offset`.
    #[must_use]
    pub fn group_at(&self, partition: u32, offset: Offset) -> Option<usize> {
        let index = self.groups.partition_point(|group| (group.partition, group.end) <= (partition, offset));
        self.groups.get(index).filter(|group| group.partition == partition).map(|_| index)
    }

    /// About how many rows of row group `group` have `bytes` bytes, by the average of the group.
    #[must_use]
    pub fn rows_within(&self, group: usize, bytes: u64) -> u64 {
        let Some(found) = self.parquet.metadata().row_groups().get(group) else { return 0 };
        let (rows, all) = (found.num_rows().unsigned_abs(), found.total_byte_size().unsigned_abs());
        u64::try_from(u128::from(bytes) * u128::from(rows) / u128::from(all.max(1))).unwrap_or(u64::MAX)
    }

    /// Decodes the records of row group `group` whose offsets are in `offsets`, from the group's bytes.
    ///
    /// # Errors
    /// `corrupt` if `bytes` fail the group's checksum or do not decode to what the footer says.
    pub fn records(&self, group: usize, bytes: Bytes, offsets: Range<Offset>) -> Result<Vec<StoredRecord>> {
        let mut records = Vec::new();
        for batch in self.batches(group, bytes, &offsets, ProjectionMask::all())? {
            decode::records(&batch, &mut records).map_err(|what| self.corrupt(group, &what))?;
        }
        let place = &self.groups[group];
        let wanted = offsets.start.max(place.start)..offsets.end.min(place.end);
        if records.iter().map(|record| record.offset).ne(wanted) {
            return Err(self.corrupt(group, "has offsets that are out of order"));
        }
        Ok(records)
    }

    /// The lowest offset in row group `group`, at or above `from`, whose timestamp is at least `timestamp`; decodes two
    /// columns only.
    ///
    /// # Errors
    /// As [`ArchiveReader::records`].
    pub fn offset_of_timestamp(
        &self,
        group: usize,
        bytes: Bytes,
        from: Offset,
        timestamp: i64,
    ) -> Result<Option<Offset>> {
        let columns = ProjectionMask::roots(self.parquet.parquet_schema(), [column::OFFSET, column::TIMESTAMP]);
        for batch in self.batches(group, bytes, &(from..Offset::MAX), columns)? {
            let pairs = decode::offsets_and_timestamps(&batch).map_err(|what| self.corrupt(group, &what))?;
            let found = pairs.into_iter().find(|(offset, found)| *offset >= from && *found >= timestamp);
            if let Some((offset, _)) = found {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    /// Verifies the bytes of row group `group` and decodes `columns` of the rows that may hold `offsets`.
    fn batches(
        &self,
        group: usize,
        bytes: Bytes,
        offsets: &Range<Offset>,
        columns: ProjectionMask,
    ) -> Result<Vec<RecordBatch>> {
        let Some(place) = self.groups.get(group) else {
            return Err(Error::internal(format!("archive file {} has no row group {group}", self.file)));
        };
        if bytes.len() as u64 != place.bytes || crc32c::crc32c(&bytes) != place.crc32c {
            return Err(self.corrupt(group, "fails its checksum"));
        }
        let window = Window { file_len: self.file_len, start: place.position, bytes };
        contained(|| self.decode(group, window, selection(place, offsets), columns))
            .map_err(|error| self.corrupt(group, "cannot be decoded").with_source(error))
    }

    fn decode(
        &self,
        group: usize,
        window: Window,
        selection: RowSelection,
        columns: ProjectionMask,
    ) -> Result<Vec<RecordBatch>, ParquetError> {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(window, self.parquet.clone())
            .with_row_groups(vec![group])
            .with_projection(columns)
            .with_batch_size(ROW_GROUP_ROWS)
            .with_row_selection(selection);
        Ok(builder.build()?.collect::<Result<_, _>>()?)
    }

    fn corrupt(&self, group: usize, what: &str) -> Error {
        Error::corrupt(format!("row group {group} of archive file {} {what}", self.file))
    }
}

/// The rows of `group` that hold `offsets`.
fn selection(group: &RowGroup, offsets: &Range<Offset>) -> RowSelection {
    let start = offsets.start.clamp(group.start, group.end);
    let end = offsets.end.clamp(start, group.end);
    // At most the rows of the group, which a file's metadata counts in an i64 and memory holds.
    let rows = |from: Offset, to: Offset| (to - from) as usize;
    RowSelection::from(vec![
        RowSelector::skip(rows(group.start, start)),
        RowSelector::select(rows(start, end)),
        RowSelector::skip(rows(end, group.end)),
    ])
}

/// Runs Parquet's decoder, which asserts what other writers' metadata claims: bytes whose checksum is right and whose
/// content is wrong (a defect of a writer, a forger) are an error here, not the end of the process.
pub(super) fn contained<T>(decode: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    // Nothing that the closure can leave half changed outlives it.
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(ParquetError::General("the decoder panicked".to_owned())))
}
