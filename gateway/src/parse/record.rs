//! One record as JSON has it, turned into the engine's.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use tidelog::model::{Header, Record};
use tidelog_api::limits::MAX_JSON_DEPTH;
use tidelog_api::produce::{HeaderList, HeaderValue, RecordBody};

use super::depth::deeper_than;

/// Standard base64; padding may be left out.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What is wrong with a record; the caller knows which it is.
pub(crate) type Fault = Cow<'static, str>;

/// Turns `body`, whose texts are slices of `source` where JSON did not escape them, into a record.
pub(crate) fn to_record(body: &RecordBody<'_>, source: &Bytes, now: i64) -> Result<(Option<u32>, Record), Fault> {
    let timestamp = body.timestamp.unwrap_or(now);
    if timestamp < 0 {
        return Err(Fault::Owned(format!("the timestamp {timestamp} is negative")));
    }
    let record = Record {
        timestamp,
        key: key_of(body, source)?,
        value: value_of(body, source)?,
        headers: headers_of(&body.headers, source)?,
    };
    Ok((body.partition, record))
}

fn key_of(body: &RecordBody<'_>, source: &Bytes) -> Result<Option<Bytes>, Fault> {
    match (&body.key, &body.key_base64) {
        (None, None) => Ok(None),
        (Some(key), None) => Ok(Some(bytes_of(key, source))),
        (None, Some(text)) => decode_base64("key_base64", text).map(Some),
        (Some(_), Some(_)) => Err("a record has key or key_base64, not both".into()),
    }
}

fn value_of(body: &RecordBody<'_>, source: &Bytes) -> Result<Option<Bytes>, Fault> {
    match (body.value, &body.text, &body.base64) {
        (Some(value), None, None) => {
            let text = value.get();
            if text == "null" {
                return Ok(None);
            }
            if deeper_than(text.as_bytes(), MAX_JSON_DEPTH) {
                return Err(Fault::Owned(format!("the value nests deeper than {MAX_JSON_DEPTH}")));
            }
            Ok(Some(source.slice_ref(text.as_bytes())))
        }
        (None, Some(text), None) => Ok(Some(bytes_of(text, source))),
        (None, None, Some(text)) => decode_base64("base64", text).map(Some),
        (None, None, None) => Err("a record needs one of value, text and base64; null is \"value\":null".into()),
        _ => Err("a record has one of value, text and base64, not two".into()),
    }
}

fn headers_of(list: &HeaderList<'_>, source: &Bytes) -> Result<Vec<Header>, Fault> {
    let value = |value: &HeaderValue<'_>| match value {
        HeaderValue::Null => Ok(None),
        HeaderValue::Text(text) => Ok(Some(bytes_of(text, source))),
        HeaderValue::Base64(text) => decode_base64("a header's base64", text).map(Some),
    };
    let header = |(name, text): &(Cow<'_, str>, HeaderValue<'_>)| {
        Ok(Header { name: name.clone().into_owned(), value: value(text)? })
    };
    list.0.iter().map(header).collect()
}

/// The bytes of a text: a slice of `source` if they are one.
#[expect(clippy::ptr_arg, reason = "whether it is borrowed decides")]
fn bytes_of(text: &Cow<'_, str>, source: &Bytes) -> Bytes {
    match text {
        // `slice_ref` of nothing would be of no allocation of ours.
        Cow::Borrowed("") => Bytes::new(),
        Cow::Borrowed(text) => source.slice_ref(text.as_bytes()),
        Cow::Owned(text) => Bytes::copy_from_slice(text.as_bytes()),
    }
}

/// Decodes base64 that `what` holds.
pub(crate) fn decode_base64(what: &str, text: &str) -> Result<Bytes, Fault> {
    BASE64.decode(text).map(Bytes::from).map_err(|error| Fault::Owned(format!("{what} is not base64: {error}")))
}
