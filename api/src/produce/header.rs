//! Record headers in JSON: a list of pairs, or an object of strings.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::MAX_RECORD_HEADERS;

/// A header's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderValue<'a> {
    /// Null.
    Null,
    /// UTF-8.
    Text(Cow<'a, str>),
    /// Binary, as base64 text; not decoded here.
    Base64(Cow<'a, str>),
}

/// Headers in order, with repeats; written as a list of pairs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderList<'a>(pub Vec<(Cow<'a, str>, HeaderValue<'a>)>);

impl HeaderList<'_> {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Binary<'a> {
    #[serde(borrow)]
    base64: Cow<'a, str>,
}

/// A text that is a slice of the JSON unless it has escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl Serialize for HeaderValue<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => to.serialize_none(),
            Self::Text(text) => to.serialize_str(text),
            Self::Base64(text) => Binary { base64: Cow::Borrowed(text) }.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for HeaderValue<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = HeaderValue<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a header value: a string, null or {\"base64\":…}")
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(HeaderValue::Null)
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(HeaderValue::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(HeaderValue::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
                let binary = Binary::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(HeaderValue::Base64(binary.base64))
            }
        }
        from.deserialize_any(Value)
    }
}

/// A name and its value. Not a tuple: JSON with a third element is well-formed, and its error should say so.
struct Pair<'a>(Cow<'a, str>, HeaderValue<'a>);

impl<'de> Deserialize<'de> for Pair<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Two;
        impl<'de> Visitor<'de> for Two {
            type Value = Pair<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a header: [name, value]")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
                let missing = |len| S::Error::invalid_length(len, &self);
                let name = seq.next_element::<Text<'de>>()?.ok_or_else(|| missing(0))?;
                let value = seq.next_element()?.ok_or_else(|| missing(1))?;
                match seq.next_element::<IgnoredAny>()? {
                    Some(_) => Err(missing(3)),
                    None => Ok(Pair(name.0, value)),
                }
            }
        }
        from.deserialize_seq(Two)
    }
}

impl Serialize for HeaderList<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for HeaderList<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Vec<(Cow<'de, str>, HeaderValue<'de>)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers: a list of [name, value] or an object of strings")
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Vec::new())
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
                let mut list = Vec::new();
                while let Some(Pair(name, value)) = seq.next_element()? {
                    push(&mut list, name, value)?;
                }
                Ok(list)
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut list = Vec::new();
                while let Some((name, value)) = map.next_entry::<Text<'de>, Text<'de>>()? {
                    push(&mut list, name.0, HeaderValue::Text(value.0))?;
                }
                Ok(list)
            }
        }
        from.deserialize_any(List).map(HeaderList)
    }
}

fn push<'de, E: Error>(
    list: &mut Vec<(Cow<'de, str>, HeaderValue<'de>)>,
    name: Cow<'de, str>,
    value: HeaderValue<'de>,
) -> Result<(), E> {
    if list.len() == MAX_RECORD_HEADERS {
        return Err(E::custom(format_args!("a record has at most {MAX_RECORD_HEADERS} headers")));
    }
    list.push((name, value));
    Ok(())
}
