//! Bodies of the produce routes.

mod header;

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use self::header::Text;
use crate::error::Outcome;
use crate::raw::present;

/// `{"records":[…]}`
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProduceBody<'a> {
    /// 1 to 10,000.
    pub records: Vec<RecordBody<'a>>,
}

/// One record of a request: exactly one of `value`, `text` and `base64`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordBody<'a> {
    /// A UTF-8 key; absent or null is the null key, `""` the empty one.
    #[serde(borrow, default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub key: Option<Cow<'a, str>>,
    /// A binary key in base64, instead of `key`.
    #[serde(borrow, default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub key_base64: Option<Cow<'a, str>>,
    /// Any JSON, stored as the exact bytes of its text; null is the null value.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub value: Option<&'a RawValue>,
    /// A UTF-8 value.
    #[serde(borrow, default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub text: Option<Cow<'a, str>>,
    /// A binary value in base64.
    #[serde(borrow, default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub base64: Option<Cow<'a, str>>,
    /// `[["name","value"],["name",{"base64":"…"}],["name",null]]`, or an object of strings.
    #[serde(borrow, default, skip_serializing_if = "HeaderList::is_empty")]
    #[schema(value_type = Vec<Value>)]
    pub headers: HeaderList<'a>,
    /// Milliseconds since 1970; absent means the server's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
    /// The partition; absent means by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
}

pub use header::{HeaderList, HeaderValue};

/// A text or null. `Option<Cow<str>>` by itself would own every text, whatever is said about borrowing.
fn text<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<Cow<'a, str>>, D::Error> {
    Ok(Option::<Text<'a>>::deserialize(from)?.map(|Text(text)| text))
}

/// How a successful produce request is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// No promise.
    None,
    /// Synced on a majority of voters.
    #[default]
    Quorum,
    /// In the bucket, and named by a checkpoint.
    Object,
}

/// The answer to a successful produce request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProduceResponse {
    /// The topic written to.
    #[schema(value_type = String, format = "uuid")]
    pub topic_id: Uuid,
    /// What the answer promises.
    pub durability: Durability,
    /// In request order; absent with `acks=none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<Vec<RecordPosition>>,
    /// An earlier attempt had written it; these are its offsets.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordPosition {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
}

/// What became of one record of a request that failed in part: `details.records` of the error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordResult {
    /// Its partition.
    pub partition: u32,
    /// Its offset, if it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Why it was not acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RecordError>,
}

/// Why a record was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordError {
    /// The stable name.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// The same request may succeed later.
    pub retryable: bool,
    /// What became of this record's batch.
    pub outcome: Outcome,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn absent_and_null_values_are_told_apart_and_text_is_kept() {
        let read = |text: &'static str| serde_json::from_str::<RecordBody<'_>>(text);
        assert_eq!(read(r#"{"value":null}"#).unwrap().value.unwrap().get(), "null");
        assert!(read("{}").unwrap().value.is_none());
        assert_eq!(read(r#"{"value": 1.10e400 }"#).unwrap().value.unwrap().get(), "1.10e400");
        assert!(read(r#"{"value":1,"extra":2}"#).is_err());
    }

    #[test]
    fn texts_are_copied_only_where_they_have_escapes() {
        let read = |text: &'static str| serde_json::from_str::<RecordBody<'_>>(text).unwrap();
        let plain = read(r#"{"key":"k","text":"t","key_base64":"YQ==","base64":""}"#);
        for text in [plain.key, plain.text, plain.key_base64, plain.base64] {
            assert!(matches!(text, Some(Cow::Borrowed(_))), "{text:?}");
        }
        assert_eq!(read(r#"{"key":null,"text":"\n"}"#).key, None);
        assert_eq!(read(r#"{"text":"\n"}"#).text.as_deref(), Some("\n"));
        assert!(serde_json::from_str::<RecordBody<'_>>(r#"{"key":1}"#).is_err());
    }

    #[test]
    fn headers_are_a_list_or_an_object_and_are_bounded() {
        let read = |text: &str| {
            let record: RecordBody<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
            Ok::<_, String>(serde_json::to_string(&record.headers).unwrap())
        };
        assert_eq!(read(r#"{"headers":{"b":"1","a":""}}"#).unwrap(), r#"[["b","1"],["a",""]]"#);
        let list = r#"[["h","v"],["h",{"base64":"AA=="}],["n",null],["\n","\u0000"]]"#;
        assert_eq!(read(&format!(r#"{{"headers":{list}}}"#)).unwrap(), list);
        for bad in [r#"{"headers":[["a"]]}"#, r#"{"headers":{"a":1}}"#, r#"{"headers":[["a",{"x":""}]]}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let many = vec![r#"["a","b"]"#; 65].join(",");
        assert!(read(&format!(r#"{{"headers":[{many}]}}"#)).unwrap_err().contains("at most 64"));
    }
}
