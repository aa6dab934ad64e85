//! How old a connection may become: load balancers choose a server when a connection is made, so connections that last keep a
//! server that was added idle, and one that had all of them busy.
//!
//! Nothing is cut. HTTP/1.1 gets `Connection: close` with an answer; HTTP/2 is told to open no more requests and ends with the last
//! one; followers get `reconnect`. A connection of HTTP/1.1 without requests ends by `http.read_timeout`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderValue, Response, Version, header};
use tidelog_api::headers;
use tokio::time::Instant;

/// The share of the age by which connections differ, so that those made at once do not end at once.
const JITTER: f64 = 0.2;

/// When a connection has to end. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Age {
    pub(super) end: Instant,
    http2: Arc<AtomicBool>,
}

/// When the connection of a request has to end; an extension of requests that may outlive it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionEnd(pub(crate) Instant);

impl ConnectionEnd {
    /// The time; for what begins on a connection that is old already, and is the last thing on it, a whole `age` from now.
    pub(crate) fn or_later(self, age: Duration) -> Instant {
        let now = Instant::now();
        if self.0 > now { self.0 } else { now + age }
    }
}

impl Age {
    /// The age of a connection that is made now; none if they are kept for ever.
    pub(super) fn of_new(max: Duration) -> Option<Self> {
        (!max.is_zero()).then(|| {
            let age = max.mul_f64(1.0 + JITTER * (2.0 * rand::random::<f64>() - 1.0));
            Self { end: Instant::now() + age, http2: Arc::default() }
        })
    }

    /// Takes note of a request.
    pub(super) fn begin(&self, version: Version) {
        if version == Version::HTTP_2 {
            self.http2.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the connection is one of HTTP/2; known with its first request.
    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// Has the answer end a connection that is old. One that follows always does: whoever comes back after `reconnect` is to make
    /// a new connection.
    pub(super) fn finish<B>(&self, response: &mut Response<B>) {
        let follows = || {
            let media = response.headers().get(header::CONTENT_TYPE);
            media.is_some_and(|media| media == headers::EVENT_STREAM)
        };
        if !self.is_http2() && (Instant::now() >= self.end || follows()) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_made_at_once_end_one_after_the_other() {
        assert!(Age::of_new(Duration::ZERO).is_none());
        let max = Duration::from_secs(100);
        let before = Instant::now();
        let ends: Vec<Duration> =
            (0..100).filter_map(|_| Age::of_new(max)).map(|age| age.end.duration_since(before)).collect();
        assert!(ends.iter().all(|end| (80..122).contains(&end.as_secs())), "{ends:?}");
        let (first, last) = (ends.iter().min(), ends.iter().max());
        assert!(first.zip(last).is_some_and(|(first, last)| *last - *first > Duration::from_secs(10)), "{ends:?}");
    }

    #[test]
    fn an_old_connection_of_http1_is_closed_by_its_next_answer() {
        let closes = |age: &Age, media: &'static str| {
            let mut response = Response::new(());
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
            age.finish(&mut response);
            response.headers().get(header::CONNECTION).is_some_and(|value| value == "close")
        };
        let now = Instant::now();
        let age = |end| Age { end, http2: Arc::default() };
        let (old, new) = (age(now), age(now + Duration::from_secs(60)));
        for age in [&old, &new] {
            age.begin(Version::HTTP_11);
        }
        assert!(closes(&old, headers::JSON) && !closes(&new, headers::JSON));
        assert!(closes(&new, headers::EVENT_STREAM));
        for age in [&old, &new] {
            age.begin(Version::HTTP_2);
            assert!(!closes(age, headers::JSON) && !closes(age, headers::EVENT_STREAM));
        }
    }
}
