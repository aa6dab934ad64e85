//! Fetch from one partition: JSON, NDJSON, raw batches, cacheable ranges; following is `follow`.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tidelog::model::{FetchFrom, FetchPage, FetchRequest, TopicId};
use tidelog_api::fetch::FetchResponse;
use tidelog_api::{ErrorBody, headers, limits};
use xxhash_rust::xxh3::xxh3_128;

use super::{answer, follow, number, offload, pieces};
use crate::app::App;
use crate::consistency::Consistency;
use crate::error::{ApiError, Result};
use crate::held::held;
use crate::negotiate::{Media, negotiate};
use crate::params::{Params, PartitionPath};
use crate::render::batch::batches;
use crate::render::page::{chunk_bytes, json_body, ndjson_lines, stored_bytes};
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
    let wait = query.wait;
    let request = query.request(&path)?;
    let cacheable = request.end.is_some();
    let page = fetch_until_drain(&app, request, (wait, query.consistency))
        .await
        .map_err(|error| error.about_topic(&path.topic))?;
    let page = Arc::new(page);
    let shape = query.values.unwrap_or_else(|| Shape::of(page.topic.settings.value_format));
    let (response, next) = render(&page, path.partition, shape, media, cacheable).await?;
    // What is in the body is the page's bytes, or about as many.
    let mut response = response.map(|body| held(&app, body, vec![page.hold.clone()]));
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

    fn request(&self, path: &PartitionPath) -> Result<FetchRequest> {
        Ok(FetchRequest {
            topic: path.topic.clone(),
            topic_id: self.topic_id,
            partition: path.partition,
            from: self.from,
            end: self.end,
            max_records: self.max_records,
            max_bytes: self.max_bytes,
            // What is below the flushed offset is there or never will be.
            wait: if self.end.is_some() { Duration::ZERO } else { self.wait },
        })
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
    (wait, consistency): (Duration, Consistency),
) -> Result<FetchPage> {
    if wait.is_zero() {
        return Ok(consistency.fetch(app.queue(), request).await?);
    }
    let now = FetchRequest { wait: Duration::ZERO, ..request.clone() };
    tokio::select! {
        biased;
        page = consistency.fetch(app.queue(), request) => Ok(page?),
        () = app.lifecycle().waits_ended() => Ok(consistency.fetch(app.queue(), now).await?),
    }
}

/// The page in `media`, and where to go on.
async fn render(
    page: &Arc<FetchPage>,
    partition: u32,
    shape: Shape,
    media: Media,
    cacheable: bool,
) -> Result<(Response, u64)> {
    match media {
        Media::Ndjson => {
            let mut response =
                answer(StatusCode::OK, media, Body::from_stream(lines(Arc::clone(page), partition, shape)));
            put_bounds(response.headers_mut(), page, page.next_offset, cacheable);
            Ok((response, page.next_offset))
        }
        Media::Batch => {
            let from = Arc::clone(page);
            let (bytes, next) = offload(stored_bytes(page), move || Ok(batches(&from)?)).await?;
            let mut response = answer(StatusCode::OK, media, pieces(bytes));
            put_bounds(response.headers_mut(), page, next, cacheable);
            Ok((response, next))
        }
        _ => {
            let from = Arc::clone(page);
            let work = move || Ok(json_body(&from, partition, shape, !cacheable)?);
            let (body, next) = offload(stored_bytes(page), work).await?;
            Ok((answer(StatusCode::OK, Media::Json, Body::from(body)), next))
        }
    }
}

/// The page as lines, a chunk at a time; an error ends the stream without its end, so that no reader takes it for whole.
fn lines(
    page: Arc<FetchPage>,
    partition: u32,
    shape: Shape,
) -> impl futures::Stream<Item = Result<Bytes, axum::BoxError>> {
    stream::unfold((page, 0), move |(page, index)| async move {
        let chunk = page.chunks.get(index)?;
        let bytes = chunk_bytes(chunk);
        let from = Arc::clone(&page);
        let rendered = offload(bytes, move || Ok(ndjson_lines(&from, index, partition, shape)?)).await;
        let item = rendered.map(Bytes::from).map_err(|error| axum::BoxError::from(error.message().to_owned()));
        // After an error nothing more is rendered.
        let next = if item.is_ok() { index + 1 } else { usize::MAX };
        Some((item, (page, next)))
    })
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
