#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use super::{Cut, Cutter, Last, STICKY_ROWS};
use crate::input::{Row, ValueKind};
use tidelog_client::partition_of;

fn row(key: Option<&str>, value: &str) -> Row {
    Row {
        key: key.unwrap_or_default().to_owned(),
        has_key: key.is_some(),
        kind: ValueKind::Json,
        value: value.as_bytes().to_vec(),
    }
}

/// Everything that a cutter gives for `rows`, by partition.
fn cut(mut cutter: Cutter, rows: &[Row]) -> HashMap<u32, Vec<String>> {
    let mut cuts: Vec<Cut> = rows.iter().filter_map(|row| cutter.push(row).unwrap()).collect();
    cuts.extend(cutter.open_partitions().into_iter().filter_map(|partition| cutter.take(partition)));
    cutter.finish().unwrap();
    let mut lines: HashMap<u32, Vec<String>> = HashMap::new();
    for cut in cuts {
        assert_eq!(cut.batch.count as usize, cut.rows.len());
        let text = std::str::from_utf8(&cut.batch.lines).unwrap().lines().map(str::to_owned);
        lines.entry(cut.partition).or_default().extend(text);
    }
    lines
}

#[test]
fn keys_choose_partitions_and_rows_without_a_key_take_turns() {
    let keyed = cut(Cutter::new(4, None, HashMap::new(), None), &[row(Some("LAX"), "1"), row(Some(""), "2")]);
    assert_eq!(keyed[&partition_of(b"LAX", 4)], [r#"{"key":"LAX","value":1}"#]);
    assert_eq!(keyed[&partition_of(b"", 4)], [r#"{"key":"","value":2}"#]);
    let rows: Vec<Row> = (0..2 * STICKY_ROWS + 1).map(|_| row(None, "null")).collect();
    let keyless = cut(Cutter::new(2, None, HashMap::new(), None), &rows);
    assert_eq!(keyless[&0].len() as u64, STICKY_ROWS + 1, "it is the first one's turn again");
    assert_eq!(keyless[&1].len() as u64, STICKY_ROWS);
}

#[test]
fn a_resumed_run_sends_exactly_what_is_missing() {
    let rows: Vec<Row> =
        (0..5_000).map(|n| row((n % 3 > 0).then(|| format!("k{}", n % 7)).as_deref(), &n.to_string())).collect();
    let whole = cut(Cutter::new(3, None, HashMap::new(), None), &rows);
    let written = HashMap::from([(0, 17), (2, whole[&2].len() as u64)]);
    let rest = cut(Cutter::new(3, None, written, None), &rows);
    assert_eq!(rest[&0], whole[&0][17..]);
    assert_eq!(rest[&1], whole[&1]);
    assert!(!rest.contains_key(&2), "all of it was written");
}

#[test]
fn an_input_shorter_than_what_was_written_is_refused() {
    let mut cutter = Cutter::new(1, None, HashMap::from([(0, 2)]), None);
    cutter.push(&row(None, "1")).unwrap();
    assert!(cutter.finish().is_err());
    cutter.push(&row(None, "2")).unwrap();
    cutter.finish().unwrap();
}

#[test]
fn an_input_that_changed_before_where_a_run_stopped_is_refused() {
    let last = |key: Option<&str>, value: &str| Last {
        key: key.map(|key| key.as_bytes().to_vec()),
        value: (value != "null").then(|| value.as_bytes().to_vec()),
    };
    let resumed = |last| Cutter::new(1, None, HashMap::from([(0, 2)]), None).ending_with(HashMap::from([(0, last)]));
    for (stored, row, same) in [
        (last(None, "2"), row(None, "2"), true),
        (last(Some(""), "2"), row(Some(""), " 2 "), true),
        (last(None, "null"), row(None, "null"), true),
        (last(None, "2"), row(None, "3"), false),
        (last(Some(""), "2"), row(None, "2"), false),
        (last(Some("k"), "2"), row(Some("l"), "2"), false),
        (last(None, "null"), row(None, "0"), false),
    ] {
        let mut cutter = resumed(stored.clone());
        cutter.push(&self::row(None, "1")).unwrap();
        assert_eq!(cutter.push(&row).is_ok(), same, "{stored:?} {row:?}");
    }
}

#[test]
fn every_kind_of_value_becomes_a_line_of_the_api() {
    let mut rows = [row(None, "{\"a\": 1}"), row(None, "a\"b"), row(None, "x")];
    rows[1].kind = ValueKind::Text;
    rows[2].kind = ValueKind::Binary;
    rows[2].value = vec![0xff, 0];
    let lines = cut(Cutter::new(1, Some(0), HashMap::new(), None), &rows);
    assert_eq!(lines[&0], [r#"{"value":{"a": 1}}"#, r#"{"text":"a\"b"}"#, r#"{"base64":"/wA="}"#]);
}

#[test]
fn a_batch_is_cut_at_its_length_and_its_count() {
    let mut cutter = Cutter::new(1, None, HashMap::new(), None);
    let large = row(None, &format!("\"{}\"", "x".repeat(400_000)));
    assert!(cutter.push(&large).unwrap().is_none() && cutter.push(&large).unwrap().is_none());
    assert_eq!(cutter.push(&large).unwrap().unwrap().rows, [0, 1, 2]);
    let small = row(None, "1");
    let count = (0..).find_map(|_| cutter.push(&small).unwrap()).unwrap().batch.count;
    assert_eq!(count, 10_000);
}
