//! `application/octet-stream`: the body is one value, all else comes with the query and a header.

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use tidelog::model::{Header, Record};
use tidelog_api::limits::MAX_RECORD_HEADERS;

use super::record::decode_base64;
use crate::error::{ApiError, Result};
use crate::params::Params;

/// What the query and the headers say of the record.
#[derive(Debug)]
pub(crate) struct Envelope {
    key: Option<Bytes>,
    timestamp: Option<i64>,
    null: bool,
    headers: Vec<Header>,
}

impl Envelope {
    /// Takes `key`, `key_base64`, `timestamp` and `null` from the query; `headers` is the text of `Tidelog-Headers`.
    pub(crate) fn take(params: &mut Params, headers: Option<&str>) -> Result<Self> {
        let key = match (params.text("key"), params.text("key_base64")) {
            (None, None) => None,
            (Some(key), None) => Some(Bytes::from(key)),
            (None, Some(text)) => {
                let key = decode_base64("key_base64", &text);
                Some(key.map_err(|message| ApiError::parameter("key_base64", message))?)
            }
            (Some(_), Some(_)) => return Err(ApiError::parameter("key", "a record has key or key_base64, not both")),
        };
        let headers = headers.map(parse_headers).transpose()?.unwrap_or_default();
        Ok(Self { key, timestamp: params.timestamp("timestamp")?, null: params.flag("null")?, headers })
    }

    /// The record with `body` as its value. `now` is the timestamp of a record that has none.
    pub(crate) fn seal(self, body: Bytes, now: i64) -> Result<Record> {
        if self.null && !body.is_empty() {
            return Err(ApiError::record(0, "with null=true the body is empty"));
        }
        Ok(Record {
            timestamp: self.timestamp.unwrap_or(now),
            key: self.key,
            value: (!self.null).then_some(body),
            headers: self.headers,
        })
    }
}

/// `a=1,b=%2C,n`: names and values percent-encoded; without `=` the value is null.
fn parse_headers(text: &str) -> Result<Vec<Header>> {
    let fault = |message: &str| ApiError::parameter(tidelog_api::headers::RECORD_HEADERS, message);
    let mut headers = Vec::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        if headers.len() == MAX_RECORD_HEADERS {
            return Err(ApiError::record(0, format!("a record has at most {MAX_RECORD_HEADERS} headers")));
        }
        let (name, value) = pair.split_once('=').map_or((pair, None), |(name, value)| (name, Some(value)));
        let name = percent_decode_str(name).decode_utf8().map_err(|_| fault("a header's name is UTF-8"))?.into_owned();
        let value = value.map(|value| Bytes::from(percent_decode_str(value).collect::<Vec<u8>>()));
        headers.push(Header { name, value });
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn seal(query: &str, headers: Option<&str>, body: &'static [u8]) -> Result<Record> {
        let mut params = Params::parse(query)?;
        let envelope = Envelope::take(&mut params, headers)?;
        params.finish()?;
        envelope.seal(Bytes::from_static(body), 7)
    }

    #[test]
    fn the_body_is_the_value() {
        let record = seal("key=a%2Cb&timestamp=5", Some("a=1, b=%2C,c=,n,a=%ff"), b"\x00null").unwrap();
        assert_eq!((record.key.unwrap().as_ref(), record.timestamp), (&b"a,b"[..], 5));
        assert_eq!(record.value.unwrap(), &b"\x00null"[..]);
        let headers: Vec<_> =
            record.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref())).collect();
        let expected: [(&str, Option<&[u8]>); 5] =
            [("a", Some(b"1")), ("b", Some(b",")), ("c", Some(b"")), ("n", None), ("a", Some(b"\xff"))];
        assert_eq!(headers, expected);
    }

    #[test]
    fn null_and_empty_are_told_apart() {
        assert_eq!(seal("null=true", None, b"").unwrap().value, None);
        assert_eq!(seal("", None, b"").unwrap().value.unwrap(), "");
        assert_eq!(seal("key=", None, b"").unwrap().key.unwrap(), "");
        assert_eq!(seal("", None, b"").unwrap().key, None);
        assert!(seal("null=true", None, b"x").is_err());
    }

    #[test]
    fn faults_are_refused() {
        assert!(seal("key=a&key_base64=YQ", None, b"").is_err());
        assert!(seal("key_base64=*", None, b"").is_err());
        assert!(seal("timestamp=-1", None, b"").is_err());
        assert!(seal("", Some(&["a"; 65].join(",")), b"").is_err());
        assert!(seal("unknown=1", None, b"").is_err());
    }
}
