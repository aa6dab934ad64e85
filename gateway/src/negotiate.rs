//! Content negotiation: which media type an answer has, and what a request body is.

use http::{HeaderMap, header};
use tidelog_api::{ErrorCode, headers};

use crate::error::{ApiError, Result};

/// A media type that the gateway speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Media {
    /// `application/json`
    Json,
    /// `application/x-ndjson`
    Ndjson,
    /// `application/octet-stream`
    Octets,
    /// `application/vnd.tidelog.batch`
    Batch,
    /// `text/event-stream`
    Events,
    /// `text/plain`
    Text,
}

impl Media {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Json => headers::JSON,
            Self::Ndjson => headers::NDJSON,
            Self::Octets => headers::OCTET_STREAM,
            Self::Batch => headers::BATCH,
            Self::Events => headers::EVENT_STREAM,
            Self::Text => "text/plain",
        }
    }

    /// The media type of a request body, parameters such as `charset` aside; `None` if the header is absent.
    pub(crate) fn of_body(headers: &HeaderMap, taken: &[Self]) -> Result<Option<Self>> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
        let text = value.to_str().unwrap_or_default();
        let essence = text.split(';').next().unwrap_or_default().trim();
        let found = taken.iter().find(|media| media.as_str().eq_ignore_ascii_case(essence));
        found.map(|media| Some(*media)).ok_or_else(|| unsupported(taken, text))
    }
}

/// 415, naming what is taken.
pub(crate) fn unsupported(taken: &[Media], sent: &str) -> ApiError {
    let names: Vec<&str> = taken.iter().map(|media| media.as_str()).collect();
    let message = format!("the content type {sent:?} is not taken here, send one of: {}", names.join(", "));
    ApiError::new(ErrorCode::UnsupportedMediaType, message)
}

/// The one of `offered` that `Accept` prefers; the first of equals, and the first if there is no `Accept`.
pub(crate) fn negotiate(headers: &HeaderMap, offered: &[Media]) -> Result<Media> {
    let mut ranges: Vec<(&str, u16)> = Vec::new();
    for value in headers.get_all(header::ACCEPT) {
        ranges.extend(value.to_str().unwrap_or_default().split(',').filter_map(parse_range));
    }
    let Some(first) = offered.first() else {
        return Err(ApiError::new(ErrorCode::Internal, "no media type is offered"));
    };
    if ranges.is_empty() {
        return Ok(*first);
    }
    let mut best: Option<(Media, u16)> = None;
    for media in offered {
        let quality = quality_of(*media, &ranges);
        if quality > best.map_or(0, |(_, best)| best) {
            best = Some((*media, quality));
        }
    }
    best.map(|(media, _)| media).ok_or_else(|| {
        let names: Vec<&str> = offered.iter().map(|media| media.as_str()).collect();
        ApiError::new(ErrorCode::NotAcceptable, format!("this route answers with one of: {}", names.join(", ")))
    })
}

/// A media range and its quality in thousandths.
fn parse_range(range: &str) -> Option<(&str, u16)> {
    let mut parts = range.split(';').map(str::trim);
    let essence = parts.next().filter(|essence| !essence.is_empty())?;
    let quality = parts
        .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
        .map_or(1.0, |quality| quality.parse::<f32>().unwrap_or(0.0));
    Some((essence, (quality.clamp(0.0, 1.0) * 1_000.0) as u16))
}

/// The quality that the most specific matching range gives.
fn quality_of(media: Media, ranges: &[(&str, u16)]) -> u16 {
    let name = media.as_str();
    let kind = name.split('/').next().unwrap_or_default();
    let specificity = |range: &str| {
        if range.eq_ignore_ascii_case(name) {
            3
        } else if range.strip_suffix("/*").is_some_and(|range| range.eq_ignore_ascii_case(kind)) {
            2
        } else {
            u8::from(range == "*/*" || range == "*")
        }
    };
    let matching = ranges.iter().map(|(range, quality)| (specificity(range), *quality));
    matching.filter(|(specificity, _)| *specificity > 0).max().map_or(0, |(_, quality)| quality)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accept(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))])
    }

    #[test]
    fn the_best_offer_wins() {
        let offered = [Media::Json, Media::Ndjson, Media::Events];
        let cases = [
            ("*/*", Some(Media::Json)),
            ("application/*", Some(Media::Json)),
            ("application/x-ndjson", Some(Media::Ndjson)),
            ("Text/Event-Stream", Some(Media::Events)),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Some(Media::Json)),
            ("application/json;q=0.1, application/x-ndjson;q=0.5", Some(Media::Ndjson)),
            ("application/json;q=0, */*", Some(Media::Ndjson)),
            ("application/json; charset=utf-8", Some(Media::Json)),
            ("image/png", None),
            ("application/json;q=0", None),
        ];
        for (value, expected) in cases {
            assert_eq!(negotiate(&accept(value), &offered).ok(), expected, "{value}");
        }
        assert_eq!(negotiate(&HeaderMap::new(), &offered).ok(), Some(Media::Json));
    }

    #[test]
    fn bodies_are_recognised_whatever_their_parameters() {
        let sent = |value| HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]);
        let taken = [Media::Json, Media::Ndjson];
        assert_eq!(Media::of_body(&sent("Application/JSON; charset=utf-8"), &taken).ok(), Some(Some(Media::Json)));
        assert_eq!(Media::of_body(&HeaderMap::new(), &taken).ok(), Some(None));
        let error = Media::of_body(&sent("text/csv"), &taken).err();
        assert_eq!(error.map(|error| error.code()), Some(ErrorCode::UnsupportedMediaType));
    }
}
