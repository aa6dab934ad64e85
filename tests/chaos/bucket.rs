//! The bucket, read at the end by a reader that shares nothing with the engine.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};

use super::check::Scan;
use super::support::http::Http;

/// Files of a page of the listing.
const FILES: usize = 1_000;

/// Everything that the files of a topic's archive hold, as any reader of Parquet sees it.
pub(crate) async fn archived(http: &Http, bucket: &Path, topic: &str) -> Scan {
    let mut rows: BTreeMap<u32, BTreeMap<u64, String>> = BTreeMap::new();
    let mut after = String::new();
    loop {
        let path = format!("/v1/topics/{topic}/archive?limit={FILES}{after}");
        let page = http.get(&path).await.expect(200);
        let mut last = None;
        for file in page["files"].as_array().unwrap() {
            let key = file["key"].as_str().unwrap();
            for row in read(&bucket.join(key)) {
                let (partition, offset, value) = row;
                let before = rows.entry(partition).or_default().insert(offset, value);
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

fn dense(partition: u32, rows: BTreeMap<u64, String>) -> Vec<String> {
    for (wanted, offset) in (0..).zip(rows.keys()) {
        assert_eq!(wanted, *offset, "the archive of partition {partition} has a gap");
    }
    rows.into_values().collect()
}

fn read(path: &Path) -> Vec<(u32, u64, String)> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let reader = SerializedFileReader::new(file).unwrap();
    reader.get_row_iter(None).unwrap().map(|row| record(&row.unwrap())).collect()
}

fn record(row: &Row) -> (u32, u64, String) {
    let field = |wanted: &str| row.get_column_iter().find(|(name, _)| *name == wanted).map(|(_, field)| field).unwrap();
    let Field::Int(partition) = field("partition") else { panic!("{row}") };
    let Field::Long(offset) = field("offset") else { panic!("{row}") };
    let value = match field("value") {
        Field::Bytes(value) => String::from_utf8(value.data().to_vec()).unwrap(),
        Field::Str(value) => value.clone(),
        _ => panic!("{row}"),
    };
    (u32::try_from(*partition).unwrap(), u64::try_from(*offset).unwrap(), value)
}
