//! The access log and the metrics of requests: one line at the end of an answer, for sampled successes, all 5xx and all
//! slow ones; no keys, no values, no queries.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::{Frame, SizeHint};
use metrics::{Counter, Histogram};
use tidelog::config::Log;
use tidelog::metrics as names;
use tidelog_api::ErrorCode;
use xxhash_rust::xxh3::xxh3_64;

use crate::auth::Identity;
use crate::naming::RequestName;

/// The series of every route, so that a request need not look its own up by name and labels. As many as the router has
/// routes: what asks for one is a template, never a path.
#[derive(Default)]
pub(crate) struct RouteSeries(RwLock<HashMap<Arc<str>, Arc<Series>>>);

/// The series of one route.
struct Series {
    route: Arc<str>,
    seconds: Histogram,
    /// By class of status; made when first needed, since most routes never see most classes.
    requests: [OnceLock<Counter>; CLASSES.len()],
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl RouteSeries {
    fn of(&self, route: &str) -> Arc<Series> {
        if let Some(series) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(route) {
            return Arc::clone(series);
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let route: Arc<str> = route.into();
        let series = all.entry(Arc::clone(&route)).or_insert_with(|| Arc::new(Series::new(route)));
        Arc::clone(series)
    }
}

impl Series {
    fn new(route: Arc<str>) -> Self {
        let seconds = metrics::histogram!(names::HTTP_REQUEST_SECONDS, "route" => route.to_string());
        Self { route, seconds, requests: Default::default() }
    }

    fn count(&self, status: StatusCode, time: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        let register = || {
            let route = self.route.to_string();
            metrics::counter!(names::HTTP_REQUESTS, "route" => route, "status" => CLASSES[class])
        };
        self.requests[class].get_or_init(register).increment(1);
        self.seconds.record(time);
    }
}

/// What is told of a request once its answer ends.
pub(crate) struct Access {
    slow: Duration,
    sample: f64,
    method: Method,
    series: Arc<Series>,
    status: StatusCode,
    /// Of an error.
    code: Option<ErrorCode>,
    name: RequestName,
    identity: Identity,
    started: Instant,
    bytes: u64,
}

impl Access {
    /// Counts a request to `route`, a template; its answer's head is ready.
    pub(crate) fn new(
        (log, all): (&Log, &RouteSeries),
        (method, route): (Method, &str),
        (status, code): (StatusCode, Option<ErrorCode>),
        name: RequestName,
        identity: Identity,
        started: Instant,
    ) -> Self {
        let series = all.of(route);
        series.count(status, started.elapsed());
        let (slow, sample) = (log.slow_request, log.sample);
        Self { slow, sample, method, series, status, code, name, identity, started, bytes: 0 }
    }

    /// Of one that may wait for so long: it is slow if it takes longer beyond that.
    pub(crate) fn waiting(mut self, wait: Duration) -> Self {
        self.slow += wait;
        self
    }

    fn is_logged(&self, elapsed: Duration) -> bool {
        // The id decides, so that a client that sends its own can have all lines of one request or none.
        let drawn = xxh3_64(self.name.id().as_bytes()) as f64 / u64::MAX as f64;
        self.status.is_server_error() || elapsed >= self.slow || drawn < self.sample
    }

    fn log(&self, complete: bool) {
        let elapsed = self.started.elapsed();
        if self.is_logged(elapsed) {
            tracing::info!(
                target: "access",
                method = %self.method,
                route = %self.series.route,
                status = self.status.as_u16(),
                code = self.code.map(ErrorCode::as_str),
                bytes = self.bytes,
                duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
                request_id = %self.name.id(),
                traceparent = self.name.traceparent(),
                token = self.identity.name(),
                complete,
            );
        }
    }
}

/// A body that counts its bytes and logs when it ends, or is dropped because the client went away.
pub(crate) struct LoggedBody {
    inner: Body,
    access: Access,
    /// All of it was handed out.
    ended: bool,
    /// The inner body is over, well or not, and is not polled again: a compressor does, and streams may not like it.
    over: bool,
}

impl LoggedBody {
    pub(crate) fn new(inner: Body, access: Access) -> Self {
        let ended = http_body::Body::is_end_stream(&inner);
        Self { inner, access, ended, over: false }
    }
}

impl http_body::Body for LoggedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        let frame = ready!(this.access.name.sync_scope(|| Pin::new(&mut this.inner).poll_frame(cx)));
        match &frame {
            None => {
                this.ended = true;
                this.over = true;
            }
            Some(Ok(frame)) => {
                this.access.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                // A body of known length is not polled again after its last byte.
                this.ended = this.inner.is_end_stream();
            }
            Some(Err(error)) => {
                this.over = true;
                this.access.name.sync_scope(|| tracing::warn!(%error, "an answer broke off"));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for LoggedBody {
    fn drop(&mut self) {
        // Outside of the request's scope: the line names it itself.
        self.access.log(self.ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(sample: f64, status: u16, id: &str) -> Access {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        let log = Log { sample, slow_request: Duration::from_secs(1), ..Log::default() };
        let name = RequestName {
            id: http::HeaderValue::from_str(id).unwrap_or(http::HeaderValue::from_static("")),
            trace: http::HeaderValue::from_static("00"),
        };
        let (all, route) = (RouteSeries::default(), (Method::GET, "/"));
        Access::new((&log, &all), route, (status, None), name, Identity::Anyone, Instant::now())
    }

    #[test]
    fn failures_and_slow_answers_are_always_logged_successes_by_sample() {
        assert!(access(0.0, 503, "a").is_logged(Duration::ZERO));
        assert!(access(0.0, 200, "a").is_logged(Duration::from_secs(1)));
        let waits = access(0.0, 200, "a").waiting(Duration::from_secs(30));
        assert!(!waits.is_logged(Duration::from_secs(30)) && waits.is_logged(Duration::from_secs(31)));
        assert!(!access(0.0, 200, "a").is_logged(Duration::ZERO));
        assert!(access(1.0, 200, "a").is_logged(Duration::ZERO));
        let logged = (0..1_000).filter(|id| access(0.25, 200, &id.to_string()).is_logged(Duration::ZERO)).count();
        assert!((150..350).contains(&logged), "{logged}");
    }
}
