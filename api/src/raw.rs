//! A JSON value kept as its text, with `null` told apart from an absent member.
//!
//! `Option<Box<RawValue>>` alone reads `null` as `None`; with this function on the field an absent member is `None`
//! (through `#[serde(default)]`) and `null` is the text `null`.

use serde::{Deserialize, Deserializer};

pub(crate) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}
