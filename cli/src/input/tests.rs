#![allow(clippy::unwrap_used)]

use std::io::{Cursor, Read as _};
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use parquet::arrow::ArrowWriter;

use super::{Format, Row, RowSource, ValueKind, open, text_rows};

fn read(text: &[u8], format: Format, key: Option<&str>) -> anyhow::Result<Vec<(Option<String>, ValueKind, String)>> {
    let rows = text_rows(Box::new(Cursor::new(text.to_vec())), format, key)?;
    drain(rows)
}

fn drain(mut rows: Box<dyn RowSource>) -> anyhow::Result<Vec<(Option<String>, ValueKind, String)>> {
    let mut row = Row::default();
    let mut all = Vec::new();
    while rows.next(&mut row)? {
        let key = row.has_key.then(|| row.key.clone());
        all.push((key, row.kind, String::from_utf8_lossy(&row.value).into_owned()));
    }
    Ok(all)
}

fn values(text: &str, format: Format) -> Vec<String> {
    read(text.as_bytes(), format, None).unwrap().into_iter().map(|(_, _, value)| value).collect()
}

fn keys(text: &str, format: Format, field: &str) -> Vec<Option<String>> {
    read(text.as_bytes(), format, Some(field)).unwrap().into_iter().map(|(key, ..)| key).collect()
}

#[test]
fn lines_are_values_as_they_are() {
    assert_eq!(values("a\r\n\nlast", Format::Lines), ["a", "", "last"]);
    assert_eq!(values("", Format::Lines), [""; 0]);
    let kinds: Vec<_> =
        read(b"\xff\nok\n", Format::Lines, None).unwrap().into_iter().map(|(_, kind, _)| kind).collect();
    assert_eq!(kinds, [ValueKind::Binary, ValueKind::Text]);
}

#[test]
fn ndjson_lines_are_checked_whole() {
    assert_eq!(values("{\"a\": 1.50}\n\n [1, 2]\r\nnull\n", Format::Ndjson), ["{\"a\": 1.50}", "[1, 2]", "null"]);
    for broken in ["{\"a\":1", "1,\"key\":\"x\"", "{} {}", "nul", "\u{1}"] {
        let error = read(format!("1\n{broken}\n").as_bytes(), Format::Ndjson, None).unwrap_err();
        assert!(format!("{error:#}").starts_with("line 2"), "{broken}: {error:#}");
    }
    assert!(read(b"\"\xff\"", Format::Ndjson, None).is_err());
}

#[test]
fn a_field_becomes_the_key() {
    let text = r#"{"o":"LAX","n":1}
{"n":{"o":"deep"},"o":"a\"bé"}
{"o":12.50}
{"o":true}
{"o":null}
{"other":1}
{"o":""}"#;
    let expected = [Some("LAX"), Some("a\"bé"), Some("12.50"), Some("true"), None, None, Some("")];
    assert_eq!(keys(text, Format::Ndjson, "o"), expected.map(|key| key.map(str::to_owned)));
    for wrong in [r#"{"o":[1]}"#, r#"{"o":{}}"#, "[1]", "1"] {
        assert!(read(wrong.as_bytes(), Format::Ndjson, Some("o")).is_err(), "{wrong}");
    }
}

#[test]
fn an_array_is_cut_into_its_elements() {
    let text = " [ {\"a\": \"],[\\\"\"},\n [1,\n 2] , \"x,y\", null ]\n";
    assert_eq!(values(text, Format::Json), ["{\"a\": \"],[\\\"\"}", "[1,  2]", "\"x,y\"", "null"]);
    assert_eq!(values("[]", Format::Json), [""; 0]);
    assert_eq!(values("[ \n ] ", Format::Json), [""; 0]);
    assert_eq!(keys(r#"[{"k":1},{"k":"b"}]"#, Format::Json, "k"), [Some("1".to_owned()), Some("b".to_owned())]);
    for broken in ["", "{}", "[1", "[1,]", "[,1]", "[1]]", "[1] 2", "[{]}", "[\"a\nb\"]"] {
        assert!(read(broken.as_bytes(), Format::Json, None).is_err(), "{broken}");
    }
}

#[test]
fn csv_rows_become_objects_of_strings() {
    let text = "id,na\"me\n007,\"a,\"\"b\"\"\nc\"\n8,\n";
    assert_eq!(values(text, Format::Csv), [r#"{"id":"007","na\"me":"a,\"b\"\nc"}"#, r#"{"id":"8","na\"me":""}"#]);
    assert_eq!(keys(text, Format::Csv, "id"), [Some("007".to_owned()), Some("8".to_owned())]);
    assert!(read(b"a,b\n1\n", Format::Csv, None).is_err(), "a row is too short");
    assert!(read(b"a,a\n1,2\n", Format::Csv, None).is_err(), "a name is there twice");
    assert!(read(b"a\n1\n", Format::Csv, Some("b")).is_err(), "no such column");
}

fn parquet_file() -> tempfile::NamedTempFile {
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("date", Arc::new(TimestampMillisecondArray::from(vec![978_307_260_000, 1, 0])), true),
        ("n", Arc::new(Int64Array::from(vec![Some(9_007_199_254_740_993), None, Some(-1)])), true),
        ("x", Arc::new(Float64Array::from(vec![0.1, 1e300, -0.0])), true),
        ("origin", Arc::new(StringArray::from(vec![Some("LAS"), None, Some("a\"b")])), true),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let file = tempfile::Builder::new().suffix(".parquet").tempfile().unwrap();
    let mut writer = ArrowWriter::try_new(file.reopen().unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    file
}

#[test]
fn parquet_rows_become_exact_objects() {
    let file = parquet_file();
    let input = open(Some(file.path()), Format::Parquet, Some("origin")).unwrap();
    assert_eq!(input.extent, super::Extent::Rows(3));
    let rows = drain(input.rows).unwrap();
    let expected = [
        (Some("LAS"), r#"{"date":"2001-01-01T00:01:00Z","n":9007199254740993,"x":0.1,"origin":"LAS"}"#),
        (None, r#"{"date":"1970-01-01T00:00:00.001Z","n":null,"x":1.0e300,"origin":null}"#),
        (Some("a\"b"), r#"{"date":"1970-01-01T00:00:00Z","n":-1,"x":-0.0,"origin":"a\"b"}"#),
    ];
    for ((key, _, value), (expected_key, expected_value)) in rows.iter().zip(expected) {
        assert_eq!((key.as_deref(), value.as_str()), (expected_key, expected_value));
    }
    assert_eq!(rows.len(), 3);
    let keys = drain(open(Some(file.path()), Format::Parquet, Some("n")).unwrap().rows).unwrap();
    assert_eq!(keys[0].0.as_deref(), Some("9007199254740993"));
    assert!(open(Some(file.path()), Format::Parquet, Some("nosuch")).is_err());
}

#[test]
fn formats_are_told_by_extension() {
    for (name, format) in [
        ("a.ndjson", Some(Format::Ndjson)),
        ("a.JSON", Some(Format::Json)),
        ("b/a.parquet", Some(Format::Parquet)),
        ("a.csv", Some(Format::Csv)),
        ("a.txt", Some(Format::Lines)),
        ("a", None),
        ("a.exe", None),
    ] {
        assert_eq!(Format::of(name.as_ref()), format, "{name}");
    }
}

/// An input that does not end is not read into memory.
#[test]
fn a_csv_whose_quote_is_not_closed_is_refused_before_it_fills_the_memory() {
    for begins in ["a,b\n1,\"", "\"a"] {
        let endless = Cursor::new(begins.as_bytes().to_vec()).chain(std::io::repeat(b'x'));
        let read = text_rows(Box::new(endless), Format::Csv, None).and_then(drain);
        let error = format!("{:#}", read.unwrap_err());
        assert!(error.contains("is a quote not closed?"), "{error}");
    }
}
