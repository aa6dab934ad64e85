//! The records of the load. What one has besides its value (a key or none, headers, a timestamp or the server's) follows from the
//! value, so that whoever finds the value knows what else has to be there.
//!
//! Between them they have all that is told apart: no key, an empty one, text, bytes; headers whose order is not that of their
//! names, one name twice, no value; timestamps that go back and forth.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The producer whose records go to the partitions of their keys, which are their values; all others name the partition.
pub(crate) const KEYED: usize = 2;
/// Timestamps are within this day, long before any run.
const DAY_BEGINS: i64 = 1_700_006_400_000;
const DAY: i64 = 86_400_000;
/// What no record is sent with.
const NO_TIMESTAMP: i64 = -1;

/// What a record has besides its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rest {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    /// None in what is sent: the server's clock is to say it.
    pub(crate) timestamp: Option<i64>,
}

impl Rest {
    /// What the record with this value is sent with.
    pub(crate) fn of(value: &str) -> Self {
        let mut parts = value.split('-');
        let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
        let (producer, number) = (number(), number().unwrap_or(0));
        let text = |number: u32| Some(number.to_string().into_bytes());
        let bytes = || Some([&[0xff], number.to_be_bytes().as_slice()].concat());
        let key = match number % 4 {
            _ if producer.is_some_and(|producer| producer as usize == KEYED) => Some(value.as_bytes().to_vec()),
            0 => None,
            1 => Some(Vec::new()),
            2 => text(number),
            _ => bytes(),
        };
        let headers = match number % 5 {
            0 => vec![("z", text(number)), ("a", text(number + 1))],
            1 => vec![("twice", text(number + 1)), ("twice", text(number))],
            2 => vec![("none", None), ("bytes", bytes())],
            3 => vec![("one", text(number))],
            _ => Vec::new(),
        };
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        // Back and forth within four records.
        let timestamp = (number % 7 != 6).then(|| DAY_BEGINS + i64::from(number ^ 3) * 48_271 % DAY);
        Self { key, headers, timestamp }
    }

    /// Whether a record that was sent with `sent` may have this at the end.
    fn keeps(&self, sent: &Self) -> bool {
        let timestamp = match sent.timestamp {
            Some(_) => self.timestamp == sent.timestamp,
            None => self.timestamp.is_some_and(|timestamp| timestamp > DAY_BEGINS + DAY),
        };
        timestamp && self.key == sent.key && self.headers == sent.headers
    }
}

/// A record as a reader found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) value: String,
    timestamp: i64,
    /// What it has besides and what it was sent with, if that is not the same. Only that is kept: a run reads very many.
    changed: Option<Box<str>>,
}

impl Found {
    /// A value, and what was found with it.
    pub(crate) fn new(value: String, rest: &Rest) -> Self {
        let sent = Rest::of(&value);
        let changed = (!rest.keeps(&sent)).then(|| format!("has {rest:?} and was sent with {sent:?}").into());
        Self { value, timestamp: rest.timestamp.unwrap_or(NO_TIMESTAMP), changed }
    }

    /// A record of an answer with `values=text`.
    pub(crate) fn read(record: &Value) -> Self {
        let key = match &record["key_base64"] {
            Value::Null => bytes(&record["key"]),
            key => bytes(&json!({ "base64": key })),
        };
        let header = |header: &Value| (header[0].as_str().unwrap_or("no name").to_owned(), bytes(&header[1]));
        let headers = record["headers"]
            .as_array()
            .map_or_else(|| vec![("no headers".to_owned(), None)], |headers| headers.iter().map(header).collect());
        let rest = Rest { key, headers, timestamp: record["timestamp"].as_i64() };
        Self::new(record["text"].as_str().unwrap_or("no text").to_owned(), &rest)
    }

    /// Whether it has all that it was sent with, and nothing else.
    pub(crate) fn is_whole(&self) -> bool {
        self.changed.is_none()
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (timestamp {})", self.value, self.timestamp)?;
        self.changed.as_ref().map_or(Ok(()), |changed| write!(f, ", which {changed}"))
    }
}

/// The record with this value as the body of a request has it.
pub(crate) fn body(value: &str) -> Value {
    let rest = Rest::of(value);
    let mut record = json!({"text": value});
    match rest.key.map(String::from_utf8) {
        Some(Ok(key)) => record["key"] = key.into(),
        Some(Err(key)) => record["key_base64"] = STANDARD.encode(key.as_bytes()).into(),
        None => {}
    }
    if !rest.headers.is_empty() {
        let header = |(name, value): (String, Option<Vec<u8>>)| match value.map(String::from_utf8) {
            Some(Ok(text)) => json!([name, text]),
            Some(Err(bytes)) => json!([name, {"base64": STANDARD.encode(bytes.as_bytes())}]),
            None => json!([name, null]),
        };
        record["headers"] = rest.headers.into_iter().map(header).collect();
    }
    if let Some(timestamp) = rest.timestamp {
        record["timestamp"] = timestamp.into();
    }
    record
}

/// Text, bytes or nothing, as an answer has it; what is none of these is nothing that is ever sent.
fn bytes(field: &Value) -> Option<Vec<u8>> {
    match field {
        Value::Null => None,
        Value::String(text) => Some(text.clone().into_bytes()),
        other => {
            let decoded = other["base64"].as_str().and_then(|text| STANDARD.decode(text).ok());
            Some(decoded.unwrap_or_else(|| format!("neither text nor bytes: {other}").into_bytes()))
        }
    }
}
