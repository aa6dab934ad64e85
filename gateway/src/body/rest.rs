//! What a handler left unread of a request's body.
//!
//! A connection that is closed with unread bytes is reset, and the reset can overtake the answer: the client would see a
//! broken pipe and not the 413, 422 or 503. So before a refusal is sent the rest of the body is read, within bounds.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;

/// Bytes that are read and thrown away at most; twice what a body may have.
const MAX_DISCARDED: usize = 32 << 20;
/// How long a client may take for them.
const MAX_TIME: Duration = Duration::from_secs(5);

/// A body that can be taken up where a handler left it.
pub(crate) struct Shared(Arc<Mutex<Body>>);

/// Splits `body` for a handler and for what it leaves.
pub(crate) fn split(body: Body) -> (Body, Shared) {
    let shared = Arc::new(Mutex::new(body));
    (Body::new(Shared(Arc::clone(&shared))), Shared(shared))
}

/// Reads and drops what is left of a body. Not for a client that waits to be asked for its body: reading would ask.
pub(crate) async fn discard(mut body: impl http_body::Body<Data = Bytes> + Unpin) {
    if body.is_end_stream() {
        return;
    }
    let discard = async {
        let mut left = MAX_DISCARDED;
        while let Some(Ok(frame)) = body.frame().await {
            let len = frame.data_ref().map_or(0, Bytes::len);
            if len >= left {
                return;
            }
            left -= len;
        }
    };
    // Whoever is too slow gets the answer all the same, if it can.
    let _ = tokio::time::timeout(MAX_TIME, discard).await;
}

impl Shared {
    fn with<T>(&self, work: impl FnOnce(Pin<&mut Body>) -> T) -> T {
        // One of the two ends is used at a time, so nobody waits; a panic elsewhere leaves a body as good as before.
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(Pin::new(&mut body))
    }
}

impl http_body::Body for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.with(|body| body.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.with(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|body| body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use futures::StreamExt as _;

    /// A body of three chunks that counts those taken.
    fn counted() -> (Body, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        let chunks = futures::stream::iter([b"a", b"b", b"c"]).map(move |chunk| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from_static(chunk))
        });
        (Body::from_stream(chunks), taken)
    }

    #[tokio::test]
    async fn what_a_handler_left_is_read_to_its_end() {
        let (body, taken) = counted();
        let (mut body, rest) = split(body);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
        drop(body);
        discard(rest).await;
        assert_eq!(taken.load(Ordering::Relaxed), 3);
    }
}
