//! Checks Parquet's own metadata against ours: its reader trusts page positions enough to panic over wrong ones.

use std::ops::Range;

use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;

use super::metadata::{Metadata, RowGroup};
use super::schema;
use crate::model::ArchiveFile;

/// Schema, row counts, and that each column chunk and each page lies where it can.
pub(super) fn footer(file: &ArchiveFile, parquet: &ArrowReaderMetadata, ours: &Metadata) -> Result<(), String> {
    if ours.topic != file.topic || ours.day != file.day {
        return Err("it is of another topic or day".to_owned());
    }
    let expected = schema::parquet_schema(schema::is_text(ours.value_format)).map_err(|error| error.to_string())?;
    if parquet.parquet_schema().root_schema().get_fields() != expected.root_schema().get_fields() {
        return Err("its columns are not those of this version".to_owned());
    }
    let theirs = parquet.metadata().row_groups();
    let indexes = parquet.metadata().offset_index().map_or(&[][..], Vec::as_slice);
    if theirs.len() != ours.groups.len() || indexes.len() != ours.groups.len() {
        return Err("the number of row groups".to_owned());
    }
    let mut rows = 0u64;
    for ((place, found), index) in ours.groups.iter().zip(theirs).zip(indexes) {
        if u64::try_from(found.num_rows()) != Ok(place.rows()) || !lies_within(place, found, index) {
            return Err(format!("the row group at byte {}", place.position));
        }
        rows = rows.saturating_add(place.rows());
    }
    if rows == file.rows { Ok(()) } else { Err("the number of rows".to_owned()) }
}

fn lies_within(place: &RowGroup, found: &RowGroupMetaData, indexes: &[OffsetIndexMetaData]) -> bool {
    let end = place.position.saturating_add(place.bytes);
    found.columns().len() == indexes.len()
        && found.columns().iter().zip(indexes).all(|(chunk, index)| {
            chunk_bytes(chunk).is_some_and(|chunk| {
                chunk.start >= place.position && chunk.end <= end && pages_fit(index, &chunk, place.rows())
            })
        })
}

fn chunk_bytes(chunk: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
    let start = u64::try_from(start).ok()?;
    let end = start.checked_add(u64::try_from(chunk.compressed_size()).ok()?)?;
    Some(start..end)
}

/// Pages follow one another within the chunk, and so do their first rows, from 0.
fn pages_fit(index: &OffsetIndexMetaData, chunk: &Range<u64>, rows: u64) -> bool {
    let mut position = chunk.start;
    let mut next_row = 0u64;
    let fit = index.page_locations().iter().enumerate().all(|(number, page)| {
        let (Ok(start), Ok(len), Ok(row)) =
            (u64::try_from(page.offset), u64::try_from(page.compressed_page_size), u64::try_from(page.first_row_index))
        else {
            return false;
        };
        let fits = start >= position && row >= next_row && row < rows && (number > 0 || row == 0);
        position = start.saturating_add(len);
        next_row = row + 1;
        fits
    });
    fit && position <= chunk.end && !index.page_locations().is_empty()
}
