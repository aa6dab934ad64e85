//! Server-sent events: following one or all partitions.
//!
//! An `EventSource` gives up for ever on an answer that is not 200, and comes back by itself when a stream ends. So what is
//! wrong for good is refused with its status, once, at the beginning, and what may pass (no leader, a busy node) is waited
//! for inside the stream.
//!
//! A follower is a task that renders pages, a piece at a time, into a channel of one place: one piece pending, whoever reads
//! slowly, and what it holds of the memory for pages with it. If the place is not free for [`STALLED`], or for less while
//! memory for pages is scarce, the follower is closed.

mod events;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tidelog::metrics as names;
use tidelog::model::{FetchPage, Hold, TopicId};
use tidelog_api::limits::PING_INTERVAL_SECS;
use tidelog_api::{ErrorCode, headers};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout};

use super::{all, answer, fetch, offload};
use crate::app::App;
use crate::consistency::Consistency;
use crate::context::log_failure;
use crate::error::{ApiError, Result};
use crate::held::hold_rest;
use crate::naming::{self, RequestName};
use crate::negotiate::Media;
use crate::params::PartitionPath;
use crate::render::page::{chunk_bytes, stored_bytes};
use crate::render::record::Shape;
use crate::server::ConnectionEnd;
use crate::walk::{Budget, Selection, Start, Walk};

/// How long a follower may leave a page unread.
const STALLED: Duration = Duration::from_secs(30);
/// How often it is looked whether that is over.
const STALLED_TICK: Duration = Duration::from_millis(500);
/// How long the answer's status waits for the first look at the topic.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// How long the stream waits for what may pass, before it tells the failure.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 60 });
const PING_INTERVAL: Duration = Duration::from_secs(PING_INTERVAL_SECS);

/// Follows one partition.
pub(crate) async fn partition(
    app: App,
    path: PartitionPath,
    query: fetch::Query,
    (headers, until): (&HeaderMap, Option<ConnectionEnd>),
) -> Result<Response> {
    if query.end.is_some() {
        return Err(ApiError::parameter("end", "a follower has no end"));
    }
    let start = match resumed(headers)? {
        Some(cursor) if !cursor.positions.iter().map(|(partition, _)| *partition).eq([path.partition]) => {
            return Err(ApiError::new(ErrorCode::InvalidCursor, "the cursor is not one of this partition"));
        }
        Some(cursor) => Start::Cursor(cursor),
        None => Start::At(query.from, Selection::Some(vec![path.partition])),
    };
    let budget = Budget { records: query.max_records, bytes: query.max_bytes };
    let (values, consistency) = (query.values, query.consistency);
    let target = Target { topic: path.topic, topic_id: query.topic_id, start, budget, values, consistency };
    follow(app, target, until).await
}

/// Follows all partitions, or those chosen.
pub(crate) async fn all(
    app: App,
    topic: String,
    query: all::Query,
    (headers, until): (&HeaderMap, Option<ConnectionEnd>),
) -> Result<Response> {
    let start = resumed(headers)?.map_or(query.start, Start::Cursor);
    let (values, consistency) = (query.values, query.consistency);
    let target = Target { topic, topic_id: query.topic_id, start, budget: query.budget, values, consistency };
    follow(app, target, until).await
}

/// The cursor of the last event that the client saw.
fn resumed(headers: &HeaderMap) -> Result<Option<tidelog_api::Cursor>> {
    let Some(value) = headers.get(headers::LAST_EVENT_ID) else { return Ok(None) };
    match value.to_str().unwrap_or_default().trim() {
        "" => Ok(None),
        text => all::parse_cursor(text).map(Some),
    }
}

/// What is followed.
struct Target {
    topic: String,
    topic_id: Option<TopicId>,
    start: Start,
    budget: Budget,
    values: Option<Shape>,
    consistency: Consistency,
}

async fn follow(app: App, target: Target, until: Option<ConnectionEnd>) -> Result<Response> {
    let Some(place) = app.follow() else {
        return Err(ApiError::new(ErrorCode::Overloaded, "too many followers, see http.max_followers"));
    };
    let begin = Walk::begin(&app, &target.topic, target.topic_id, (&target.start, target.consistency));
    let walk = match timeout(FIRST_LOOK, begin).await {
        Ok(Ok(walk)) => Some(walk),
        Ok(Err(error)) if !error.code().retryable() => return Err(error),
        // Whoever leads later, the stream is there to wait for it.
        Ok(Err(_)) | Err(_) => None,
    };
    let (pages, receiver) = mpsc::channel(1);
    let until = until.map(|end| end.or_later(app.config().http.max_connection_age));
    let follower = Follower { app, target, until, pages, _place: Place::take(place) };
    let run = follower.run(walk);
    // Its lines name the request too.
    match naming::current() {
        Some(name) => drop(tokio::spawn(async move { name.scope(run).await })),
        None => drop(tokio::spawn(run)),
    }
    let body = stream::unfold((receiver, Vec::new()), |(mut receiver, sent)| async move {
        // What comes next is asked for once that is sent.
        drop(sent);
        let Pending { text, holds } = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(text), (receiver, holds)))
    });
    let mut response = answer(StatusCode::OK, Media::Events, Body::from_stream(body));
    let to = response.headers_mut();
    to.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // Some proxies buffer answers unless told not to.
    to.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// A place among the followers, counted.
struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn take(permit: OwnedSemaphorePermit) -> Self {
        metrics::gauge!(names::HTTP_FOLLOWERS).increment(1);
        Self { _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        metrics::gauge!(names::HTTP_FOLLOWERS).decrement(1);
    }
}

/// Events that are to be sent, and what they hold until they are.
struct Pending {
    text: Bytes,
    holds: Vec<Hold>,
}

struct Follower {
    app: App,
    target: Target,
    /// When its connection is old.
    until: Option<Instant>,
    pages: mpsc::Sender<Pending>,
    _place: Place,
}

/// Why a follower ended.
enum End {
    /// It went away or does not read.
    Gone,
    Failed(ApiError),
}

impl From<ApiError> for End {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

impl Follower {
    async fn run(self, walk: Option<Walk>) {
        let last = tokio::select! {
            biased;
            end = self.stream(walk) => match end {
                Err(End::Failed(error)) => failed(&error),
                Err(End::Gone) | Ok(()) => return,
            },
            () = self.app.lifecycle().waits_ended() => events::reconnect(),
            () = ended(self.until) => events::reconnect(),
        };
        // Whoever does not take the last event learns of the end by the end.
        let _ = self.send(last).await;
    }

    async fn stream(&self, walk: Option<Walk>) -> Result<(), End> {
        self.send(events::hello()).await?;
        let mut walk = match walk {
            Some(walk) => walk,
            None => self.begin().await?,
        };
        let mut pinged = Instant::now();
        let mut starved: Option<Retries> = None;
        loop {
            let pages = self.round(&mut walk).await?;
            if pages.is_empty() {
                let until_ping = PING_INTERVAL.saturating_sub(pinged.elapsed());
                tokio::select! {
                    biased;
                    () = walk.wait(self.app.queue(), until_ping) => {}
                    () = self.pages.closed() => return Ok(()),
                }
            }
            let mut pages = pages.into_iter();
            while let Some((partition, page)) = pages.next() {
                let shape = self.target.values.unwrap_or_else(|| Shape::of(page.topic.settings.value_format));
                let sent;
                (walk, sent) = self.send_page(walk, partition, page, shape).await?;
                match sent {
                    Ok(()) => starved = None,
                    // Without its pages meanwhile: those who hold theirs while they wait would wait for each other.
                    Err(error) => {
                        drop(pages);
                        starved.get_or_insert_with(Retries::begin).wait(error).await?;
                        break;
                    }
                }
            }
            if pinged.elapsed() >= PING_INTERVAL {
                pinged = Instant::now();
                self.send(events::ping(&walk)).await?;
            }
        }
    }

    /// Sends a page, a piece at a time, with the cursor after each record as its id. Without memory for a piece it ends before that,
    /// and so does the walk.
    async fn send_page(
        &self,
        mut walk: Walk,
        partition: u32,
        page: FetchPage,
        shape: Shape,
    ) -> Result<(Walk, Result<()>), End> {
        let stored = stored_bytes(&page);
        let page = Arc::new(page);
        let mut next = Some((0, page.start));
        while let Some(at) = next {
            // Nothing is rendered that would only lie here.
            let place = self.place().await?;
            let (rendered, sent) = (Arc::clone(&page), walk.position(partition));
            let work = move || events::records(walk, partition, &rendered, at, shape);
            let bytes = page.chunks.get(at.0).map_or(0, chunk_bytes);
            let text;
            ((text, next), walk) = offload(bytes, work).await?;
            if !text.is_empty() {
                // The page is here as well as its events.
                let rest = match hold_rest(&self.app, stored + text.len(), stored).await {
                    Ok(rest) => rest,
                    Err(error) => {
                        walk.go_back(partition, sent);
                        return Ok((walk, Err(error)));
                    }
                };
                let holds = rest.into_iter().chain([page.hold.clone()]).collect();
                place.send(Pending { text: Bytes::from(text), holds });
            }
        }
        walk.advance(partition, page.next_offset);
        Ok((walk, Ok(())))
    }

    async fn begin(&self) -> Result<Walk> {
        let target = &self.target;
        let mut retries = Retries::begin();
        loop {
            match Walk::begin(&self.app, &target.topic, target.topic_id, (&target.start, target.consistency)).await {
                Err(error) => retries.wait(error).await?,
                begun => return begun,
            }
        }
    }

    async fn round(&self, walk: &mut Walk) -> Result<Vec<(u32, FetchPage)>> {
        let mut retries = Retries::begin();
        loop {
            match walk.round(&self.app, self.target.budget).await {
                Err(error) => retries.wait(error).await?,
                pages => return pages,
            }
        }
    }

    async fn send(&self, text: String) -> Result<(), End> {
        self.place().await?.send(Pending { text: Bytes::from(text), holds: Vec::new() });
        Ok(())
    }

    /// The place for what is sent next, once the client has taken what was in it.
    async fn place(&self) -> Result<mpsc::Permit<'_, Pending>, End> {
        let begun = Instant::now();
        loop {
            match timeout(STALLED_TICK, self.pages.reserve()).await {
                Ok(Ok(place)) => return Ok(place),
                Ok(Err(_)) => return Err(End::Gone),
                Err(_) if begun.elapsed() >= self.app.patience().limit().min(STALLED) => return Err(End::Gone),
                Err(_) => {}
            }
        }
    }
}

/// Returns at this time, or never.
async fn ended(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// The event of a failure. The answer's head said 200 long ago: what is counted and logged of other requests by their status is so here.
fn failed(error: &ApiError) -> String {
    let class = if error.status().is_server_error() { "5xx" } else { "4xx" };
    metrics::counter!(names::HTTP_FOLLOWER_FAILURES, "status" => class).increment(1);
    if error.status().is_server_error() {
        log_failure(error);
    }
    let name = naming::current();
    events::failure(error, name.as_ref().map_or("", RequestName::id))
}

/// Attempts for as long as the stream waits for what may pass, with growing pauses between them.
struct Retries {
    until: Instant,
    pause: Duration,
}

impl Retries {
    fn begin() -> Self {
        Self { until: Instant::now() + PATIENCE, pause: Duration::from_millis(100) }
    }

    /// Waits before the next attempt; the failure, if there is to be none.
    async fn wait(&mut self, error: ApiError) -> Result<()> {
        if !error.code().retryable() || Instant::now() >= self.until {
            return Err(error);
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(Duration::from_secs(2));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_last_event_id_is_a_cursor_or_nothing() {
        let with = |value: &str| {
            HeaderMap::from_iter([(
                http::HeaderName::from_static(headers::LAST_EVENT_ID),
                HeaderValue::from_str(value).unwrap(),
            )])
        };
        assert_eq!(resumed(&HeaderMap::new()).unwrap(), None);
        assert_eq!(resumed(&with("")).unwrap(), None);
        let cursor =
            tidelog_api::Cursor { topic_id: uuid::Uuid::nil(), incarnation: 1, all: false, positions: vec![(2, 9)] };
        assert_eq!(resumed(&with(&cursor.to_string())).unwrap(), Some(cursor));
        assert_eq!(resumed(&with("17")).unwrap_err().code(), ErrorCode::InvalidCursor);
    }
}
