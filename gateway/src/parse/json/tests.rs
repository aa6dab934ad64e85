#![allow(clippy::unwrap_used)]

use tidelog::model::{Header, Record};

use super::*;

const NOW: i64 = 1_700_000_000_000;

fn read(body: &str) -> Result<Records> {
    parse(&Bytes::copy_from_slice(body.as_bytes()), NOW)
}

fn one(record: &str) -> Record {
    let mut records = read(&format!(r#"{{"records":[{record}]}}"#)).unwrap();
    assert_eq!(records.len(), 1);
    records.remove(0).1
}

/// Code and index of the fault.
fn fails(body: &str) -> (ErrorCode, Option<u64>) {
    let error = read(body).unwrap_err();
    (error.code(), error.details().get("index").and_then(serde_json::Value::as_u64))
}

#[test]
fn values_are_the_exact_bytes_of_their_text() {
    for text in ["1.10e400", "[ 1,\t2 ]", "{\"a\" : \"\\u0041\\ud800\"}", "\"x\"", "false", "123456789012345678901"] {
        assert_eq!(one(&format!(r#"{{"value": {text} }}"#)).value.unwrap(), text.as_bytes());
    }
}

#[test]
fn null_empty_absent_and_the_text_null_are_told_apart() {
    assert_eq!(one(r#"{"value":null}"#).value, None);
    assert_eq!(one(r#"{"text":"null"}"#).value.unwrap(), "null");
    assert_eq!(one(r#"{"text":""}"#).value.unwrap(), "");
    assert_eq!(one(r#"{"base64":""}"#).value.unwrap(), "");
    assert_eq!(one(r#"{"value":"null"}"#).value.unwrap(), "\"null\"");
    assert_eq!(one(r#"{"value":1}"#).key, None);
    assert_eq!(one(r#"{"value":1,"key":null}"#).key, None);
    assert_eq!(one(r#"{"value":1,"key":""}"#).key.unwrap(), "");
    assert_eq!(one(r#"{"value":1,"key":"a\nb"}"#).key.unwrap(), "a\nb");
    assert_eq!(one(r#"{"value":1,"key_base64":"AP8"}"#).key.unwrap(), &[0u8, 255][..]);
}

#[test]
fn headers_keep_order_and_repeats() {
    let header = |name: &str, value: Option<&'static [u8]>| Header {
        name: name.to_owned(),
        value: value.map(Bytes::from_static),
    };
    let record = one(r#"{"value":1,"headers":[["h","v"],["b",{"base64":"AA=="}],["h",""],["n",null]]}"#);
    assert_eq!(
        record.headers,
        [header("h", Some(b"v")), header("b", Some(&[0])), header("h", Some(b"")), header("n", None)]
    );
    assert_eq!(one(r#"{"value":1,"headers":{"b":"1","a":"2"}}"#).headers.len(), 2);
}

#[test]
fn timestamps_default_to_the_clock_and_partitions_are_taken() {
    let records = read(r#"{"records":[{"value":1},{"value":2,"timestamp":5,"partition":3}]}"#).unwrap();
    assert_eq!((records[0].0, records[0].1.timestamp), (None, NOW));
    assert_eq!((records[1].0, records[1].1.timestamp), (Some(3), 5));
}

#[test]
fn faults_of_content_name_the_record() {
    for bad in [
        "{}",
        r#"{"value":1,"text":"a"}"#,
        r#"{"value":null,"base64":""}"#,
        r#"{"value":1,"extra":0}"#,
        r#"{"value":1,"value":2}"#,
        r#"{"value":1,"timestamp":-1}"#,
        r#"{"value":1,"timestamp":1.5}"#,
        r#"{"value":1,"timestamp":"2020-01-01"}"#,
        r#"{"value":1,"partition":-1}"#,
        r#"{"value":1,"key":5}"#,
        r#"{"value":1,"key":"a","key_base64":"YQ=="}"#,
        r#"{"base64":"*"}"#,
        r#"{"value":1,"headers":[["a"]]}"#,
        r#"["k"]"#,
        "5",
        "null",
    ] {
        let body = format!(r#"{{"records":[{{"value":0}},{bad},{{"value":9}}]}}"#);
        assert_eq!(fails(&body), (ErrorCode::InvalidRecord, Some(1)), "{bad}");
    }
}

#[test]
fn faults_of_the_body_do_not_name_one() {
    assert_eq!(fails(r#"{"records":[{"value":1}]"#), (ErrorCode::InvalidJson, None));
    assert_eq!(fails(r#"{"records":[{"value":1},]}"#), (ErrorCode::InvalidJson, None));
    assert_eq!(fails(r#"{"records":[{"value":tru}]}"#), (ErrorCode::InvalidJson, None));
    assert_eq!(fails(""), (ErrorCode::InvalidJson, None));
    for bad in [
        "{}",
        "[]",
        "5",
        r#"{"record":[]}"#,
        r#"{"records":5}"#,
        r#"{"records":[],"acks":1}"#,
        r#"{"records":[],"records":[]}"#,
    ] {
        assert_eq!(fails(bad), (ErrorCode::InvalidRequest, None), "{bad}");
    }
    assert!(parse(&Bytes::from_static(b"{\"records\":[{\"text\":\"\xff\"}]}"), NOW).is_err());
    assert!(parse(&Bytes::from_static(b"{\"records\":[{\"value\":\"\xff\"}]}"), NOW).is_err());
}

#[test]
fn counts_and_depth_are_bounded() {
    let list = |count: usize| format!(r#"{{"records":[{}]}}"#, vec![r#"{"value":1}"#; count].join(","));
    assert_eq!(read(&list(MAX_RECORDS)).unwrap().len(), MAX_RECORDS);
    assert_eq!(read(&list(MAX_RECORDS + 1)).unwrap_err().code(), ErrorCode::TooManyRecords);
    let nested = |depth: usize| format!(r#"{{"records":[{{"value":{}{}}}]}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(read(&nested(64)).is_ok());
    assert_eq!(fails(&nested(65)), (ErrorCode::InvalidRecord, Some(0)));
    assert_eq!(fails(&nested(100_000)), (ErrorCode::InvalidRecord, Some(0)));
}
