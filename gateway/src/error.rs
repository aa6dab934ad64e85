//! Errors of requests: what handlers return, and the mapping from the engine's error.
//!
//! A handler's error becomes a response that carries it as an extension; the outermost middleware writes the body, because
//! only there the request id is known and whether the request could have written anything. So every error has the same
//! body, also those of the framework.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};
use tidelog::error::{Detail, Error, ErrorKind};
use tidelog_api::{ErrorBody, ErrorCode, ErrorDescription, Outcome};

/// How long an overloaded server, or one whose bucket is away, asks to wait if the engine did not say.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);
/// The engine's name for the pause it asks for.
const RETRY_AFTER_MS: &str = "retry_after_ms";

/// Result of a handler or of a part of one.
pub(crate) type Result<T, E = ApiError> = std::result::Result<T, E>;

/// An error as a client sees it. Cheap to move.
#[derive(Debug)]
pub(crate) struct ApiError(Box<Parts>);

#[derive(Debug)]
struct Parts {
    code: ErrorCode,
    message: String,
    /// `None` means that nothing was written, and is not spelled out on reads.
    outcome: Option<Outcome>,
    details: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// For the log.
    cause: Option<Error>,
}

/// The error of a response, for the middleware that writes the body.
#[derive(Debug, Clone)]
pub(crate) struct Failure(pub(crate) Arc<ApiError>);

impl ApiError {
    /// An error of `code`; nothing was written.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let parts = Parts {
            code,
            message: message.into(),
            outcome: None,
            details: Map::new(),
            headers: Vec::new(),
            cause: None,
        };
        let error = Self(Box::new(parts));
        match code {
            ErrorCode::Overloaded | ErrorCode::Unavailable => error.with_retry_after(DEFAULT_RETRY_AFTER),
            _ => error,
        }
    }

    /// A malformed query parameter, header or part of the path.
    pub(crate) fn parameter(name: &str, message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidParameter, message).with("parameter", name)
    }

    /// What is wrong with the record at `index`.
    pub(crate) fn record(index: usize, message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRecord, message).with("index", index)
    }

    /// Adds a detail that a program may read.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.details.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a header to the answer.
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Says it in other words.
    pub(crate) fn with_message(mut self, message: impl Into<String>) -> Self {
        self.0.message = message.into();
        self
    }

    /// States what was written.
    pub(crate) fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.0.outcome = Some(outcome);
        self
    }

    /// Asks for a pause, in whole seconds as the header and exactly as a detail.
    pub(crate) fn with_retry_after(self, pause: Duration) -> Self {
        let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let seconds = HeaderValue::from(millis.div_ceil(1_000));
        let mut error = self.with(RETRY_AFTER_MS, millis);
        error.0.headers.retain(|(name, _)| *name != header::RETRY_AFTER);
        error.with_header(header::RETRY_AFTER, seconds)
    }

    /// For errors about a topic: says how to create one that does not exist.
    pub(crate) fn about_topic(mut self, topic: &str) -> Self {
        if self.0.code == ErrorCode::TopicNotFound {
            self.0.message = format!("there is no topic {topic}; create it with: tidelog topic create {topic}");
            self.0.details.insert("topic".to_owned(), topic.into());
        }
        self
    }

    pub(crate) fn code(&self) -> ErrorCode {
        self.0.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.0.outcome
    }

    #[cfg(test)]
    pub(crate) fn details(&self) -> &Map<String, Value> {
        &self.0.details
    }

    /// The engine's error below this one, for the log.
    pub(crate) fn cause(&self) -> Option<&Error> {
        self.0.cause.as_ref()
    }

    pub(crate) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.0.headers
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The body of the answer.
    pub(crate) fn body(&self, request_id: &str, is_read: bool) -> ErrorBody {
        ErrorBody {
            error: ErrorDescription {
                code: self.0.code.as_str().to_owned(),
                message: self.0.message.clone(),
                retryable: self.0.code.retryable(),
                outcome: (!is_read).then(|| self.0.outcome.unwrap_or(Outcome::NotWritten)),
                request_id: request_id.to_owned(),
                details: self.0.details.clone(),
            },
        }
    }
}

/// The code under which the API knows an engine's error.
fn code_of(error: &Error) -> ErrorCode {
    match error.code() {
        // Names of limits inside a record, which the API has under one code.
        "too_many_headers" | "invalid_timestamp" => return ErrorCode::InvalidRecord,
        "invalid_producer_epoch" => return ErrorCode::InvalidParameter,
        "command_too_large" => return ErrorCode::BatchTooLarge,
        _ => {}
    }
    if let Ok(code) = error.code().parse() {
        return code;
    }
    match error.kind() {
        ErrorKind::Invalid => ErrorCode::InvalidRequest,
        ErrorKind::OutOfRange => ErrorCode::OffsetOutOfRange,
        ErrorKind::NotLeader => ErrorCode::NotLeader,
        ErrorKind::Overloaded => ErrorCode::Overloaded,
        ErrorKind::Unavailable => ErrorCode::Unavailable,
        ErrorKind::Corrupt => ErrorCode::Corrupt,
        ErrorKind::NotFound | ErrorKind::AlreadyExists | ErrorKind::Conflict | ErrorKind::Internal => {
            ErrorCode::Internal
        }
    }
}

/// The API's word for what the engine says was written.
fn outcome_of(error: &Error) -> Outcome {
    match error.outcome() {
        tidelog::error::Outcome::NotWritten => Outcome::NotWritten,
        tidelog::error::Outcome::Written => Outcome::Written,
        tidelog::error::Outcome::Partial => Outcome::Partial,
        tidelog::error::Outcome::Unknown => Outcome::Unknown,
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let mut api = Self::new(code_of(&error), error.message()).with_outcome(outcome_of(&error));
        for (name, detail) in error.details() {
            // The codec counts records, the API speaks of the index in the request: they are the same number.
            let name = if *name == "record" { "index" } else { *name };
            api = match detail {
                Detail::Number(pause) if name == RETRY_AFTER_MS => api.with_retry_after(Duration::from_millis(*pause)),
                Detail::Number(number) => api.with(name, *number),
                Detail::Text(text) => api.with(name, text.as_str()),
            };
        }
        api.0.cause = Some(error);
        api
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        response.extensions_mut().insert(Failure(Arc::new(self)));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engines_error_keeps_code_outcome_and_details() {
        let error = Error::new(ErrorKind::Conflict, "sequence_gap", "a gap")
            .with_outcome(tidelog::error::Outcome::Unknown)
            .with_number("expected_sequence", 7);
        let api = ApiError::from(error);
        let body = api.body("r1", false).error;
        assert_eq!((api.status().as_u16(), body.code.as_str()), (409, "sequence_gap"));
        assert_eq!((body.outcome, body.details["expected_sequence"].as_u64()), (Some(Outcome::Unknown), Some(7)));
        assert_eq!(api.body("r1", true).error.outcome, None);
    }

    #[test]
    fn overload_asks_for_a_pause_in_whole_seconds() {
        let pause = |error: ApiError| {
            let header = error.headers().iter().find(|(name, _)| *name == header::RETRY_AFTER);
            (header.map(|(_, value)| value.clone()), error.details()[RETRY_AFTER_MS].as_u64())
        };
        let engine = Error::overloaded("the log is full").with_number(RETRY_AFTER_MS, 1_250);
        assert_eq!(pause(engine.into()), (Some(HeaderValue::from(2)), Some(1_250)));
        assert_eq!(pause(Error::overloaded("full").into()), (Some(HeaderValue::from(1)), Some(1_000)));
    }

    #[test]
    fn unknown_codes_fall_back_by_kind_and_never_to_a_success() {
        for kind in [ErrorKind::NotFound, ErrorKind::Invalid, ErrorKind::Conflict, ErrorKind::NotLeader] {
            assert!(ApiError::from(Error::new(kind, "never_heard_of", "x")).status().as_u16() >= 400);
        }
        assert_eq!(ApiError::from(Error::invalid("too_many_headers", "x")).code(), ErrorCode::InvalidRecord);
    }

    #[test]
    fn a_missing_topic_shows_the_command_that_creates_it() {
        let error = ApiError::from(Error::new(ErrorKind::NotFound, "topic_not_found", "topic not found"));
        assert!(error.about_topic("flights").message().contains("tidelog topic create flights"));
    }
}
