//! A socket that counts the bytes that pass it, as they are on the wire.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::metrics::{Counter, Gauge, counter, gauge};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::metrics::{PEER_CONNECTIONS, PEER_RECEIVED_BYTES, PEER_SENT_BYTES};

/// See the module; an open one is counted among the connections.
pub(super) struct Counted {
    inner: TcpStream,
    received: Counter,
    sent: Counter,
    open: Gauge,
}

impl Counted {
    /// `direction` is `in` or `out`.
    ///
    /// # Errors
    /// If the socket takes no options any more.
    pub(super) fn new(inner: TcpStream, direction: &'static str) -> io::Result<Self> {
        // Messages are written whole: waiting for more would only delay them.
        inner.set_nodelay(true)?;
        let open = gauge!(PEER_CONNECTIONS, "direction" => direction);
        open.increment(1);
        Ok(Self { inner, received: counter!(PEER_RECEIVED_BYTES), sent: counter!(PEER_SENT_BYTES), open })
    }

    fn sent(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &result {
            self.sent.increment(*bytes as u64);
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
        self.received.increment((buffer.filled().len() - before) as u64);
        result
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.sent(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.sent(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
