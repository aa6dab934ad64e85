//! The bucket, read at the end by a reader that shares nothing with the engine.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};

use super::check::Scan;
use super::journal::record::{Found, Rest};
use super::support::http::Http;

/// Files of a page of the listing.
const FILES: usize = 1_000;

/// Everything that the files of a topic's archive hold, as any reader of Parquet sees it.
pub(crate) async fn archived(http: &Http, bucket: &Path, topic: &str) -> Scan {
    let mut rows: BTreeMap<u32, BTreeMap<u64, Found>> = BTreeMap::new();
    let mut after = String::new();
    loop {
        let path = format!("/v1/topics/{topic}/archive?limit={FILES}{after}");
        let page = http.get(&path).await.expect(200);
        let mut last = None;
        for file in page["files"].as_array().unwrap() {
            let key = file["key"].as_str().unwrap();
            for row in read(&bucket.join(key)) {
                let (partition, offset, found) = row;
                let before = rows.entry(partition).or_default().insert(offset, found);
                assert!(before.is_none(), "{key} has offset {offset} of partition {partition} once more");
            }
            last = Some(key.to_owned());
        }
        match last.filter(|_| page["has_more"] == true) {
            Some(last) => after = format!("&start_after={last}"),
            None => break,
        }
    }
    rows.into_iter().map(|(partition, rows)| (partition, dense(partition, rows))).collect()
}

fn dense(partition: u32, rows: BTreeMap<u64, Found>) -> Vec<Found> {
    for (wanted, offset) in (0..).zip(rows.keys()) {
        assert_eq!(wanted, *offset, "the archive of partition {partition} has a gap");
    }
    rows.into_values().collect()
}

fn read(path: &Path) -> Vec<(u32, u64, Found)> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let reader = SerializedFileReader::new(file).unwrap();
    reader.get_row_iter(None).unwrap().map(|row| record(&row.unwrap())).collect()
}

fn record(row: &Row) -> (u32, u64, Found) {
    let Field::Int(partition) = field(row, "partition") else { panic!("{row}") };
    let Field::Long(offset) = field(row, "offset") else { panic!("{row}") };
    let (Field::TimestampMillis(timestamp) | Field::Long(timestamp)) = field(row, "timestamp") else { panic!("{row}") };
    let Field::ListInternal(headers) = field(row, "headers") else { panic!("{row}") };
    let header = |header: &Field| {
        let Field::Group(header) = header else { panic!("{row}") };
        let name = bytes(header, "key").unwrap_or_else(|| panic!("{row}"));
        (String::from_utf8(name).unwrap(), bytes(header, "value"))
    };
    let headers = headers.elements().iter().map(header).collect();
    let rest = Rest { key: bytes(row, "key"), headers, timestamp: Some(*timestamp) };
    let value = String::from_utf8(bytes(row, "value").unwrap_or_else(|| panic!("{row}"))).unwrap();
    let found = Found::new(value, &rest);
    (u32::try_from(*partition).unwrap(), u64::try_from(*offset).unwrap(), found)
}

fn field<'a>(row: &'a Row, wanted: &str) -> &'a Field {
    let found = row.get_column_iter().find(|(name, _)| *name == wanted);
    found.map(|(_, field)| field).unwrap_or_else(|| panic!("{row} has no {wanted}"))
}

/// Of a column that has text, bytes, or null.
fn bytes(row: &Row, column: &str) -> Option<Vec<u8>> {
    match field(row, column) {
        Field::Null => None,
        Field::Bytes(bytes) => Some(bytes.data().to_vec()),
        Field::Str(text) => Some(text.clone().into_bytes()),
        _ => panic!("{row}"),
    }
}
