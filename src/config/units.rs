//! Human units of settings: sizes such as `16MiB`, durations such as `10s`.
//!
//! Printing is exact: what is printed parses back to the same value. A size is printed in the largest binary unit
//! that divides it. A bare integer is bytes for a size and refused for a duration, which has no obvious unit.

/// Sizes in bytes (`u64`).
pub(super) mod size {
    use serde::de::{self, Deserializer, Visitor};
    use serde::ser::Serializer;
    use std::fmt;

    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

    pub(crate) fn print(bytes: u64) -> String {
        UNITS
            .iter()
            .find(|(_, shift)| bytes != 0 && bytes.trailing_zeros() >= *shift)
            .map_or_else(|| format!("{bytes}B"), |(unit, shift)| format!("{}{unit}", bytes >> shift))
    }

    pub(crate) fn parse(text: &str) -> Result<u64, String> {
        // The crate goes through a float: whole numbers of a unit are parsed exactly here first.
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let shift = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim())).map(|(_, shift)| *shift);
        if let (Ok(number), Some(shift)) = (number.parse::<u64>(), shift) {
            return number.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is too large"));
        }
        text.parse::<bytesize::ByteSize>()
            .map(|size| size.as_u64())
            .map_err(|_| format!("{text:?} is not a size such as \"16MiB\""))
    }

    pub(crate) fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&print(*bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = u64;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"16MiB\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
                parse(text).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<u64, E> {
                u64::try_from(bytes).map_err(|_| E::custom("a size is not negative"))
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<u64, E> {
                Ok(bytes)
            }
        }
        deserializer.deserialize_any(Size)
    }
}

/// A count that has no default, so that the environment gives it as text.
pub(super) mod optional_count {
    use std::fmt;

    use serde::de::{self, Deserializer, Visitor};
    use serde::ser::Serializer;

    pub(crate) fn serialize<S: Serializer>(count: &Option<u32>, serializer: S) -> Result<S::Ok, S::Error> {
        match count {
            Some(count) => serializer.serialize_some(count),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
        struct Count;
        impl Visitor<'_> for Count {
            type Value = u32;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }
            fn visit_u64<E: de::Error>(self, count: u64) -> Result<u32, E> {
                u32::try_from(count).map_err(|_| E::custom(format!("{count} is too large")))
            }
            fn visit_i64<E: de::Error>(self, count: i64) -> Result<u32, E> {
                u32::try_from(count).map_err(|_| E::custom(format!("{count} is not a number from 0 to 2^32 - 1")))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<u32, E> {
                text.parse().map_err(|_| E::custom(format!("{text:?} is not a number")))
            }
        }
        deserializer.deserialize_any(Count).map(Some)
    }
}

/// Sizes that may be left out (`Option<u64>`); without one nothing is written.
pub(super) mod optional_size {
    use serde::de::Deserializer;
    use serde::ser::Serializer;

    pub(crate) fn serialize<S: Serializer>(bytes: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => super::size::serialize(bytes, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        super::size::deserialize(deserializer).map(Some)
    }
}

/// Durations.
pub(super) mod duration {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;
    use std::time::Duration;

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&humantime::format_duration(*duration).to_string())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer).map_err(|_| D::Error::custom("not a duration such as \"10s\""))?;
        humantime::parse_duration(&text)
            .map_err(|_| D::Error::custom(format!("{text:?} is not a duration such as \"10s\"")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::size::{parse, print};
    use proptest::prelude::*;

    #[test]
    fn sizes_take_the_units_people_write() {
        assert_eq!(parse("16MiB"), Ok(16 << 20));
        assert_eq!(parse("16 mib"), Ok(16 << 20));
        assert_eq!(parse("10GB"), Ok(10_000_000_000));
        assert_eq!(parse("0"), Ok(0));
        assert!(parse("sixteen").is_err() && parse("-1MiB").is_err() && parse("99999999TiB").is_err());
        assert_eq!(print(10 << 30), "10GiB");
        assert_eq!(print(1_500), "1500B");
    }

    proptest! {
        #[test]
        fn a_printed_size_parses_back(bytes in 0u64..1 << 53, shift in 0u32..40) {
            let bytes = (bytes >> shift) << shift;
            prop_assert_eq!(parse(&print(bytes)), Ok(bytes));
        }
    }
}
