//! Keys out of JSON values.

use std::borrow::Cow;
use std::fmt;

use anyhow::{Result, anyhow, bail};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Row, ValueKind};

/// Checks that the row's value is one JSON value and, given a field, takes the key from it: a string as its content,
/// a number or a boolean as its text; null or an absent field is the null key. The last of repeated fields counts.
pub(super) fn take_key(row: &mut Row, field: Option<&str>) -> Result<()> {
    row.kind = ValueKind::Json;
    row.has_key = false;
    row.key.clear();
    let text = std::str::from_utf8(&row.value).map_err(|_| anyhow!("not UTF-8"))?;
    let Some(field) = field else {
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| anyhow!("not JSON: {error}"))?;
        return Ok(());
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = reader.deserialize_map(FieldOf(field)).and_then(|found| reader.end().map(|()| found));
    let found = found.map_err(|error| anyhow!("not a JSON object: {error}"))?;
    if let Some(raw) = found {
        row.has_key = scalar_text(raw, field)?.map(|key| row.key.push_str(&key)).is_some();
    }
    Ok(())
}

/// The text of a scalar; `None` for null.
fn scalar_text<'a>(raw: &'a RawValue, field: &str) -> Result<Option<Cow<'a, str>>> {
    let text = raw.get();
    Ok(match text.as_bytes().first() {
        Some(b'"') => Some(Cow::Owned(serde_json::from_str::<String>(text)?)),
        Some(b'{' | b'[') => bail!("the key field {field:?} is neither text nor a number"),
        Some(b'n') => None,
        _ => Some(Cow::Borrowed(text)),
    })
}

/// Finds one field of an object without building the others.
struct FieldOf<'f>(&'f str);

impl<'de> Visitor<'de> for FieldOf<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Name(name)) = map.next_key()? {
            if name == self.0 {
                found = Some(map.next_value::<&RawValue>()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// A field's name, borrowed unless it has escapes.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}
