//! One module for each resource: take the request apart, call the queue, render the answer. No decisions live here that
//! the engine would have to repeat.

pub(crate) mod admin;
pub(crate) mod all;
pub(crate) mod archive;
pub(crate) mod call;
pub(crate) mod cluster;
pub(crate) mod cost;
pub(crate) mod fetch;
pub(crate) mod follow;
pub(crate) mod health;
pub(crate) mod jobs;
mod lines;
pub(crate) mod produce;
pub(crate) mod producers;
pub(crate) mod topics;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::error::{ApiError, Result};
use crate::negotiate::Media;

/// Work on more bytes than this leaves the thread that serves other requests.
const INLINE_BYTES: usize = 64 << 10;

/// An answer with a JSON body.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Result<Response> {
    let body = serde_json::to_vec(body).map_err(|error| {
        ApiError::from(tidelog::error::Error::internal("an answer cannot be written").with_source(error))
    })?;
    Ok(answer(status, Media::Json, Body::from(body)))
}

/// An answer with a body.
pub(crate) fn answer(status: StatusCode, media: Media, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media.as_str()));
    response
}

/// Runs `work` over about `bytes` bytes, on a thread that may block if they are many.
pub(crate) async fn offload<T, F>(bytes: usize, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    if bytes <= INLINE_BYTES {
        return work();
    }
    let joined = tidelog::blocking::spawn(work).await;
    joined.map_err(|error| ApiError::from(tidelog::error::Error::internal("a worker failed").with_source(error)))?
}

/// A number as a header value.
pub(crate) fn number(value: u64) -> HeaderValue {
    HeaderValue::from(value)
}

/// A body of known pieces.
pub(crate) fn pieces(pieces: Vec<Bytes>) -> Body {
    let length = pieces.iter().map(Bytes::len).sum();
    Body::new(Pieces { pieces: pieces.into_iter(), left: length })
}

/// Pieces of known length, so that the answer has a `Content-Length` though it was never joined.
struct Pieces {
    pieces: std::vec::IntoIter<Bytes>,
    left: usize,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let piece = self.pieces.next();
        self.left -= piece.as_ref().map_or(0, Bytes::len);
        std::task::Poll::Ready(piece.map(|piece| Ok(http_body::Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left as u64)
    }
}
