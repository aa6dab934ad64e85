//! JSON objects only: derived structs would also take arrays by position, which the contract does not have.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use tidelog_api::ErrorCode;

use crate::error::{ApiError, Result};

/// A `T` that was an object.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<T, M::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        from.deserialize_map(Members(PhantomData)).map(Object)
    }
}

/// Reads a whole request body other than records; an empty one is an empty object.
pub(crate) fn from_body<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    let body = if body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { body };
    let object: Object<T> = serde_json::from_slice(body).map_err(|error| fault(&error, ErrorCode::InvalidRequest))?;
    Ok(object.0)
}

/// 400 for what is no JSON, `content` for JSON that is not what it should be.
pub(crate) fn fault(error: &serde_json::Error, content: ErrorCode) -> ApiError {
    match error.classify() {
        Category::Data => ApiError::new(content, error.to_string()),
        Category::Syntax | Category::Eof | Category::Io => {
            ApiError::new(ErrorCode::InvalidJson, format!("the body is not JSON: {error}"))
                .with("line", error.line())
                .with("column", error.column())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tidelog_api::producers::RegisterProducer;
    use tidelog_api::topics::SettingsRequest;

    use super::*;

    #[test]
    fn bodies_are_objects_without_unknown_members() {
        let name = |body: &str| from_body::<RegisterProducer>(body.as_bytes()).map(|body| body.name);
        assert_eq!(name("").unwrap(), None);
        assert_eq!(name(r#"{"name":"a"}"#).unwrap().as_deref(), Some("a"));
        for (body, code) in [
            (r#"["a"]"#, ErrorCode::InvalidRequest),
            (r#"{"nam":"a"}"#, ErrorCode::InvalidRequest),
            (r#"{"name":1}"#, ErrorCode::InvalidRequest),
            (r#"{"name":"a""#, ErrorCode::InvalidJson),
            (r#"{"name":"a"}x"#, ErrorCode::InvalidJson),
        ] {
            assert_eq!(name(body).unwrap_err().code(), code, "{body}");
        }
    }

    #[test]
    fn settings_tell_null_from_absent() {
        let body: SettingsRequest = from_body(br#"{"retention_ms":null,"partitions":3}"#).unwrap();
        assert_eq!((body.retention_ms, body.partitions, body.retention_bytes), (Some(None), Some(Some(3)), None));
    }
}
