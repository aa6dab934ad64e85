//! Pages as lines of NDJSON, a piece at a time: what a few stored bytes hold may be many times as long as lines, and whatever
//! was rendered waits in memory for its client.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tidelog::model::FetchPage;

use super::offload;
use crate::app::App;
use crate::error::Result;
use crate::held::Rest;
use crate::render::page::{Place, chunk_bytes, ndjson_lines, stored_bytes};
use crate::render::record::Shape;

/// A page of a partition, and how its values are shown.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) partition: u32,
    pub(super) page: Arc<FetchPage>,
    pub(super) shape: Shape,
}

/// The parts one after the other. What goes wrong after the first piece ends the body without its end, so that no reader takes it
/// for whole.
///
/// # Errors
/// Those of the first piece, `overloaded` among them.
pub(super) async fn body(app: &App, parts: Vec<Part>) -> Result<Body> {
    let mut lines = Lines { app: app.clone(), parts: parts.into(), at: (0, 0), rest: Rest::default() };
    let Some(first) = lines.next().await? else { return Ok(Body::empty()) };
    let others = stream::try_unfold(lines, async |mut lines| {
        let next = lines.next().await.map_err(|error| axum::BoxError::from(error.message().to_owned()))?;
        Ok::<_, axum::BoxError>(next.map(|piece| (piece, lines)))
    });
    Ok(Body::from_stream(stream::iter([Ok(first)]).chain(others)))
}

struct Lines {
    app: App,
    /// What is not rendered to its end.
    parts: VecDeque<Part>,
    /// Where in the first of them the next piece begins.
    at: Place,
    /// For one piece at a time: the next one is asked for once that before is sent.
    rest: Rest,
}

impl Lines {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(part) = self.parts.front() {
            let bytes = part.page.chunks.get(self.at.0).map_or(0, chunk_bytes);
            let stored = stored_bytes(&part.page);
            let (part, at) = (part.clone(), self.at);
            let work = move || Ok(ndjson_lines(&part.page, at, part.partition, part.shape)?);
            let (text, next) = offload(bytes, work).await?;
            if next.is_none() {
                self.parts.pop_front();
            }
            self.at = next.unwrap_or_default();
            if !text.is_empty() {
                // The page is here as well as its lines.
                self.rest.hold(&self.app, stored + text.len(), stored).await?;
                return Ok(Some(Bytes::from(text)));
            }
        }
        Ok(None)
    }
}
