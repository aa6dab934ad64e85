//! Bodies of answers that hold memory: handed out in slices, and dropped when their client leaves them unread.
//!
//! A server takes as much of a body as its buffers have room for, in HTTP/1 and HTTP/2 alike, so a body that is not asked
//! for its next slice has a client that does not read. The rest of it, and the budget that it holds, is let go after
//! `http.write_timeout`, and sooner while memory for pages is scarce: then those who read come first.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tidelog::model::Hold;
use tokio::time::Instant;

use crate::app::App;
use crate::error::Result as ApiResult;

/// What is handed out at a time; less than this within the limit is not reading.
const SLICE: usize = 256 << 10;
/// How often a body is looked at.
const TICK: Duration = Duration::from_millis(500);

/// How long a client may leave an answer unread; cheap to clone.
#[derive(Clone)]
pub(crate) struct Patience(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Patience {
    /// What `limit` says at the time.
    pub(crate) fn new(limit: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(limit))
    }

    /// The limit as of now.
    pub(crate) fn limit(&self) -> Duration {
        (self.0)()
    }
}

/// See the module.
struct HeldBody(Arc<Mutex<State>>);

struct State {
    /// `None` once the client was given up.
    rest: Option<Unsent>,
    /// Since when the client could have taken more; `None` while it waits for us.
    unread: Option<Instant>,
    watched: bool,
    patience: Patience,
}

struct Unsent {
    slices: Bytes,
    body: Body,
    _holds: Vec<Hold>,
}

/// A body over `body` that keeps `holds` until it was sent.
pub(crate) fn held(app: &App, body: Body, holds: Vec<Hold>) -> Body {
    // The server takes a small one at once.
    if body.size_hint().exact().is_some_and(|bytes| bytes <= SLICE as u64) {
        return body;
    }
    Body::new(new(app.patience().clone(), body, holds))
}

/// What an answer holds of the memory for pages beyond what its pages hold.
#[derive(Default)]
pub(crate) struct Rest {
    bytes: u64,
    holds: Vec<Hold>,
}

impl Rest {
    /// Has it stand for `bytes` of an answer whose pages are `stored` bytes, and hold twice that. It never shrinks: who gives
    /// back what it needs again waits for those who wait for what its pages hold.
    ///
    /// # Errors
    /// `overloaded` if others hold on to theirs for too long.
    pub(crate) async fn hold(&mut self, app: &App, bytes: usize, stored: usize) -> ApiResult<()> {
        let bytes = rest(app.config().fetch.memory, bytes, stored);
        if bytes > self.bytes {
            self.holds.push(app.queue().hold_answer(bytes - self.bytes).await?);
            self.bytes = bytes;
        }
        Ok(())
    }
}

/// [`Rest::hold`] for an answer that is there at once.
pub(crate) async fn hold_rest(app: &App, bytes: usize, stored: usize) -> ApiResult<Option<Hold>> {
    let mut rest = Rest::default();
    rest.hold(app, bytes, stored).await?;
    Ok(rest.holds.pop())
}

fn rest(memory: u64, bytes: usize, stored: usize) -> u64 {
    // As little as that is not held at all.
    if bytes <= SLICE {
        return 0;
    }
    let held = 2 * stored as u64;
    // It would wait for itself if it asked for what its pages hold, and two of its kind for each other.
    (bytes as u64).saturating_sub(held).min(memory.saturating_sub(held) / 2)
}

fn new(patience: Patience, body: Body, holds: Vec<Hold>) -> HeldBody {
    let rest = Unsent { slices: Bytes::new(), body, _holds: holds };
    HeldBody(Arc::new(Mutex::new(State { rest: Some(rest), unread: None, watched: false, patience })))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A panic in a renderer leaves a body that is not used any more.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.unread = None;
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(Some(Err(axum::Error::new("the client does not read"))));
        };
        while rest.slices.is_empty() {
            let frame = match ready!(Pin::new(&mut rest.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) => rest.slices = data,
                Err(other) => return Poll::Ready(Some(Ok(other))),
            }
        }
        let slice = rest.slices.split_to(rest.slices.len().min(SLICE));
        self.unread = Some(Instant::now());
        Poll::Ready(Some(Ok(Frame::data(slice))))
    }

    /// Whether nobody needs to look again.
    fn give_up_unread(&mut self) -> bool {
        if self.unread.is_some_and(|since| since.elapsed() >= self.patience.limit()) {
            self.rest = None;
        }
        self.rest.is_none()
    }
}

/// Looks at a body until it is dropped or given up.
async fn watch(state: Weak<Mutex<State>>) {
    loop {
        tokio::time::sleep(TICK).await;
        let Some(state) = state.upgrade() else { return };
        if lock(&state).give_up_unread() {
            tracing::debug!("an answer was left unread and given up");
            return;
        }
    }
}

impl http_body::Body for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut state = lock(&self.0);
        let frame = state.next(cx);
        // An answer that fits the server's buffers is gone with its first slice.
        let more = state.rest.as_ref().is_some_and(|rest| !rest.slices.is_empty() || !rest.body.is_end_stream());
        if more && !state.watched {
            state.watched = true;
            tokio::spawn(watch(Arc::downgrade(&self.0)));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).rest.as_ref().is_some_and(|rest| rest.slices.is_empty() && rest.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let state = lock(&self.0);
        let Some(rest) = &state.rest else { return SizeHint::default() };
        let (inner, more) = (rest.body.size_hint(), rest.slices.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + more);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + more);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http_body_util::BodyExt as _;

    use super::*;

    fn body(limit: Duration, bytes: usize) -> (HeldBody, Weak<()>) {
        let share = Arc::new(());
        let weak = Arc::downgrade(&share);
        let patience = Patience::new(move || limit);
        (new(patience, Body::from(vec![7; bytes]), vec![Hold::new(share)]), weak)
    }

    #[test]
    fn an_answer_holds_what_its_pages_do_not_and_never_waits_for_itself() {
        const MIB: usize = 1 << 20;
        assert_eq!(rest(256 << 20, 8 * MIB, 4 * MIB), 0);
        assert_eq!(rest(256 << 20, 8 * MIB, MIB), 6 << 20);
        assert_eq!(rest(256 << 20, SLICE, 0), 0);
        assert_eq!(rest(32 << 20, 32 * MIB, MIB), 15 << 20);
        assert_eq!(rest(32 << 20, 48 * MIB, 20 * MIB), 0);
    }

    #[tokio::test]
    async fn a_body_that_is_read_is_whole_and_has_its_length() {
        let (body, share) = body(Duration::from_secs(60), 900_000);
        assert_eq!(body.size_hint().exact(), Some(900_000));
        let bytes = Body::new(body).collect().await.unwrap().to_bytes();
        assert!(bytes.len() == 900_000 && bytes.iter().all(|byte| *byte == 7));
        assert_eq!(share.strong_count(), 0);
    }

    #[tokio::test]
    async fn a_body_that_is_left_unread_lets_go_of_what_it_holds() {
        let (mut body, share) = body(Duration::ZERO, 900_000);
        assert!(body.frame().await.unwrap().is_ok());
        while share.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(body.frame().await.unwrap().is_err(), "whoever reads later sees that it is not whole");
    }

    #[tokio::test]
    async fn a_body_that_waits_for_us_is_not_given_up() {
        let patience = Patience::new(|| Duration::ZERO);
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let mut body = new(patience, never, Vec::new());
        assert!(futures::FutureExt::now_or_never(body.frame()).is_none());
        assert!(!lock(&body.0).give_up_unread());
    }
}
