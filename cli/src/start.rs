//! Where `consume` begins, as it is typed.

use std::str::FromStr;

use chrono::DateTime;

/// A start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// The oldest record.
    Earliest,
    /// The next record to come.
    Latest,
    /// An offset of one partition.
    Offset(u64),
    /// The first record whose timestamp is at least this, milliseconds since 1970.
    Time(i64),
    /// The same, this many milliseconds before the command began.
    Ago(i64),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if let Ok(offset) = text.parse::<u64>() {
            return Ok(Self::Offset(offset));
        }
        if let Some(ago) = text.strip_prefix('-') {
            let ago =
                humantime::parse_duration(ago).map_err(|error| format!("{error}: write a time ago such as -15m"))?;
            return i64::try_from(ago.as_millis()).map(Self::Ago).map_err(|_| "too long ago".to_owned());
        }
        match DateTime::parse_from_rfc3339(text) {
            Ok(time) if time.timestamp_millis() < 0 => Err("there are no records from before 1970".to_owned()),
            // Rounded up: a record of the millisecond before is not at or after the time.
            Ok(time) => {
                Ok(Self::Time(time.timestamp_millis() + i64::from(time.timestamp_subsec_nanos() % 1_000_000 != 0)))
            }
            Err(_) => Err(
                "neither earliest, latest, an offset, an RFC 3339 time (2026-01-31T12:00:00Z) nor a time ago (-15m)"
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Start;

    #[test]
    fn each_form_is_told_apart() {
        for (text, start) in [
            ("earliest", Start::Earliest),
            ("latest", Start::Latest),
            ("0", Start::Offset(0)),
            ("1700000000000", Start::Offset(1_700_000_000_000)),
            ("2023-11-14T22:13:20Z", Start::Time(1_700_000_000_000)),
            ("2023-11-14T23:13:20+01:00", Start::Time(1_700_000_000_000)),
            ("2023-11-14T22:13:20.0001Z", Start::Time(1_700_000_000_001)),
            ("-15m", Start::Ago(900_000)),
            ("-1h 30m", Start::Ago(5_400_000)),
        ] {
            assert_eq!(text.parse(), Ok(start), "{text}");
        }
        for text in ["", "yesterday", "-", "-5", "2023-11-14", "1969-12-31T23:59:59Z", "1.5"] {
            assert!(text.parse::<Start>().is_err(), "{text}");
        }
    }
}
