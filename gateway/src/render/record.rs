//! One record as JSON.

use tidelog::model::ValueFormat;

use super::json::{is_json, push_base64, push_i64, push_string, push_u64, push_value};
use crate::error::{ApiError, Result};
use crate::params::Params;

/// The shape of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    /// Objects and arrays as `value`, other UTF-8 as `text`, else `base64`.
    Mixed,
    /// JSON as `value`, else `base64`.
    Json,
    /// UTF-8 as `text`, else `base64`.
    Text,
    /// The exact bytes.
    Base64,
}

impl Shape {
    /// What `?values=` asks for, if it is there.
    pub(crate) fn take(params: &mut Params) -> Result<Option<Self>> {
        match params.text("values").as_deref() {
            None => Ok(None),
            Some("json") => Ok(Some(Self::Json)),
            Some("text") => Ok(Some(Self::Text)),
            Some("base64") => Ok(Some(Self::Base64)),
            Some(_) => Err(ApiError::parameter("values", "values is json, text or base64")),
        }
    }

    /// The shape of a topic's values.
    pub(crate) fn of(format: ValueFormat) -> Self {
        match format {
            ValueFormat::Bytes => Self::Mixed,
            ValueFormat::Text => Self::Text,
            ValueFormat::Json => Self::Json,
        }
    }
}

/// A record, borrowed from whatever tier it came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a, H> {
    pub(crate) offset: u64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    /// Name and value.
    pub(crate) headers: H,
}

/// Appends a record as a JSON object without line breaks.
pub(crate) fn push_record<'a, H>(out: &mut String, partition: u32, record: View<'a, H>, shape: Shape)
where
    H: Iterator<Item = (&'a str, Option<&'a [u8]>)>,
{
    out.push_str("{\"partition\":");
    push_u64(out, u64::from(partition));
    out.push_str(",\"offset\":");
    push_u64(out, record.offset);
    out.push_str(",\"timestamp\":");
    push_i64(out, record.timestamp);
    match record.key.map(|key| (key, std::str::from_utf8(key))) {
        None => out.push_str(",\"key\":null"),
        Some((_, Ok(text))) => {
            out.push_str(",\"key\":");
            push_string(out, text);
        }
        Some((key, Err(_))) => {
            out.push_str(",\"key_base64\":");
            push_base64(out, key);
        }
    }
    push_payload(out, record.value, shape);
    out.push_str(",\"headers\":[");
    for (index, (name, value)) in record.headers.enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_header(out, name, value);
    }
    out.push_str("]}");
}

fn push_payload(out: &mut String, value: Option<&[u8]>, shape: Shape) {
    let Some(bytes) = value else {
        out.push_str(",\"value\":null");
        return;
    };
    let text = if shape == Shape::Base64 { None } else { std::str::from_utf8(bytes).ok() };
    match (text, shape) {
        // The JSON text `null` is not the null value: it is spelled as on the way in.
        (Some(text), Shape::Json) if text.trim_ascii() == "null" => push_text(out, text),
        (Some(text), Shape::Json) if is_json(text) => push_json(out, text),
        (Some(text), Shape::Mixed) if looks_structured(text) && is_json(text) => push_json(out, text),
        (Some(text), Shape::Text | Shape::Mixed) => push_text(out, text),
        _ => {
            out.push_str(",\"base64\":");
            push_base64(out, bytes);
        }
    }
}

fn push_json(out: &mut String, text: &str) {
    out.push_str(",\"value\":");
    push_value(out, text);
}

fn push_text(out: &mut String, text: &str) {
    out.push_str(",\"text\":");
    push_string(out, text);
}

fn looks_structured(text: &str) -> bool {
    text.trim_ascii_start().starts_with(['{', '['])
}

fn push_header(out: &mut String, name: &str, value: Option<&[u8]>) {
    out.push('[');
    push_string(out, name);
    out.push(',');
    match value.map(|value| (value, std::str::from_utf8(value))) {
        None => out.push_str("null"),
        Some((_, Ok(text))) => push_string(out, text),
        Some((bytes, Err(_))) => {
            out.push_str("{\"base64\":");
            push_base64(out, bytes);
            out.push('}');
        }
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use tidelog_api::fetch::{FetchedHeader, FetchedRecord};

    use super::*;

    type Headers<'a> = Vec<(&'a str, Option<&'a [u8]>)>;

    fn render(key: Option<&[u8]>, value: Option<&[u8]>, headers: Headers<'_>, shape: Shape) -> String {
        let mut out = String::new();
        let view = View { offset: 7, timestamp: 1_700, key, value, headers: headers.into_iter() };
        push_record(&mut out, 3, view, shape);
        out
    }

    /// The members of the value.
    fn payload(value: Option<&[u8]>, shape: Shape) -> String {
        let text = render(None, value, Vec::new(), shape);
        let text = text.strip_prefix(r#"{"partition":3,"offset":7,"timestamp":1700,"key":null,"#).unwrap();
        text.strip_suffix(r#","headers":[]}"#).unwrap().to_owned()
    }

    #[test]
    fn the_shape_follows_format_and_bytes() {
        let cases: [(&[u8], [&str; 4]); 7] = [
            (
                b"{\"a\":\n1}",
                [r#""value":{"a": 1}"#, r#""value":{"a": 1}"#, r#""text":"{\"a\":\n1}""#, r#""base64":"eyJhIjoKMX0=""#],
            ),
            (b"12", [r#""text":"12""#, r#""value":12"#, r#""text":"12""#, r#""base64":"MTI=""#]),
            (b"\"x\"", [r#""text":"\"x\"""#, r#""value":"x""#, r#""text":"\"x\"""#, r#""base64":"Ingi""#]),
            (b"{oops", [r#""text":"{oops""#, r#""base64":"e29vcHM=""#, r#""text":"{oops""#, r#""base64":"e29vcHM=""#]),
            (b"\xff", [r#""base64":"/w==""#; 4]),
            (b"", [r#""text":"""#, r#""base64":"""#, r#""text":"""#, r#""base64":"""#]),
            (b"null", [r#""text":"null""#, r#""text":"null""#, r#""text":"null""#, r#""base64":"bnVsbA==""#]),
        ];
        for (value, expected) in cases {
            for (shape, expected) in [Shape::Mixed, Shape::Json, Shape::Text, Shape::Base64].into_iter().zip(expected) {
                assert_eq!(payload(Some(value), shape), expected, "{value:?} as {shape:?}");
                assert_eq!(payload(None, shape), r#""value":null"#);
            }
        }
    }

    #[test]
    fn keys_and_headers_tell_null_empty_and_binary_apart() {
        let headers: Headers<'_> = vec![("h", Some(b"v")), ("h", Some(b"")), ("n", None), ("b", Some(b"\x80"))];
        assert_eq!(
            render(Some(b"\xff"), None, headers, Shape::Mixed),
            r#"{"partition":3,"offset":7,"timestamp":1700,"key_base64":"/w==","value":null,"headers":[["h","v"],["h",""],["n",null],["b",{"base64":"gA=="}]]}"#
        );
        assert!(render(Some(b""), None, Vec::new(), Shape::Mixed).contains(r#""key":"""#));
        assert!(render(None, None, Vec::new(), Shape::Mixed).contains(r#""key":null"#));
    }

    fn shapes() -> impl Strategy<Value = Shape> {
        prop_oneof![Just(Shape::Mixed), Just(Shape::Json), Just(Shape::Text), Just(Shape::Base64)]
    }

    proptest! {
        #[test]
        fn any_record_is_one_line_of_json_with_its_bytes(
            key in proptest::option::of(any::<Vec<u8>>()),
            value in proptest::option::of(prop_oneof![any::<Vec<u8>>(), "[{}\\[\\]\",:0-9a-z \n\r]{0,20}".prop_map(String::into_bytes)]),
            header in proptest::option::of(any::<Vec<u8>>()),
            shape in shapes(),
        ) {
            let line = render(key.as_deref(), value.as_deref(), vec![("n", header.as_deref())], shape);
            prop_assert!(!line.contains(['\n', '\r']));
            let record: FetchedRecord = serde_json::from_str(&line).unwrap();
            let decode = |text: String| crate::parse::record::decode_base64("x", &text).unwrap().to_vec();
            let read = record.key.map(String::into_bytes).or(record.key_base64.map(decode));
            prop_assert_eq!(read, key);
            let read = match (record.value, record.text, record.base64) {
                (Some(json), None, None) if json.get() == "null" => None,
                (Some(json), None, None) => {
                    // Surrounding space is not part of a raw value.
                    let sent = String::from_utf8(value.clone().unwrap()).unwrap();
                    let sent = sent.replace(['\n', '\r'], " ");
                    prop_assert_eq!(json.get(), sent.trim());
                    value.clone()
                }
                (None, Some(text), None) => Some(text.into_bytes()),
                (None, None, Some(text)) => Some(decode(text)),
                _ => return Err(TestCaseError::fail("not exactly one shape")),
            };
            prop_assert_eq!(read, value);
            let read = match record.headers.into_iter().next().unwrap().1 {
                FetchedHeader::Null => None,
                FetchedHeader::Text(text) => Some(text.into_bytes()),
                FetchedHeader::Base64 { base64 } => Some(decode(base64)),
            };
            prop_assert_eq!(read, header);
        }
    }
}
