//! The S3 client's HTTP: what the store answers, kept so that the retry above can tell what to do, and the calls of an upload
//! in parts.
//!
//! The client of `object_store` has a retry of its own, which looks neither at `Retry-After` nor at our deadlines, and under
//! ours the two would multiply. Here every answer that may be another one later becomes an error in which the client sees
//! nothing to try again and [`answer_in`] finds the [`Answer`]: the retry in `retry.rs` is the only one. What stays with the
//! client is to go on with a large body that broke off.
//!
//! The calls of an upload in parts are tried again here, by that same retry: above, a part would get another number.

use std::error::Error as StdError;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService, ReqwestConnector,
};

use super::attempt::timeout_for;
use super::retry::{Failure, retry};
use crate::config;

/// Bytes of an error's body that are read; S3's are below one KiB.
const MAX_ERROR_BODY: usize = 16 << 10;

/// Makes the clients of a store.
#[derive(Debug)]
pub(super) struct Connector {
    attempt_timeout: Duration,
    deadline: Duration,
}

impl Connector {
    pub(super) const fn new(settings: &config::Store) -> Self {
        Self { attempt_timeout: settings.attempt_timeout, deadline: settings.deadline }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Service { client, attempt_timeout: self.attempt_timeout, deadline: self.deadline }))
    }
}

#[derive(Debug)]
struct Service {
    client: HttpClient,
    attempt_timeout: Duration,
    deadline: Duration,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if !is_of_upload(&request) {
            return attempt(&self.client, request).await;
        }
        let timeout = timeout_for(self.attempt_timeout, request.body().content_length());
        retry(self.deadline, || {
            let call = tokio::time::timeout(timeout, attempt(&self.client, request.clone()));
            async move { call.await.unwrap_or_else(|elapsed| Err(HttpError::timed_out(elapsed))) }
        })
        .await
    }
}

/// Whether the call is of an upload in parts that has begun; Azure's parts are blocks.
fn is_of_upload(request: &HttpRequest) -> bool {
    has_parameter(request, &["uploadId=", "comp=block"])
}

/// Whether the call lists objects.
fn is_listing(request: &HttpRequest) -> bool {
    has_parameter(request, &["list-type=", "comp=list"])
}

fn has_parameter(request: &HttpRequest, beginnings: &[&str]) -> bool {
    let mut parameters = request.uri().query().unwrap_or_default().split('&');
    parameters.any(|parameter| beginnings.iter().any(|beginning| parameter.starts_with(beginning)))
}

/// One exchange. An answer that may be another one later is an error.
async fn attempt(client: &HttpClient, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let completes = request.method() == http::Method::POST && is_of_upload(&request);
    let lists = is_listing(&request);
    let response = client.execute(request).await.map_err(for_our_retry)?;
    let status = response.status();
    // The end of an upload in parts is begun with "200 OK" while S3 still works on it; whether it went well is in the body.
    if status.is_success() && !completes {
        return Ok(response);
    }
    // Of a listing the client does not tell a refusal from a failure.
    if status == StatusCode::NOT_MODIFIED || !(completes || lists || may_change(status)) {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = match Limited::new(body, MAX_ERROR_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        // What it says of itself is lost; what it is is known.
        Err(_) if !status.is_success() => Bytes::new(),
        Err(error) => return Err(HttpError::new(HttpErrorKind::Unknown, Broken(error))),
    };
    let answer = Answer::new(status, &parts.headers, &body);
    if answer.is_error() || (lists && !status.is_success()) {
        return Err(HttpError::new(HttpErrorKind::Unknown, answer));
    }
    let body = Full::new(body).map_err(|never| match never {});
    Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
}

/// Whether answers of that status are sometimes other ones later, or have a meaning that the client does not see.
fn may_change(status: StatusCode) -> bool {
    status.is_server_error()
        || status.is_redirection()
        || matches!(
            status,
            StatusCode::BAD_REQUEST
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::CONFLICT
                | StatusCode::TOO_MANY_REQUESTS
        )
}

/// The same error, in which the client sees nothing to try again.
fn for_our_retry(error: HttpError) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, Transport(error))
}

/// An exchange that broke off. It says what its cause says: the client names it once more.
#[derive(Debug)]
struct Transport(HttpError);

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.source() {
            Some(cause) => write!(f, "{cause}"),
            None => write!(f, "{}", self.0),
        }
    }
}

impl StdError for Transport {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source().and_then(StdError::source)
    }
}

/// An answer whose body broke off.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off: {0}")]
struct Broken(#[source] Box<dyn StdError + Send + Sync>);

/// What the store answers to a call that it does not do, at least not now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store answers {status}: {said}")]
pub(super) struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    said: String,
}

/// Codes of S3 that go with a 400 or a 409 and are for now only.
const FOR_NOW: [&str; 6] =
    ["ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "InternalError", "SlowDown", "IncompleteBody"];
/// Codes of S3 by which it says that it is asked too much.
const TOO_MUCH: [&str; 5] =
    ["SlowDown", "RequestLimitExceeded", "TooManyRequests", "ServerBusy", "ThrottlingException"];
/// Codes of S3 that go with a 400 and stay until somebody changes a setting.
const FOR_GOOD: [&str; 5] = [
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "InvalidBucketName",
    "InvalidArgument",
    "InvalidStorageClass",
];

impl Answer {
    pub(super) fn new(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let asked = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        // A date is another machine's clock, and no store of ours sends one.
        let retry_after = asked.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
        Self { status, retry_after, said: String::from_utf8_lossy(body).trim().to_owned() }
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        codes.iter().any(|code| self.said.contains(&format!("<Code>{code}</Code>")))
    }

    /// Whether it is one that the client is not to see.
    fn is_error(&self) -> bool {
        match self.status {
            StatusCode::CONFLICT => self.has_code(&FOR_NOW),
            StatusCode::BAD_REQUEST => self.has_code(&FOR_NOW) || self.has_code(&FOR_GOOD),
            status if status.is_success() => self.has_code(&FOR_NOW),
            status => may_change(status),
        }
    }

    /// Whether the same call will get the same answer until somebody changes something.
    pub(super) fn is_final(&self) -> bool {
        self.denies()
            || self.status.is_redirection()
            || matches!(self.status, StatusCode::NOT_IMPLEMENTED | StatusCode::NOT_FOUND)
            || (self.status == StatusCode::BAD_REQUEST && self.has_code(&FOR_GOOD))
    }

    /// Whether the store knows the credentials not at all, or not as ones that may do this.
    pub(super) fn denies(&self) -> bool {
        matches!(self.status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED)
    }

    /// Whether the store says that it is asked too much.
    pub(super) fn slows_down(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS
            || self.has_code(&TOO_MUCH)
            || (self.status == StatusCode::SERVICE_UNAVAILABLE && self.retry_after.is_some())
    }

    /// How long the store asks to be left alone.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// The store's answer that is the cause of `error`, if one is.
pub(super) fn answer_in<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Answer> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(answer) = error.downcast_ref() {
            return Some(answer);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answer(status: u16, retry_after: Option<&str>, code: &str) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
        }
        let body = format!("<Error><Code>{code}</Code></Error>");
        Answer::new(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
    }

    #[test]
    fn answers_are_sorted_by_what_is_to_be_done() {
        // Status, Retry-After, code; whether it is an error of ours, final, a call to slow down.
        for (status, after, code, kept, is_final, slow) in [
            (503, None, "SlowDown", true, false, true),
            (503, Some("3"), "ServiceUnavailable", true, false, true),
            (503, None, "ServiceUnavailable", true, false, false),
            (429, None, "", true, false, true),
            (500, None, "InternalError", true, false, false),
            (200, None, "InternalError", true, false, false),
            (200, None, "SlowDown", true, false, true),
            (200, None, "", false, false, false),
            (301, None, "PermanentRedirect", true, true, false),
            (400, None, "AuthorizationHeaderMalformed", true, true, false),
            (400, None, "RequestTimeout", true, false, false),
            (400, None, "ExpiredToken", false, false, false),
            (409, None, "ConditionalRequestConflict", true, false, false),
            (409, None, "BucketAlreadyExists", false, false, false),
            (501, None, "NotImplemented", true, true, false),
            // The client tells these itself, but not of a listing.
            (403, None, "AccessDenied", false, true, false),
            (404, None, "NoSuchBucket", false, true, false),
        ] {
            let answer = answer(status, after, code);
            let found = (answer.is_error(), answer.is_final(), answer.slows_down());
            assert_eq!(found, (kept, is_final, slow), "{answer}");
        }
        assert_eq!(answer(503, Some(" 7 "), "").retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(answer(503, Some("Wed, 21 Oct 2015 07:28:00 GMT"), "").retry_after(), None);
    }

    #[test]
    fn an_answer_is_found_below_whatever_was_put_around_it() {
        let kept = HttpError::new(HttpErrorKind::Unknown, answer(503, Some("2"), "SlowDown"));
        let error = object_store::Error::Generic { store: "S3", source: Box::new(kept) };
        assert_eq!(answer_in(&error).and_then(Answer::retry_after), Some(Duration::from_secs(2)));
        let other = object_store::Error::Generic { store: "S3", source: "no".into() };
        assert_eq!(answer_in(&other), None);
    }
}
