//! Query parameters and path parameters, read strictly: unknown, repeated and malformed ones are errors that name them.

use std::time::Duration;

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use percent_encoding::percent_decode;
use tidelog::model::topic::check_name;
use tidelog::model::{Acks, TopicId};
use tidelog_api::ErrorCode;
use uuid::Uuid;

use crate::error::{ApiError, Result};

/// More parameters than any route has.
const MAX_PARAMS: usize = 32;

/// The query of a request. Take what the route knows, then [`Params::finish`].
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a query as forms encode it: percent-encoded, `+` for a space.
    pub(crate) fn parse(query: &str) -> Result<Self> {
        let mut params: Vec<(String, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode("query", name)?;
            let value = decode(&name, value)?;
            if params.iter().any(|(known, _)| *known == name) {
                return Err(ApiError::parameter(&name, format!("the parameter {name} is given twice")));
            }
            if params.len() == MAX_PARAMS {
                return Err(ApiError::parameter("query", "too many parameters"));
            }
            params.push((name, value));
        }
        Ok(Self(params))
    }

    /// Takes the text of a parameter.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(index).1)
    }

    /// Takes an unsigned integer of at most 2^53 - 1.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<u64>> {
        self.text(name).map(|text| parse_number(name, &text)).transpose()
    }

    /// Takes an integer that is at most `max`, or `default`.
    pub(crate) fn at_most(&mut self, name: &str, default: usize, max: usize) -> Result<usize> {
        let Some(number) = self.number(name)? else { return Ok(default) };
        usize::try_from(number)
            .ok()
            .filter(|number| (1..=max).contains(number))
            .ok_or_else(|| ApiError::parameter(name, format!("the parameter {name} is from 1 to {max}, not {number}")))
    }

    /// Takes a number of milliseconds; more than `max` means `max`.
    pub(crate) fn millis(&mut self, name: &str, default: u64, max: u64) -> Result<Duration> {
        Ok(Duration::from_millis(self.number(name)?.unwrap_or(default).min(max)))
    }

    /// Takes `true` or `false`; absent means `false`.
    pub(crate) fn flag(&mut self, name: &str) -> Result<bool> {
        match self.text(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(ApiError::parameter(name, format!("the parameter {name} is true or false"))),
        }
    }

    /// Takes a timestamp: milliseconds since 1970.
    pub(crate) fn timestamp(&mut self, name: &str) -> Result<Option<i64>> {
        Ok(self.number(name)?.map(u64::cast_signed))
    }

    /// Takes `topic_id`.
    pub(crate) fn topic_id(&mut self) -> Result<Option<TopicId>> {
        let Some(text) = self.text("topic_id") else { return Ok(None) };
        let id = Uuid::try_parse(&text).map_err(|_| ApiError::parameter("topic_id", "topic_id is a uuid"))?;
        Ok(Some(TopicId(id)))
    }

    /// Takes `acks`.
    pub(crate) fn acks(&mut self) -> Result<Acks> {
        match self.text("acks").as_deref() {
            None | Some("quorum") => Ok(Acks::Quorum),
            Some("object") => Ok(Acks::Object),
            Some("none") => Ok(Acks::None),
            Some(_) => Err(ApiError::parameter("acks", "acks is quorum, object or none")),
        }
    }

    /// Refuses what no one took.
    pub(crate) fn finish(self) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(ApiError::parameter(name, format!("this route has no parameter {name:?}"))),
        }
    }
}

/// An unsigned integer of at most 2^53 - 1, in plain decimal digits.
pub(crate) fn parse_number(name: &str, text: &str) -> Result<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number
        .filter(|number| *number <= tidelog_api::limits::MAX_SAFE_INTEGER)
        .ok_or_else(|| ApiError::parameter(name, format!("{name} is an integer from 0 to 2^53 - 1, not {text:?}")))
}

fn decode(name: &str, text: &str) -> Result<String> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode(spaced.as_bytes()).decode_utf8();
    decoded.map(Into::into).map_err(|_| ApiError::parameter(name, format!("the parameter {name} is not UTF-8")))
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

/// A checked topic name from the path.
#[derive(Debug)]
pub(crate) struct TopicName(pub(crate) String);

/// A checked topic name and a partition from the path.
#[derive(Debug)]
pub(crate) struct PartitionPath {
    pub(crate) topic: String,
    pub(crate) partition: u32,
}

/// One parameter of the path, decoded.
pub(crate) async fn path_param<S: Send + Sync>(parts: &mut Parts, state: &S, name: &str) -> Result<String> {
    let params = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| ApiError::parameter("path", "the path is not UTF-8"))?;
    let found = params.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned());
    found.ok_or_else(|| ApiError::new(ErrorCode::Internal, format!("the route has no {name}")))
}

/// Checks a topic's name.
pub(crate) fn topic_name(name: String) -> Result<String> {
    match check_name(&name) {
        Ok(()) => Ok(name),
        Err(reason) => Err(ApiError::new(ErrorCode::InvalidTopicName, reason).with("topic", name)),
    }
}

/// Reads a partition of a path.
pub(crate) fn parse_partition(text: &str) -> Result<u32> {
    let partition = parse_number("partition", text)?;
    u32::try_from(partition).map_err(|_| ApiError::parameter("partition", "a partition is a number below 10,000"))
}

impl<S: Send + Sync> FromRequestParts<S> for TopicName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        topic_name(path_param(parts, state, "topic").await?).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PartitionPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let topic = topic_name(path_param(parts, state, "topic").await?)?;
        let partition = parse_partition(&path_param(parts, state, "partition").await?)?;
        Ok(Self { topic, partition })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn parameters_are_decoded_and_taken_once() {
        let mut params = Params::parse("key=a%2Fb+c&flag&max_records=10&wait_ms=99999&acks=object").unwrap();
        assert_eq!(params.text("key").as_deref(), Some("a/b c"));
        assert_eq!(params.text("key"), None);
        assert_eq!(params.at_most("max_records", 5, 10).unwrap(), 10);
        assert_eq!(params.millis("wait_ms", 0, 30_000).unwrap(), Duration::from_secs(30));
        assert_eq!(params.acks().unwrap(), Acks::Object);
        assert_eq!(params.finish().unwrap_err().details()["parameter"], "flag");
    }

    #[test]
    fn malformed_and_repeated_parameters_are_refused_by_name() {
        assert!(Params::parse("a=1&a=2").is_err());
        assert!(Params::parse("a=%ff").is_err());
        for bad in ["", "-1", "+1", "1.0", "0x1", "9007199254740992", "1e3"] {
            let error = Params::parse(&format!("offset={}", bad.replace('+', "%2B"))).unwrap().number("offset");
            assert_eq!(error.unwrap_err().details()["parameter"], "offset", "{bad}");
        }
        assert_eq!(Params::parse("n=9007199254740991").unwrap().number("n").unwrap(), Some((1 << 53) - 1));
        assert!(Params::parse("n=0").unwrap().at_most("n", 1, 5).is_err());
        assert!(Params::parse("topic_id=x").unwrap().topic_id().is_err());
    }

    #[test]
    fn topic_names_are_checked() {
        assert!(topic_name("flights".to_owned()).is_ok());
        assert_eq!(topic_name("a b".to_owned()).unwrap_err().code(), ErrorCode::InvalidTopicName);
    }
}
