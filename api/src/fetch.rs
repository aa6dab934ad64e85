//! Bodies of the fetch routes, as a client reads them. The gateway writes them by hand; a test of it reads what it wrote
//! back through these types.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::raw::present;

/// A record as it is read: one of `value`, `text` and `base64`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FetchedRecord {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// The producer's timestamp, milliseconds since 1970.
    pub timestamp: i64,
    /// A UTF-8 key; null is the null key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A key that is not UTF-8, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<String>,
    /// JSON, with CR and LF between its tokens as spaces; null is the null value.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub value: Option<Box<RawValue>>,
    /// UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The exact bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// In order, with repeats: `[["name","value"],["name",{"base64":"…"}],["name",null]]`.
    #[serde(default)]
    #[schema(value_type = Vec<Value>)]
    pub headers: Vec<(String, FetchedHeader)>,
}

/// The value of a header as it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FetchedHeader {
    /// Null.
    Null,
    /// UTF-8.
    Text(String),
    /// Binary.
    Base64 {
        /// In base64.
        base64: String,
    },
}

/// The bounds of a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Bounds {
    /// The smallest readable offset.
    pub log_start_offset: u64,
    /// Below it all is in the bucket.
    pub flushed_offset: u64,
    /// The first offset that is not readable yet.
    pub high_watermark: u64,
    /// The high watermark until there are transactions.
    pub last_stable_offset: u64,
}

/// A page of one partition. An empty page is not the end: compare `next_offset` with `high_watermark`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FetchResponse {
    /// The topic read from.
    #[schema(value_type = String, format = "uuid")]
    pub topic_id: Uuid,
    /// In offset order.
    pub records: Vec<FetchedRecord>,
    /// Where to go on.
    pub next_offset: u64,
    /// Absent from a cacheable range.
    #[serde(flatten)]
    pub bounds: Option<Bounds>,
}

/// A page of many partitions; no order between partitions.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FetchAllResponse {
    /// The topic read from.
    #[schema(value_type = String, format = "uuid")]
    pub topic_id: Uuid,
    /// In offset order within each partition.
    pub records: Vec<FetchedRecord>,
    /// Where to go on.
    pub next_cursor: String,
    /// The bounds of each partition followed.
    #[serde(default)]
    pub partitions: Vec<PartitionBounds>,
}

/// The position and bounds of one partition of a page of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartitionBounds {
    /// The partition.
    pub partition: u32,
    /// Where the page ends in it.
    pub next_offset: u64,
    /// Its bounds.
    #[serde(flatten)]
    pub bounds: Bounds,
}

/// The `ping` event of a follower.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Ping {
    /// The position and bounds of each partition followed.
    pub partitions: Vec<PartitionBounds>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn null_absent_empty_and_the_text_null_are_told_apart() {
        let read = |members: &str| {
            serde_json::from_str::<FetchedRecord>(&format!(r#"{{"partition":0,"offset":1,"timestamp":2,{members}}}"#))
                .unwrap()
        };
        let null = read(r#""key":null,"value":null,"headers":[["a",null],["a",""],["b",{"base64":"AA=="}]]"#);
        assert_eq!((null.key, null.value.unwrap().get()), (None, "null"));
        assert_eq!(null.headers[0].1, FetchedHeader::Null);
        assert_eq!(null.headers[1].1, FetchedHeader::Text(String::new()));
        assert_eq!(null.headers[2].1, FetchedHeader::Base64 { base64: "AA==".to_owned() });
        let text = read(r#""key":"","text":"null","later_member":1"#);
        assert_eq!((text.key.unwrap().as_str(), text.text.unwrap().as_str()), ("", "null"));
        assert!(text.value.is_none());
    }

    #[test]
    fn pages_read_with_and_without_bounds() {
        let id = "00112233-4455-6677-8899-aabbccddeeff";
        let range = format!(r#"{{"topic_id":"{id}","records":[],"next_offset":7}}"#);
        assert_eq!(serde_json::from_str::<FetchResponse>(&range).unwrap().bounds, None);
        let page = format!(
            r#"{{"topic_id":"{id}","records":[],"next_offset":7,"log_start_offset":1,"flushed_offset":5,"high_watermark":9,"last_stable_offset":9}}"#
        );
        let bounds = Bounds { log_start_offset: 1, flushed_offset: 5, high_watermark: 9, last_stable_offset: 9 };
        assert_eq!(serde_json::from_str::<FetchResponse>(&page).unwrap().bounds, Some(bounds));
    }
}
