//! Fetch from one partition: JSON, NDJSON, raw batches, cacheable ranges; following is `follow`.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tidelog::model::{FetchFrom, FetchPage, FetchRequest, Hold, TopicId};
use tidelog_api::fetch::FetchResponse;
use tidelog_api::{ErrorBody, ErrorCode, headers, limits};
use xxhash_rust::xxh3::xxh3_128;

use super::lines::{self, Part};
use super::{answer, follow, number, offload, pieces};
use crate::app::App;
use crate::consistency::Consistency;
use crate::context::Waits;
use crate::error::{ApiError, Result};
use crate::held::{held, hold_rest};
use crate::negotiate::{Media, negotiate};
use crate::params::{Params, PartitionPath};
use crate::render::batch::batches;
use crate::render::page::{json_body, stored_bytes};
use crate::render::record::Shape;
use crate::server::ConnectionEnd;

/// How long a browser or a proxy may keep a range that cannot change.
const CACHEABLE: HeaderValue = HeaderValue::from_static("private, max-age=3600");
const VARY: HeaderValue = HeaderValue::from_static("Accept, Accept-Encoding, Authorization");

/// Read records of one partition
#[utoipa::path(get, path = "/v1/topics/{topic}/partitions/{partition}/records", tag = "records",
    params(("topic" = String, Path), ("partition" = u32, Path),
        ("offset" = Option<String>, Query, description = "A number, earliest (default) or latest"),
        ("timestamp" = Option<i64>, Query, description = "From the lowest offset whose timestamp is at least this"),
        ("tail" = Option<u64>, Query, description = "The last n records"),
        ("end" = Option<u64>, Query, description = "With topic_id and a number as offset: a cacheable range"),
        ("max_records" = Option<usize>, Query, description = "Default 1000, at most 10,000"),
        ("max_bytes" = Option<usize>, Query, description = "Stored bytes; default 1 MiB, at most 16 MiB"),
        ("wait_ms" = Option<u64>, Query, description = "Wait for the first record, at most 30,000"),
        ("values" = Option<String>, Query, description = "json, text or base64"),
        ("consistency" = Option<String>, Query, description = "linearizable or any: what the node itself knows"),
        ("topic_id" = Option<String>, Query)),
    responses(
        (status = 200, description = "Also application/x-ndjson, application/vnd.tidelog.batch, text/event-stream", body = FetchResponse),
        (status = 304, description = "The cacheable range is the one in If-None-Match"),
        (status = "default", body = ErrorBody)))]
pub(crate) async fn partition(
    State(app): State<App>,
    path: PartitionPath,
    mut params: Params,
    headers: HeaderMap,
    until: Option<Extension<ConnectionEnd>>,
) -> Result<Response> {
    let until = until.map(|Extension(end)| end);
    let media = negotiate(&headers, &[Media::Json, Media::Ndjson, Media::Batch, Media::Events])?;
    let query = Query::take(&mut params)?;
    params.finish()?;
    if media == Media::Events {
        return follow::partition(app, path, query, (&headers, until)).await;
    }
    let request = query.request(&path);
    let cacheable = request.end.is_some();
    let page = fetch_until_drain(&app, request, query.consistency).await;
    let page = Arc::new(page.map_err(|error| ApiError::from(error).about_topic(&path.topic))?);
    let shape = query.values.unwrap_or_else(|| Shape::of(page.topic.settings.value_format));
    let part = Part { partition: path.partition, page: Arc::clone(&page), shape };
    let Rendered { response, next, rest } = render(&app, part, media, cacheable).await?;
    // What is in the body is the page's bytes, or about as many, and the rest.
    let holds = rest.into_iter().chain([page.hold.clone()]).collect();
    let mut response = response.map(|body| held(&app, body, holds));
    if !query.wait.is_zero() {
        response.extensions_mut().insert(Waits(query.wait));
    }
    if cacheable {
        cache(&mut response, &headers, &page, (path.partition, next), (media, shape));
    }
    Ok(response)
}

/// The query of a fetch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query {
    pub(crate) topic_id: Option<TopicId>,
    pub(crate) from: FetchFrom,
    pub(crate) end: Option<u64>,
    pub(crate) max_records: usize,
    pub(crate) max_bytes: usize,
    pub(crate) wait: Duration,
    pub(crate) values: Option<Shape>,
    pub(crate) consistency: Consistency,
}

impl Query {
    fn take(params: &mut Params) -> Result<Self> {
        let query = Self {
            topic_id: params.topic_id()?,
            from: take_from(params)?,
            end: params.number("end")?,
            max_records: params.at_most("max_records", limits::DEFAULT_FETCH_RECORDS, limits::MAX_FETCH_RECORDS)?,
            max_bytes: params.at_most("max_bytes", limits::DEFAULT_FETCH_BYTES, limits::MAX_FETCH_BYTES)?,
            wait: params.millis("wait_ms", 0, limits::MAX_WAIT_MS)?,
            values: Shape::take(params)?,
            consistency: Consistency::take(params)?,
        };
        let Some(end) = query.end else { return Ok(query) };
        match (query.from, query.topic_id) {
            (FetchFrom::Offset(start), Some(_)) if start <= end => Ok(query),
            _ => Err(ApiError::parameter(
                "end",
                "end goes with topic_id and an offset that is a number and not above it",
            )),
        }
    }

    fn request(&self, path: &PartitionPath) -> FetchRequest {
        FetchRequest {
            topic: path.topic.clone(),
            topic_id: self.topic_id,
            partition: path.partition,
            from: self.from,
            end: self.end,
            max_records: self.max_records,
            max_bytes: self.max_bytes,
            // What is below the flushed offset is there or never will be.
            wait: if self.end.is_some() { Duration::ZERO } else { self.wait },
        }
    }
}

fn take_from(params: &mut Params) -> Result<FetchFrom> {
    let offset = params.text("offset");
    let timestamp = params.timestamp("timestamp")?;
    let tail = params.number("tail")?;
    match (offset.as_deref(), timestamp, tail) {
        (None | Some("earliest"), None, None) => Ok(FetchFrom::Earliest),
        (Some("latest"), None, None) => Ok(FetchFrom::Latest),
        (Some(text), None, None) => Ok(FetchFrom::Offset(crate::params::parse_number("offset", text)?)),
        (None, Some(timestamp), None) => Ok(FetchFrom::Timestamp(timestamp)),
        (None, None, Some(count)) => Ok(FetchFrom::Tail(count)),
        _ => Err(ApiError::parameter("offset", "a fetch begins at one of offset, timestamp and tail")),
    }
}

/// Fetches; a drain ends the waiting with an empty page.
async fn fetch_until_drain(
    app: &App,
    request: FetchRequest,
    consistency: Consistency,
) -> tidelog::error::Result<FetchPage> {
    let (from, wait) = (request.from, request.wait);
    let fetch = |from, wait| consistency.fetch(app.queue(), FetchRequest { from, wait, ..request.clone() });
    fetch_from((from, wait), fetch, app.lifecycle().waits_ended()).await
}

/// Waits for the first record from `from` on, until it is `over`. Where `latest` and its like begin is found once: what comes
/// while the page is waited for comes after it.
async fn fetch_from<F>(
    (from, wait): (FetchFrom, Duration),
    fetch: impl Fn(FetchFrom, Duration) -> F,
    over: impl Future<Output = ()>,
) -> tidelog::error::Result<FetchPage>
where
    F: Future<Output = tidelog::error::Result<FetchPage>>,
{
    if wait.is_zero() {
        return fetch(from, wait).await;
    }
    let (start, empty) = match from {
        FetchFrom::Offset(_) => (from, None),
        _ => {
            let page = fetch(from, Duration::ZERO).await?;
            if page.next_offset > page.start {
                return Ok(page);
            }
            (FetchFrom::Offset(page.start), Some(page))
        }
    };
    let waited = tokio::select! {
        biased;
        page = fetch(start, wait) => page,
        () = over => match empty {
            Some(page) => return Ok(page),
            None => fetch(start, Duration::ZERO).await,
        },
    };
    match waited {
        // What was found before a trim goes on at the log start.
        Err(error) if start != from && error.code() == ErrorCode::OffsetExpired.as_str() => {
            fetch(FetchFrom::Earliest, Duration::ZERO).await
        }
        waited => waited,
    }
}

/// An answer before it is known what holds its memory.
struct Rendered {
    response: Response,
    /// Where to go on.
    next: u64,
    /// What it holds besides its page's share.
    rest: Option<Hold>,
}

/// The page in `media`.
async fn render(app: &App, part: Part, media: Media, cacheable: bool) -> Result<Rendered> {
    let page = Arc::clone(&part.page);
    let stored = stored_bytes(&page);
    let (body, next, rest) = match media {
        // It holds what it needs as it goes.
        Media::Ndjson => (lines::body(app, vec![part]).await?, page.next_offset, None),
        Media::Batch => {
            let (bytes, next) = offload(stored, move || Ok(batches(&part.page)?)).await?;
            let rest = hold_rest(app, bytes.iter().map(Bytes::len).sum(), stored).await?;
            (pieces(bytes), next, rest)
        }
        _ => {
            let work = move || Ok(json_body(&part.page, part.partition, part.shape, !cacheable)?);
            let (text, next) = offload(stored, work).await?;
            let rest = hold_rest(app, text.len(), stored).await?;
            (Body::from(text), next, rest)
        }
    };
    let mut response = answer(StatusCode::OK, media, body);
    if media != Media::Json {
        put_bounds(response.headers_mut(), &page, next, cacheable);
    }
    Ok(Rendered { response, next, rest })
}

fn put_bounds(to: &mut HeaderMap, page: &FetchPage, next: u64, cacheable: bool) {
    if let Ok(id) = HeaderValue::from_str(&page.topic.id.to_string()) {
        to.insert(headers::TOPIC_ID, id);
    }
    to.insert(headers::NEXT_OFFSET, number(next));
    if !cacheable {
        to.insert(headers::LOG_START_OFFSET, number(page.bounds.log_start));
        to.insert(headers::FLUSHED_OFFSET, number(page.bounds.flushed));
        to.insert(headers::HIGH_WATERMARK, number(page.bounds.high_watermark));
        to.insert(headers::LAST_STABLE_OFFSET, number(page.bounds.high_watermark));
    }
}

/// Makes an answer cacheable, and empty if the client has it.
///
/// The tag names the range and its form, which decide the bytes but for compression: hence a weak one.
fn cache(
    response: &mut Response,
    headers: &HeaderMap,
    page: &FetchPage,
    (partition, next): (u32, u64),
    (media, shape): (Media, Shape),
) {
    let name = format!("{}/{partition}/{}-{next}/{}/{shape:?}", page.topic.id, page.start, media.as_str());
    let Ok(tag) = HeaderValue::from_str(&format!("W/\"{:032x}\"", xxh3_128(name.as_bytes()))) else { return };
    if is_held(headers, &tag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
    let to = response.headers_mut();
    to.insert(header::ETAG, tag);
    to.insert(header::CACHE_CONTROL, CACHEABLE);
    to.insert(header::VARY, VARY);
}

/// Whether `If-None-Match` has the tag, compared weakly.
fn is_held(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let opaque = |text: &str| text.trim().trim_start_matches("W/").to_owned();
    let tag = tag.to_str().map(opaque).unwrap_or_default();
    let held = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    held.flat_map(|value| value.split(',')).any(|held| held.trim() == "*" || opaque(held) == tag)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn query(text: &str) -> Result<Query> {
        let mut params = Params::parse(text)?;
        let query = Query::take(&mut params)?;
        params.finish()?;
        Ok(query)
    }

    #[test]
    fn a_fetch_begins_in_one_place() {
        for (text, from) in [
            ("", FetchFrom::Earliest),
            ("offset=earliest", FetchFrom::Earliest),
            ("offset=latest", FetchFrom::Latest),
            ("offset=7", FetchFrom::Offset(7)),
            ("timestamp=5", FetchFrom::Timestamp(5)),
            ("tail=3", FetchFrom::Tail(3)),
        ] {
            assert_eq!(query(text).unwrap().from, from, "{text}");
        }
        for bad in [
            "offset=1&tail=2",
            "timestamp=1&tail=2",
            "offset=x",
            "offset=-1",
            "max_records=0",
            "max_bytes=99999999",
            "values=xml",
        ] {
            assert!(query(bad).is_err(), "{bad}");
        }
        assert_eq!(query("wait_ms=999999").unwrap().wait, Duration::from_secs(30));
    }

    fn page(start: u64, next_offset: u64) -> FetchPage {
        let topic = tidelog::model::Topic {
            id: TopicId(uuid::Uuid::nil()),
            name: "t".to_owned(),
            namespace: "default".to_owned(),
            settings: tidelog::model::TopicSettings::default(),
            created_at: 0,
            deleted_at: None,
        };
        let (chunks, bounds) = (Vec::new(), tidelog::model::Bounds::default());
        FetchPage { topic: Arc::new(topic), start, next_offset, chunks, bounds, hold: Hold::default() }
    }

    /// Start and end of the page, and what was fetched for it and whether that waited. What `waiting` is `None` for never comes.
    async fn fetched(
        from: FetchFrom,
        first: (u64, u64),
        waiting: Option<tidelog::error::Error>,
    ) -> ((u64, u64), Vec<(FetchFrom, bool)>) {
        let (calls, waiting) = (std::cell::RefCell::default(), std::cell::Cell::new(waiting));
        let fetch = |from, wait: Duration| {
            let calls: &std::cell::RefCell<Vec<_>> = &calls;
            calls.borrow_mut().push((from, !wait.is_zero()));
            let failure = if wait.is_zero() { None } else { waiting.take() };
            async move {
                match failure {
                    Some(error) => Err(error),
                    None if wait.is_zero() => Ok(page(first.0, first.1)),
                    None => std::future::pending().await,
                }
            }
        };
        let page = fetch_from((from, Duration::from_secs(30)), fetch, std::future::ready(())).await.unwrap();
        ((page.start, page.next_offset), calls.take())
    }

    #[tokio::test]
    async fn a_drain_does_not_find_anew_where_latest_begins() {
        let begin = FetchFrom::Offset(5);
        for named in [FetchFrom::Latest, FetchFrom::Tail(3), FetchFrom::Timestamp(7)] {
            let (page, calls) = fetched(named, (5, 5), None).await;
            assert_eq!((page, calls), ((5, 5), vec![(named, false), (begin, true)]));
            let (page, calls) = fetched(named, (5, 9), None).await;
            assert_eq!((page, calls), ((5, 9), vec![(named, false)]), "there is nothing to wait for");
        }
        let (page, calls) = fetched(begin, (5, 5), None).await;
        assert_eq!((page, calls), ((5, 5), vec![(begin, true), (begin, false)]));
    }

    #[tokio::test]
    async fn a_trim_during_the_wait_moves_latest_and_not_an_offset() {
        let expired =
            || Some(tidelog::error::Error::new(tidelog::error::ErrorKind::OutOfRange, "offset_expired", "gone"));
        let (page, calls) = fetched(FetchFrom::Latest, (5, 5), expired()).await;
        let begun = [(FetchFrom::Latest, false), (FetchFrom::Offset(5), true), (FetchFrom::Earliest, false)];
        assert_eq!((page, calls), ((5, 5), begun.to_vec()));
        let fetch = |_, _| std::future::ready(Err(expired().unwrap()));
        let offset = fetch_from((FetchFrom::Offset(5), Duration::from_secs(30)), fetch, std::future::pending()).await;
        assert_eq!(offset.unwrap_err().code(), "offset_expired");
    }

    #[test]
    fn a_cacheable_range_is_of_one_topic_and_between_numbers() {
        let id = "topic_id=00000000-0000-0000-0000-000000000001";
        assert_eq!(query(&format!("{id}&offset=1&end=5")).unwrap().end, Some(5));
        for bad in [
            format!("{id}&end=5"),
            "offset=1&end=5".to_owned(),
            format!("{id}&offset=6&end=5"),
            format!("{id}&tail=1&end=5"),
        ] {
            assert!(query(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_are_compared_weakly() {
        let tag = HeaderValue::from_static("W/\"a\"");
        let held = |value: &'static str| {
            is_held(&HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(value))]), &tag)
        };
        assert!(held("W/\"a\"") && held("\"a\"") && held("\"b\", W/\"a\"") && held("*"));
        assert!(!held("\"b\"") && !is_held(&HeaderMap::new(), &tag));
    }
}
