//! Bytes of answers that are rendered and not sent yet, over all requests, against one budget: as much again as
//! `fetch.memory`, which counts pages in the making.
//!
//! What an answer will have is not known before it is rendered, so more is taken at first and the rest given back. An
//! answer holds its share until the client has read it, or the connection is given up.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tidelog_api::ErrorCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{ApiError, Result};

/// The unit of the budget: a semaphore counts at most 2^29 or so permits.
const UNIT: usize = 1_024;
/// How long an answer waits for its share.
const WAIT: Duration = Duration::from_secs(1);

/// The budget. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Answers {
    memory: Arc<Semaphore>,
    units: u32,
    wait: Duration,
}

impl Answers {
    /// A budget of `bytes`.
    pub(crate) fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes / UNIT as u64).unwrap_or(u32::MAX >> 4).clamp(1, u32::MAX >> 4);
        Self { memory: Arc::new(Semaphore::new(units as usize)), units, wait: WAIT }
    }

    /// Takes about `bytes`, or all there is.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Room> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.units);
        let taken = tokio::time::timeout(self.wait, Arc::clone(&self.memory).acquire_many_owned(units)).await;
        match taken {
            Ok(Ok(permit)) => Ok(Room(permit)),
            _ => Err(ApiError::new(ErrorCode::Overloaded, "too many answers wait for their clients")),
        }
    }
}

/// A share of the budget.
#[derive(Debug)]
pub(crate) struct Room(OwnedSemaphorePermit);

impl Room {
    /// Gives back what is above `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let more = self.0.num_permits().saturating_sub(bytes.div_ceil(UNIT));
        drop(self.0.split(more));
    }

    /// `body`, which holds the share until it was sent.
    pub(crate) fn hold(self, body: Body) -> Body {
        Body::new(Held { body, _room: self })
    }
}

struct Held {
    body: Body,
    _room: Room,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn an_answer_holds_its_share_until_it_was_read() {
        let answers = Answers { wait: Duration::ZERO, ..Answers::new(10 << 10) };
        let mut room = answers.reserve(9 << 10).await.unwrap();
        assert_eq!(answers.reserve(2 << 10).await.unwrap_err().code(), ErrorCode::Overloaded);
        room.shrink(1_000);
        let body = room.hold(Body::from("text"));
        let other = answers.reserve(9 << 10).await.unwrap();
        assert!(answers.reserve(1).await.is_err());
        assert_eq!(body.collect().await.unwrap().to_bytes(), "text");
        drop(answers.reserve(1).await.unwrap());
        drop(other);
        // More than there is takes all there is.
        drop(answers.reserve(1 << 30).await.unwrap());
    }
}
