//! The events of a stream as text. JSON of ours has no line breaks, so each is one `data:` line.

use std::fmt::Write as _;

use tidelog::model::FetchPage;

use crate::error::{ApiError, Result};
use crate::render::page::{Place, Side, push_piece, push_places};
use crate::render::record::Shape;
use crate::walk::Walk;

/// What comes at once, before anything was read: a comment, so that proxies pass the headers on, and the pause before a
/// reconnection.
pub(super) fn hello() -> String {
    ": tidelog\nretry: 1000\n\n".to_owned()
}

/// Sent when the server is drained: come back, elsewhere.
pub(super) fn reconnect() -> String {
    "event: reconnect\ndata: {}\n\n".to_owned()
}

/// The body of an error; the stream ends after it.
pub(super) fn failure(error: &ApiError, request_id: &str) -> String {
    let body = serde_json::to_string(&error.body(request_id, true)).unwrap_or_default();
    format!("event: failure\ndata: {body}\n\n")
}

/// Positions and bounds.
pub(super) fn ping(walk: &Walk) -> String {
    let mut out = "event: ping\ndata: {\"partitions\":".to_owned();
    push_places(&mut out, walk.places());
    out.push_str("}\n\n");
    out
}

/// Records of a page from a place on, each with the cursor after it as its id, and where the next ones begin; and the walk
/// moved over them.
pub(super) fn records(
    mut walk: Walk,
    partition: u32,
    page: &FetchPage,
    at: Place,
    shape: Shape,
) -> Result<((String, Option<Place>), Walk)> {
    let piece = push_piece(page, at, partition, shape, |out, offset, side| match side {
        Side::Before => {
            walk.advance(partition, offset + 1);
            // Writing to a string cannot fail.
            let _ = write!(out, "event: record\nid: {}\ndata: ", walk.cursor());
        }
        Side::After => out.push_str("\n\n"),
    })?;
    Ok((piece, walk))
}

#[cfg(test)]
mod tests {
    use tidelog_api::ErrorCode;

    use super::*;

    #[test]
    fn events_are_blocks_that_end_with_an_empty_line() {
        let error = ApiError::new(ErrorCode::TopicReplaced, "line\nbreak");
        for text in [hello(), reconnect(), failure(&error, "r1")] {
            assert!(text.ends_with("\n\n") && !text[..text.len() - 2].contains("\n\n"), "{text:?}");
        }
        assert!(failure(&error, "r1").contains(r#"data: {"error":{"code":"topic_replaced""#));
    }
}
