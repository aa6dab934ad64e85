//! Request bodies, made before the run: a set of different ones, sent in turn.
//!
//! A value is a JSON object of exactly the bytes asked for, most of them random letters of base64's alphabet: zstd makes it
//! about a quarter smaller, as it would real text that does not repeat.

use anyhow::Result;
use bytes::Bytes;
use tidelog::format::batch;
use tidelog::model::{Compression, Record};
use tidelog_api::{headers, limits};

use super::args::{CompressionArg, ContentType, Load};
use crate::exit::usage;

/// Bytes of all bodies together, unless one is larger than that.
const SET_BYTES: usize = 16 << 20;
const SET_LEN: usize = 256;
/// Of the smallest object that has an id; smaller values are JSON strings.
const MIN_OBJECT: usize = 26;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The bodies of a run.
#[derive(Debug, Clone)]
pub(super) struct Bodies {
    set: Vec<Bytes>,
    /// Records of each.
    pub records: u64,
    /// Bytes of the values of each.
    pub value_bytes: u64,
    /// Of the requests.
    pub media_type: &'static str,
}

impl Bodies {
    /// Makes the bodies of a load.
    pub(super) fn new(load: &Load) -> Result<Self> {
        let size = usize::try_from(load.record_size.as_u64())?;
        if !(2..=limits::MAX_RECORD_BYTES).contains(&size) {
            return Err(usage(format!("--record-size is 2 to {} bytes", limits::MAX_RECORD_BYTES)));
        }
        let mut maker = Maker { random: 0x9e37_79b9_7f4a_7c15, count: 0, size, load };
        let records = match load.request_bytes {
            None => load.batch_size as usize,
            Some(bytes) => maker.fitting(usize::try_from(bytes.as_u64())?)?,
        };
        if load.content_type == ContentType::OctetStream && records > 1 {
            return Err(usage("an octet-stream body is one record"));
        }
        let first = maker.body(records)?;
        if first.len() > limits::MAX_BODY_BYTES {
            return Err(usage(format!("a body would have {} bytes, {} at most", first.len(), limits::MAX_BODY_BYTES)));
        }
        let count = (SET_BYTES / first.len()).clamp(2, SET_LEN);
        let mut set = vec![first];
        while set.len() < count {
            set.push(maker.body(records)?);
        }
        let records = records as u64;
        Ok(Self { set, records, value_bytes: records * size as u64, media_type: media_type(load.content_type) })
    }

    /// The body of request `n`.
    pub(super) fn get(&self, n: u64) -> Bytes {
        self.set[n as usize % self.set.len()].clone()
    }

    /// Bytes of a body; they differ by a few.
    pub(super) fn len(&self) -> usize {
        self.set[0].len()
    }
}

fn media_type(content_type: ContentType) -> &'static str {
    match content_type {
        ContentType::Json => headers::JSON,
        ContentType::Ndjson => headers::NDJSON,
        ContentType::RecordBatches => headers::BATCH,
        ContentType::OctetStream => headers::OCTET_STREAM,
    }
}

struct Maker<'a> {
    random: u64,
    count: u64,
    size: usize,
    load: &'a Load,
}

impl Maker<'_> {
    /// How many records make the largest body of at most `bytes`.
    fn fitting(&mut self, bytes: usize) -> Result<usize> {
        let mut records = (bytes / self.size).clamp(1, limits::MAX_RECORDS);
        loop {
            let len = self.body(records)?.len();
            if len <= bytes || records == 1 {
                return Ok(records);
            }
            // The overhead is a small part of each record, so this comes to rest soon.
            records = (records - 1).min(records * bytes / len + 1);
        }
    }

    fn body(&mut self, records: usize) -> Result<Bytes> {
        let values: Vec<Vec<u8>> = (0..records).map(|_| self.value()).collect();
        Ok(match self.load.content_type {
            ContentType::Json => {
                let records: Vec<Vec<u8>> = values.into_iter().map(json_record).collect();
                [b"{\"records\":[".as_slice(), &records.join(&b','), b"]}"].concat().into()
            }
            ContentType::Ndjson => {
                let mut lines = values.into_iter().map(json_record).collect::<Vec<_>>().join(&b'\n');
                lines.push(b'\n');
                lines.into()
            }
            ContentType::OctetStream => values.concat().into(),
            ContentType::RecordBatches => {
                let timestamp = i64::try_from(tidelog::clock::Clock::system().wall())?;
                let record =
                    |value: Vec<u8>| Record { timestamp, key: None, value: Some(value.into()), headers: Vec::new() };
                let records: Vec<Record> = values.into_iter().map(record).collect();
                let compression = match self.load.compression {
                    Some(CompressionArg::Zstd) => Compression::Zstd,
                    Some(CompressionArg::None) | None => Compression::None,
                };
                batch::encode(&records, compression, None)?.bytes
            }
        })
    }

    /// A JSON text of `size` bytes.
    fn value(&mut self) -> Vec<u8> {
        self.count += 1;
        let mut value = if self.size < MIN_OBJECT {
            b"\"".to_vec()
        } else {
            format!("{{\"id\":\"{:010}\",\"p\":\"", self.count % 10_000_000_000).into_bytes()
        };
        let end: &[u8] = if self.size < MIN_OBJECT { b"\"" } else { b"\"}" };
        while value.len() + end.len() < self.size {
            let random = self.next();
            for shift in 0..10 {
                if value.len() + end.len() < self.size {
                    value.push(ALPHABET[(random >> (shift * 6)) as usize & 63]);
                }
            }
        }
        value.extend_from_slice(end);
        value
    }

    /// xorshift64*: the same bodies in every run.
    fn next(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

fn json_record(value: Vec<u8>) -> Vec<u8> {
    [b"{\"value\":".as_slice(), &value, b"}"].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        load: Load,
    }

    fn bodies(args: &[&str]) -> Result<Bodies> {
        Bodies::new(&Line::try_parse_from([&["bench"], args].concat()).unwrap().load)
    }

    #[test]
    fn values_are_json_of_exactly_the_size_asked_for() {
        for size in [2, 3, 25, 26, 256, 1024] {
            let bodies = bodies(&["--content-type", "octet-stream", "--record-size", &size.to_string()]).unwrap();
            assert_eq!((bodies.len(), bodies.records, bodies.value_bytes), (size, 1, size as u64));
            for n in 0..3 {
                serde_json::from_slice::<serde_json::Value>(&bodies.get(n)).unwrap();
            }
            assert!(size < 26 || bodies.get(0) != bodies.get(1));
        }
    }

    #[test]
    fn as_many_records_as_fit_a_body_and_no_more() {
        for content_type in ["json", "ndjson", "record-batches"] {
            let args = ["--content-type", content_type, "--record-size", "1KiB", "--request-bytes", "1MiB"];
            let bodies = bodies(&args).unwrap();
            assert!(bodies.len() <= 1 << 20, "{content_type}: {}", bodies.len());
            assert!(bodies.len() > (1 << 20) - 1100, "{content_type}: {}", bodies.len());
            assert_eq!(bodies.value_bytes, bodies.records * 1024);
        }
        assert!(bodies(&["--content-type", "octet-stream", "--batch-size", "2"]).is_err());
        assert!(bodies(&["--record-size", "1"]).is_err());
    }
}
