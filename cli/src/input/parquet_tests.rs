#![allow(clippy::unwrap_used)]

use arrow_array::{ArrayRef, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::*;

/// A file with a row group for each of `groups`, of rows of so many bytes.
fn file(groups: &[(usize, usize)]) -> File {
    let file = tempfile::tempfile().unwrap();
    let mut writer = None;
    for (rows, bytes) in groups {
        // Different rows, so that they are not written once.
        let row = |row: usize| format!("{row:08}{}", "x".repeat(bytes - 8));
        let rows: ArrayRef = Arc::new((0..*rows).map(|number| Some(row(number))).collect::<StringArray>());
        let batch = RecordBatch::try_from_iter([("text", rows)]).unwrap();
        let writer = writer.get_or_insert_with(|| {
            let properties = WriterProperties::builder().set_compression(Compression::UNCOMPRESSED).build();
            ArrowWriter::try_new(file.try_clone().unwrap(), batch.schema(), Some(properties)).unwrap()
        });
        writer.write(&batch).unwrap();
        writer.flush().unwrap();
    }
    writer.unwrap().close().unwrap();
    file
}

fn open(groups: &[(usize, usize)]) -> ParquetRows {
    ParquetRows::open(file(groups), None, Arc::default()).unwrap().0
}

#[test]
fn long_rows_are_read_few_at_a_time() {
    // Of which 100 million bytes would be one batch of as many rows as it may have.
    let mut rows = open(&[(1_000, 20), (50, 1 << 20)]);
    let (mut row, mut count, mut longest) = (Row::default(), 0, 0);
    while rows.next(&mut row).unwrap() {
        count += 1;
        longest = longest.max(rows.batch.values.len());
    }
    assert_eq!(count, 1_050);
    assert!(longest as u64 <= BATCH_BYTES + (1 << 20), "{longest} bytes at once");
    let mut short = open(&[(10_000, 20)]);
    assert!(short.next(&mut row).unwrap());
    assert_eq!(short.batch.ends.len() as u64, MAX_BATCH_ROWS);
}

#[test]
fn a_row_that_is_longer_than_one_may_be_is_refused() {
    let mut rows = open(&[(3, 20), (1, MAX_ROW_LEN)]);
    let mut row = Row::default();
    let error = loop {
        match rows.next(&mut row) {
            Ok(more) => assert!(more, "the long row was not refused"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("row 4 ") && error.contains("16777216 bytes"), "{error}");
}
