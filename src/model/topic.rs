//! Topics and their settings.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::id::{LogTime, TopicId};

/// Partitions a topic may have.
pub const MAX_PARTITIONS: u32 = 10_000;
/// Bytes a topic's name may have.
pub const MAX_NAME_LEN: usize = 249;
/// The one namespace there is now; it is in catalog keys and object keys.
pub const DEFAULT_NAMESPACE: &str = "default";

/// How values are checked and archived; fixed at creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum ValueFormat {
    /// Anything; the archive's `value` is binary.
    #[default]
    Bytes,
    /// UTF-8, checked; the archive's `value` is a string.
    Text,
    /// JSON text, checked; the archive's `value` is a string.
    Json,
}

/// How batches encoded by the gateway are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// Zstandard.
    #[default]
    Zstd,
}

macro_rules! named {
    ($type:ident, $what:literal, $($variant:ident = $name:literal),+) => {
        impl $type {
            /// The name used in settings.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(format!("{text:?} is not a {}", $what)),
                }
            }
        }
    };
}
named!(ValueFormat, "value format", Bytes = "bytes", Text = "text", Json = "json");
named!(Compression, "compression", None = "none", Zstd = "zstd");

/// The settings of a topic. In postcard every field is written, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSettings {
    /// 1 to [`MAX_PARTITIONS`]; only grows.
    pub partitions: u32,
    /// Fixed at creation.
    pub value_format: ValueFormat,
    /// Records whose append time is older are trimmed, by whole ranges; `None` keeps them for ever.
    pub retention_ms: Option<u64>,
    /// Stored bytes a partition keeps; `None` is unbounded.
    pub retention_bytes: Option<u64>,
    /// What retention takes out of the log stays in its archive files while its append time is younger than this; `None`:
    /// it goes with the log.
    pub archive_retention_ms: Option<u64>,
    /// How long flushed data waits before it is archived.
    pub archive_after_ms: u64,
    /// Of batches encoded by the gateway.
    pub compression: Compression,
    /// A record's timestamp may be this far ahead of the gateway's clock.
    pub timestamp_max_ahead_ms: u64,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            partitions: 1,
            value_format: ValueFormat::Bytes,
            retention_ms: None,
            retention_bytes: None,
            archive_retention_ms: None,
            archive_after_ms: 60_000,
            compression: Compression::Zstd,
            timestamp_max_ahead_ms: 3_600_000,
        }
    }
}

/// A topic of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Never reused.
    pub id: TopicId,
    /// Of the namespace's catalog; free again once the topic is deleted.
    pub name: String,
    /// See [`DEFAULT_NAMESPACE`].
    pub namespace: String,
    /// Current settings.
    pub settings: TopicSettings,
    /// Log time of the creation.
    pub created_at: LogTime,
    /// Log time of the deletion; the topic can be undeleted until the grace period is over.
    pub deleted_at: Option<LogTime>,
}

/// Whether `name` may name a topic: 1 to 249 of `[A-Za-z0-9._-]`, neither `.` nor `..`, not starting with `__`.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MAX_NAME_LEN {
        return Err("a topic name has 1 to 249 characters");
    }
    if name == "." || name == ".." {
        return Err("a topic cannot be named . or ..");
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        return Err("a topic name consists of letters, digits, dots, underscores and hyphens");
    }
    if name.starts_with("__") {
        return Err("topic names starting with two underscores are reserved");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_kafka_allows_minus_ours() {
        for good in ["a", "flights", "A.b_c-9", &"x".repeat(249)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "__x", &"x".repeat(250)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
