//! `partitions=0-99,120`: which partitions a reader follows.

use tidelog::model::topic::MAX_PARTITIONS;
use tidelog_api::ErrorCode;
use tidelog_api::limits::MAX_CURSOR_PARTITIONS;

use crate::error::{ApiError, Result};

/// Partitions that a reader follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selection {
    /// All, and new ones as they come.
    All,
    /// These, ascending.
    Some(Vec<u32>),
}

impl Selection {
    /// Reads numbers and ranges, separated by commas.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let fault = || ApiError::parameter("partitions", format!("partitions is like 0-9,12, not {text:?}"));
        let mut partitions = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| {
                let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                if digits { text.parse::<u32>().ok().filter(|number| *number < MAX_PARTITIONS) } else { None }
            };
            let (first, last) =
                number(first).zip(number(last)).filter(|(first, last)| first <= last).ok_or_else(fault)?;
            partitions.extend(first..=last);
            if partitions.len() > MAX_CURSOR_PARTITIONS {
                return Err(too_many(partitions.len()));
            }
        }
        partitions.sort_unstable();
        partitions.dedup();
        Ok(Self::Some(partitions))
    }

    pub(crate) fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    /// The partitions of a topic that has `count` of them; whether those chosen exist is not looked at.
    pub(super) fn partitions(&self, count: usize) -> Result<Vec<u32>> {
        match self {
            Self::Some(partitions) => Ok(partitions.clone()),
            Self::All if count > MAX_CURSOR_PARTITIONS => Err(too_many(count)),
            Self::All => Ok((0..u32::try_from(count).unwrap_or(0)).collect()),
        }
    }
}

/// 400: a cursor would not hold them.
pub(super) fn too_many(count: usize) -> ApiError {
    let message = format!(
        "a cursor follows at most {MAX_CURSOR_PARTITIONS} partitions, not {count}: choose some with partitions=0-255"
    );
    ApiError::new(ErrorCode::TooManyPartitions, message).with("limit", MAX_CURSOR_PARTITIONS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn numbers_and_ranges_are_sorted_and_bounded() {
        assert_eq!(Selection::parse("3,0-2,2").unwrap(), Selection::Some(vec![0, 1, 2, 3]));
        for bad in ["", "a", "3-1", "-1", "1-", "1,,2", "10000", "+1", "0-4294967296"] {
            assert_eq!(Selection::parse(bad).unwrap_err().code(), ErrorCode::InvalidParameter, "{bad}");
        }
        assert_eq!(Selection::parse("0-256").unwrap_err().code(), ErrorCode::TooManyPartitions);
        assert_eq!(Selection::All.partitions(300).unwrap_err().code(), ErrorCode::TooManyPartitions);
        assert_eq!(Selection::All.partitions(3).unwrap(), [0, 1, 2]);
    }
}
