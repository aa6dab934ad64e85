//! A socket that counts the bytes that pass it, as they are on the wire, and that is closed without loss.
//!
//! A system that closes a socket with unread bytes tells the other side at once, which then drops what it has not read
//! itself: the end of an answer, because of a window update that nobody needed. So the accepting side says that it is
//! done, and closes when the other one has closed or took too long.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::metrics::{Gauge, gauge};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::metrics::{PEER_CONNECTIONS, cost};

/// How long the other side may take to close.
const LINGER: Duration = Duration::from_secs(1);

/// Which side made a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    In,
    Out,
}

/// See the module; an open one is counted among the connections.
pub(super) struct Counted {
    inner: TcpStream,
    open: Gauge,
    direction: Direction,
    /// Set once this side has said that it is done.
    closing: Option<Pin<Box<Sleep>>>,
}

impl Counted {
    /// # Errors
    /// If the socket takes no options any more.
    pub(super) fn new(inner: TcpStream, direction: Direction) -> io::Result<Self> {
        // Messages are written whole: waiting for more would only delay them.
        inner.set_nodelay(true)?;
        let label = if direction == Direction::In { "in" } else { "out" };
        let open = gauge!(PEER_CONNECTIONS, "direction" => label);
        open.increment(1);
        Ok(Self { inner, open, direction, closing: None })
    }

    fn sent(result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &result {
            cost::peer_sent(*bytes as u64);
        }
        result
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.decrement(1);
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buffer);
        cost::peer_received((buffer.filled().len() - before) as u64);
        result
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        Self::sent(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        Self::sent(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
            self.closing = Some(Box::pin(sleep(LINGER)));
        }
        let waited = self.closing.as_mut().is_none_or(|alarm| alarm.as_mut().poll(cx).is_ready());
        if self.direction == Direction::Out || waited {
            return Poll::Ready(Ok(()));
        }
        loop {
            let mut unread = [0; 1 << 10];
            let mut buffer = ReadBuf::new(&mut unread);
            let read = ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
