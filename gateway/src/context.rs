//! What surrounds every request: request id and trace context in and out, the guard, the body of every error, the access log.
//!
//! It sees each request once and each answer once, so ids, error bodies and `Cache-Control` cannot be forgotten by a
//! route. It logs neither keys nor values nor queries.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::FutureExt as _;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tidelog_api::{ErrorCode, Outcome, headers};
use uuid::Uuid;

use crate::access::{Access, LoggedBody};
use crate::app::App;
use crate::auth::{Identity, Need};
use crate::body::rest;
use crate::error::{ApiError, Failure};
use crate::guard::guard;
use crate::naming::RequestName;

/// A request id from a client is at most this long, and visible ASCII.
const MAX_REQUEST_ID: usize = 128;

/// The template of the route when it is more than the path that axum matched: a verb after a resource.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VerbRoute(pub(crate) &'static str);

/// How long the client asked to wait at most: not slow, whoever waits for so long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits(pub(crate) Duration);

/// The answer of the table's `handler` to a request, in its context; it says itself which route it was.
pub(crate) async fn in_context(
    app: &App,
    request: Request,
    handler: impl AsyncFnOnce(Request) -> Response,
) -> http::Response<LoggedBody> {
    let (mut head, body) = request.into_parts();
    let begun = Begun::new(app, &head);
    let guarded = guard(app, &head.uri, &head.headers);
    if app.auth().is_on() {
        // The table knows what its routes need.
        head.extensions.insert(begun.identity.clone());
    }
    let (body, rest) = rest::split(body);
    let request = Request::from_parts(head, body);
    let response = match guarded {
        Ok(()) => begun.name.scope(whatever_becomes_of_it(handler(request))).await,
        Err(error) => error.into_response(),
    };
    begun.finish(app, None, response, rest).await
}

/// As [`in_context`], for a route whose template and need the caller knows and whose handler only borrows the request.
pub(crate) async fn in_context_of<B>(
    app: &App,
    (route, need): (&'static str, Need),
    request: http::Request<B>,
    handler: impl AsyncFnOnce(&Parts, &mut B) -> Response,
) -> http::Response<LoggedBody>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let (head, mut body) = request.into_parts();
    let begun = Begun::new(app, &head);
    let admitted = guard(app, &head.uri, &head.headers).and_then(|()| begun.identity.admit(need));
    let response = match admitted {
        Ok(()) => begun.name.scope(whatever_becomes_of_it(handler(&head, &mut body))).await,
        Err(error) => error.into_response(),
    };
    begun.finish(app, Some(route), response, body).await
}

/// A request that is being answered.
struct Begun {
    at: Instant,
    name: RequestName,
    method: Method,
    identity: Identity,
    /// The client waits to be asked for its body.
    waits_to_send: bool,
}

impl Begun {
    fn new(app: &App, head: &Parts) -> Self {
        Self {
            at: Instant::now(),
            name: RequestName { id: request_id(&head.headers), trace: traceparent(&head.headers) },
            method: head.method.clone(),
            identity: app.auth().identify(&head.headers),
            waits_to_send: head.headers.contains_key(header::EXPECT),
        }
    }

    /// Gives the answer what every answer has; `left` is what the handler did not read of the body.
    async fn finish(
        self,
        app: &App,
        route: Option<&'static str>,
        response: Response,
        left: impl http_body::Body<Data = Bytes> + Unpin,
    ) -> http::Response<LoggedBody> {
        let Self { at, name, method, identity, waits_to_send } = self;
        let (mut response, code) = finish_error(response, &name, &method);
        if is_refusal(response.status()) && !waits_to_send {
            rest::discard(left).await;
        }
        let matched = response.extensions_mut().remove::<MatchedPath>();
        let route = match response.extensions().get::<VerbRoute>() {
            Some(VerbRoute(route)) => route,
            None => route.or(matched.as_ref().map(MatchedPath::as_str)).unwrap_or("unmatched"),
        };
        let log = (&app.config().log, app.series());
        let access = Access::new(log, (method, route), (response.status(), code), name.clone(), identity, at);
        let access = match response.extensions_mut().remove::<Waits>() {
            Some(Waits(wait)) => access.waiting(wait),
            None => access,
        };
        let head = response.headers_mut();
        head.insert(headers::REQUEST_ID, name.id);
        head.insert(headers::TRACEPARENT, name.trace);
        head.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response.map(|body| LoggedBody::new(body, access))
    }
}

/// Whether a handler may have answered so before it had read the body. It had if it wrote anything.
fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() || status == StatusCode::SERVICE_UNAVAILABLE
}

async fn whatever_becomes_of_it(answer: impl Future<Output = Response>) -> Response {
    AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
        // The panic hook has written where it was; what had been done by then nobody knows.
        let error = ApiError::new(ErrorCode::Internal, "the server failed to handle the request");
        error.with_outcome(Outcome::Unknown).into_response()
    })
}

/// Writes the body of an error, and makes one of whatever the framework refused by itself; and the error's code.
fn finish_error(response: Response, name: &RequestName, method: &Method) -> (Response, Option<ErrorCode>) {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return (response, None);
    }
    let (mut parts, _) = response.into_parts();
    let Failure(error) = parts.extensions.remove().unwrap_or_else(|| Failure(Arc::new(of_framework(status))));
    if error.status().is_server_error() {
        name.sync_scope(|| log_failure(&error));
    }
    let is_read = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let body = serde_json::to_vec(&error.body(name.id(), is_read)).unwrap_or_default();
    parts.status = error.status();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(headers::JSON));
    for (name, value) in error.headers() {
        parts.headers.insert(name, value.clone());
    }
    (Response::from_parts(parts, Body::from(body)), Some(error.code()))
}

fn of_framework(status: StatusCode) -> ApiError {
    match status {
        StatusCode::NOT_FOUND => ApiError::new(ErrorCode::RouteNotFound, "there is no such route"),
        StatusCode::METHOD_NOT_ALLOWED => {
            ApiError::new(ErrorCode::MethodNotAllowed, "the route does not have this method, see the header allow")
        }
        StatusCode::REQUEST_TIMEOUT => ApiError::new(ErrorCode::RequestTimeout, "the request did not arrive in time"),
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(ErrorCode::BodyTooLarge, "the body is too large"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ApiError::new(ErrorCode::UnsupportedMediaType, "the content type is not taken here")
        }
        _ if status.is_client_error() => ApiError::parameter("request", "the request is malformed"),
        _ => {
            ApiError::new(ErrorCode::Internal, "the server failed to handle the request").with_outcome(Outcome::Unknown)
        }
    }
}

/// Logged once, here, with its sources, under the name of the request.
pub(crate) fn log_failure(error: &ApiError) {
    let code = error.code().as_str();
    match error.cause() {
        // Budgets and elections are told by metrics and by the access log.
        _ if error.code().retryable() => tracing::debug!(code, message = error.message(), "request failed"),
        Some(cause) => tracing::error!(code, ?cause, "request failed"),
        None => tracing::error!(code, message = error.message(), "request failed"),
    }
}

fn request_id(headers: &HeaderMap) -> HeaderValue {
    let usable = |id: &&HeaderValue| {
        let id = id.as_bytes();
        !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.iter().all(u8::is_ascii_graphic)
    };
    headers.get(headers::REQUEST_ID).filter(usable).cloned().unwrap_or_else(|| value(random_hex(&mut [0; 32])))
}

/// 128 random bits. They name requests and guard nothing, so they come from the thread's generator and not, with a system
/// call for each, from the operating system.
fn random_hex(buffer: &mut [u8; 32]) -> &[u8] {
    Uuid::from_u128(rand::random()).as_simple().encode_lower(buffer).as_bytes()
}

/// The client's trace context, or the beginning of one.
fn traceparent(headers: &HeaderMap) -> HeaderValue {
    let sent = headers.get(headers::TRACEPARENT);
    if let Some(value) = sent.filter(|value| is_traceparent(value.as_bytes())) {
        return value.clone();
    }
    let mut made = *b"00-................................-................-00";
    made[3..35].copy_from_slice(random_hex(&mut [0; 32]));
    made[36..52].copy_from_slice(&random_hex(&mut [0; 32])[..16]);
    value(&made)
}

/// The header of visible ASCII made here.
fn value(ascii: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(ascii).unwrap_or(HeaderValue::from_static("0"))
}

/// `00-<32 hex>-<16 hex>-<2 hex>`, as W3C has it.
fn is_traceparent(value: &[u8]) -> bool {
    let hex = |bytes: &[u8]| bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    value.len() == 55
        && [2, 35, 52].into_iter().all(|dash| value[dash] == b'-')
        && [&value[..2], &value[3..35], &value[36..52], &value[53..]].into_iter().all(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let value = HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""));
        HeaderMap::from_iter([(http::HeaderName::from_static(name), value)])
    }

    #[tokio::test]
    async fn a_handler_that_panicked_may_have_written() {
        let response = whatever_becomes_of_it(async { panic!("on purpose") }).await;
        let outcome = response.extensions().get::<Failure>().and_then(|Failure(error)| error.outcome());
        assert_eq!((response.status(), outcome), (StatusCode::INTERNAL_SERVER_ERROR, Some(Outcome::Unknown)));
    }

    #[test]
    fn request_ids_are_taken_or_made() {
        assert_eq!(request_id(&with(headers::REQUEST_ID, "abc-1")), "abc-1");
        for unusable in ["", "a b", &"x".repeat(129)] {
            let made = request_id(&with(headers::REQUEST_ID, unusable));
            assert!(made.len() == 32 && made != unusable);
        }
    }

    #[test]
    fn trace_contexts_are_taken_or_made() {
        let sent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(traceparent(&with(headers::TRACEPARENT, sent)), sent);
        for unusable in ["", "00-xyz", &sent.to_uppercase()] {
            let made = traceparent(&with(headers::TRACEPARENT, unusable));
            assert!(is_traceparent(made.as_bytes()) && made != unusable);
        }
    }
}
