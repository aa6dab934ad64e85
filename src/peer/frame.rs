//! Bodies of HTTP messages as this module uses them: a head, then so many bytes as it says.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;

use super::head::{BodyHead, PREFIX_BYTES, Prefix, VERSION};
use super::sent::Sent;

/// Any error of a body.
pub(super) type Broken = Box<dyn std::error::Error + Send + Sync>;

/// Parts that are no longer than this are joined with their neighbours; longer ones are sent as they are.
const JOINED_PART: usize = 4 << 10;
/// What joined parts make at most.
const JOINED: usize = 64 << 10;

/// Why a message is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the peer speaks version {0}, this build speaks version {VERSION}")]
    Version(u8),
    #[error("the head is damaged, or is none")]
    Head,
    #[error("the body has more or fewer bytes than its head says")]
    Length,
    #[error("the body is damaged: its checksum does not match")]
    Checksum,
    #[error("the connection broke")]
    Broken(#[source] Broken),
}

/// Reads a message's body.
pub(super) struct Reader<B> {
    body: B,
    /// What arrived and was not taken yet.
    ahead: Bytes,
}

impl<B> Reader<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Broken>,
{
    pub(super) fn new(body: B) -> Self {
        Self { body, ahead: Bytes::new() }
    }

    /// The head, of at most `most` bytes.
    pub(super) async fn head<T: DeserializeOwned>(&mut self, most: usize) -> Result<T, FrameError> {
        let prefix = Prefix::decode(&self.take(PREFIX_BYTES).await?, most)?;
        let bytes = self.take(prefix.length).await?;
        prefix.head(&bytes)
    }

    /// All that comes after the head. The caller has checked that there is room for `body.bytes`.
    pub(super) async fn rest(mut self, body: BodyHead) -> Result<Bytes, FrameError> {
        let bytes = self.take(usize::try_from(body.bytes).map_err(|_| FrameError::Length)?).await?;
        while self.ahead.is_empty() {
            match self.next().await? {
                Some(piece) => self.ahead = piece,
                None if crc32c::crc32c(&bytes) == body.checksum => return Ok(bytes),
                None => return Err(FrameError::Checksum),
            }
        }
        Err(FrameError::Length)
    }

    /// The next `count` bytes: a slice of what arrived if they are in one piece, else joined.
    async fn take(&mut self, count: usize) -> Result<Bytes, FrameError> {
        while self.ahead.is_empty() && count > 0 {
            self.ahead = self.next().await?.ok_or(FrameError::Length)?;
        }
        if self.ahead.len() >= count {
            return Ok(self.ahead.split_to(count));
        }
        let mut joined = BytesMut::with_capacity(count);
        loop {
            let missing = count - joined.len();
            joined.extend_from_slice(&self.ahead.split_to(missing.min(self.ahead.len())));
            if joined.len() == count {
                return Ok(joined.freeze());
            }
            self.ahead = self.next().await?.ok_or(FrameError::Length)?;
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(|error| FrameError::Broken(error.into()))?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// The body of a request was given up before it was sent.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("given up before it was sent")]
pub(super) struct Abandoned;

/// A body to send: its pieces are handed out as they are.
#[derive(Debug)]
pub(super) struct Parts {
    pieces: VecDeque<Bytes>,
    left: u64,
    sent: Option<Arc<Sent>>,
}

impl Parts {
    /// A head with its body. The pieces are shared by all clones of the parts.
    pub(super) fn new(head: Bytes, parts: impl IntoIterator<Item = Bytes>) -> Self {
        let pieces = join(std::iter::once(head).chain(parts));
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { pieces, left, sent: None }
    }

    /// No body at all.
    pub(super) fn none() -> Self {
        Self { pieces: VecDeque::new(), left: 0, sent: None }
    }

    /// Asks `sent` before the first piece is handed out.
    pub(super) fn watched(self, sent: Arc<Sent>) -> Self {
        Self { sent: Some(sent), ..self }
    }
}

/// Joins small neighbours: a frame of its own costs more than copying them.
fn join(parts: impl Iterator<Item = Bytes>) -> VecDeque<Bytes> {
    let mut pieces = VecDeque::new();
    let mut joined = BytesMut::new();
    for part in parts.filter(|part| !part.is_empty()) {
        let small = part.len() <= JOINED_PART;
        if !joined.is_empty() && (!small || joined.len() + part.len() > JOINED) {
            pieces.push_back(joined.split().freeze());
        }
        if small {
            joined.extend_from_slice(&part);
        } else {
            pieces.push_back(part);
        }
    }
    if !joined.is_empty() {
        pieces.push_back(joined.freeze());
    }
    pieces
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Abandoned;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Abandoned>>> {
        if self.sent.as_ref().is_some_and(|sent| !sent.begin()) {
            return Poll::Ready(Some(Err(Abandoned)));
        }
        let piece = self.pieces.pop_front();
        self.left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
