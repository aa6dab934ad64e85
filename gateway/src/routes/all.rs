//! Fetch from all partitions of a topic, by cursor.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode};
use tidelog::model::{FetchFrom, FetchPage, Hold, TopicId};
use tidelog_api::fetch::FetchAllResponse;
use tidelog_api::{Cursor, ErrorBody, ErrorCode, headers, limits};

use super::lines::{self, Part};
use super::{answer, follow, offload};
use crate::app::App;
use crate::consistency::Consistency;
use crate::context::Waits;
use crate::error::{ApiError, Result};
use crate::held::{held, hold_rest};
use crate::negotiate::{Media, negotiate};
use crate::params::{Params, TopicName, parse_number};
use crate::render::page::{push_list, push_places, stored_bytes, trim};
use crate::render::record::Shape;
use crate::server::ConnectionEnd;
use crate::walk::{Budget, Selection, Start, Walk};

/// Read records of all partitions, each in order, no order between them
#[utoipa::path(get, path = "/v1/topics/{topic}/records", tag = "records",
    params(("topic" = String, Path),
        ("from" = Option<String>, Query, description = "earliest (default), latest or a timestamp; without cursor"),
        ("partitions" = Option<String>, Query, description = "0-99,120; absent: all, and new ones as they come"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
        ("max_records" = Option<usize>, Query), ("max_bytes" = Option<usize>, Query), ("wait_ms" = Option<u64>, Query),
        ("values" = Option<String>, Query), ("topic_id" = Option<String>, Query),
        ("consistency" = Option<String>, Query, description = "linearizable or any: what the node itself knows")),
    responses(
        (status = 200, description = "Also application/x-ndjson, text/event-stream", body = FetchAllResponse),
        (status = "default", description = "410 has details.cursor, which continues at the log starts", body = ErrorBody)))]
pub(crate) async fn all(
    State(app): State<App>,
    TopicName(topic): TopicName,
    mut params: Params,
    headers: HeaderMap,
    until: Option<Extension<ConnectionEnd>>,
) -> Result<Response> {
    let until = until.map(|Extension(end)| end);
    let media = negotiate(&headers, &[Media::Json, Media::Ndjson, Media::Events])?;
    let query = Query::take(&mut params)?;
    params.finish()?;
    if media == Media::Events {
        return follow::all(app, topic, query, (&headers, until)).await;
    }
    let mut walk = Walk::begin(&app, &topic, query.topic_id, (&query.start, query.consistency)).await?;
    let mut pages = walk.round(&app, query.budget).await?;
    if pages.is_empty() && !query.wait.is_zero() {
        tokio::select! {
            biased;
            () = walk.wait(app.queue(), query.wait) => {}
            () = app.lifecycle().waits_ended() => {}
        }
        pages = walk.round(&app, query.budget).await?;
    }
    let mut holds: Vec<Hold> = pages.iter().map(|(_, page)| page.hold.clone()).collect();
    let mut response = match media {
        Media::Ndjson => as_lines(&app, walk, pages, query.values).await?,
        _ => {
            let stored = pages.iter().map(|(_, page)| stored_bytes(page)).sum();
            let body = offload(stored, move || json_body(walk, &pages, query.values)).await?;
            holds.extend(hold_rest(&app, body.len(), stored).await?);
            answer(StatusCode::OK, Media::Json, Body::from(body))
        }
    };
    if !query.wait.is_zero() {
        response.extensions_mut().insert(Waits(query.wait));
    }
    Ok(response.map(|body| held(&app, body, holds)))
}

/// The query of a fetch from all partitions.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) topic_id: Option<TopicId>,
    pub(crate) start: Start,
    pub(crate) budget: Budget,
    pub(crate) wait: Duration,
    pub(crate) values: Option<Shape>,
    pub(crate) consistency: Consistency,
}

impl Query {
    fn take(params: &mut Params) -> Result<Self> {
        Ok(Self {
            topic_id: params.topic_id()?,
            start: take_start(params)?,
            budget: Budget {
                records: params.at_most("max_records", limits::DEFAULT_FETCH_RECORDS, limits::MAX_FETCH_RECORDS)?,
                bytes: params.at_most("max_bytes", limits::DEFAULT_FETCH_BYTES, limits::MAX_FETCH_BYTES)?,
            },
            wait: params.millis("wait_ms", 0, limits::MAX_WAIT_MS)?,
            values: Shape::take(params)?,
            consistency: Consistency::take(params)?,
        })
    }
}

fn take_start(params: &mut Params) -> Result<Start> {
    let from = params.text("from");
    let partitions = params.text("partitions");
    if let Some(text) = params.text("cursor") {
        if from.is_some() || partitions.is_some() {
            return Err(ApiError::parameter(
                "cursor",
                "a cursor says where to go on: from and partitions go without it",
            ));
        }
        return parse_cursor(&text).map(Start::Cursor);
    }
    let from = match from.as_deref() {
        None | Some("earliest") => FetchFrom::Earliest,
        Some("latest") => FetchFrom::Latest,
        Some(text) => FetchFrom::Timestamp(parse_number("from", text)?.cast_signed()),
    };
    let selection = partitions.map_or(Ok(Selection::All), |text| Selection::parse(&text))?;
    Ok(Start::At(from, selection))
}

/// Reads a cursor; it may still be of another topic.
pub(crate) fn parse_cursor(text: &str) -> Result<Cursor> {
    text.parse().map_err(|_| ApiError::new(ErrorCode::InvalidCursor, "the cursor is garbled or of another version"))
}

fn shape_of(page: &FetchPage, values: Option<Shape>) -> Shape {
    values.unwrap_or_else(|| Shape::of(page.topic.settings.value_format))
}

fn json_body(mut walk: Walk, pages: &[(u32, FetchPage)], values: Option<Shape>) -> Result<String> {
    let bytes: usize = pages.iter().map(|(_, page)| stored_bytes(page)).sum();
    let mut out = String::with_capacity(1_024 + bytes * 2);
    out.push_str("{\"topic_id\":\"");
    out.push_str(&walk.topic_id().to_string());
    out.push_str("\",\"records\":[");
    let mut first = true;
    for (partition, page) in pages {
        let next = push_list(&mut out, page, *partition, shape_of(page, values), first)?;
        first &= next == page.start;
        walk.advance(*partition, next);
        if next < page.next_offset {
            // The body is full; what follows stays for the next page.
            break;
        }
    }
    out.push_str("],\"next_cursor\":\"");
    out.push_str(&walk.cursor());
    out.push_str("\",\"partitions\":");
    push_places(&mut out, walk.places());
    out.push('}');
    trim(&mut out, bytes);
    Ok(out)
}

/// The pages as lines; the cursor is the plan, for whoever got all lines.
async fn as_lines(app: &App, mut walk: Walk, pages: Vec<(u32, FetchPage)>, values: Option<Shape>) -> Result<Response> {
    for (partition, page) in &pages {
        walk.advance(*partition, page.next_offset);
    }
    let part = |(partition, page)| Part { partition, shape: shape_of(&page, values), page: Arc::new(page) };
    let body = lines::body(app, pages.into_iter().map(part).collect()).await?;
    let mut response = answer(StatusCode::OK, Media::Ndjson, body);
    for (name, value) in [(headers::TOPIC_ID, walk.topic_id().to_string()), (headers::NEXT_CURSOR, walk.cursor())] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn start(text: &str) -> Result<Start> {
        take_start(&mut Params::parse(text)?)
    }

    #[test]
    fn a_cursor_stands_alone() {
        let cursor = Cursor { topic_id: uuid::Uuid::nil(), incarnation: 1, all: true, positions: vec![(0, 3)] };
        assert!(matches!(start(&format!("cursor={cursor}")), Ok(Start::Cursor(read)) if read == cursor));
        assert!(start(&format!("cursor={cursor}&from=latest")).is_err());
        assert_eq!(start("cursor=abc").unwrap_err().code(), ErrorCode::InvalidCursor);
    }

    #[test]
    fn a_reader_begins_early_late_or_at_a_time() {
        assert!(matches!(start(""), Ok(Start::At(FetchFrom::Earliest, Selection::All))));
        assert!(matches!(start("from=latest"), Ok(Start::At(FetchFrom::Latest, Selection::All))));
        let at = start("from=1700000000000&partitions=2").unwrap();
        assert!(matches!(at, Start::At(FetchFrom::Timestamp(1_700_000_000_000), Selection::Some(some)) if some == [2]));
        assert!(start("from=yesterday").is_err());
    }
}
