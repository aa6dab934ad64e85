//! A stream that must get on: a client that leaves an answer unread would hold its memory for ever, and one that connects and
//! says nothing its place among the connections.
//!
//! The head of a request is the server's own business once it knows which HTTP the client speaks; before that nobody else
//! looks at the time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The preface of HTTP/2, which is what the server waits for before it knows the version.
const PREFACE_BYTES: usize = 24;

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For its first bytes.
    pub(super) opening: Duration,
    /// To take the next bytes of an answer.
    pub(super) stalled: Duration,
}

/// A stream that fails with `TimedOut` once its client took too long.
#[derive(Debug)]
pub(super) struct Progress<S> {
    inner: S,
    limits: Limits,
    /// Set until the first bytes are there, or something was written.
    opening: Option<Pin<Box<Sleep>>>,
    read: usize,
    /// Set while a write is pending.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Progress<S> {
    pub(super) fn new(inner: S, limits: Limits) -> Self {
        let opening = Some(Box::pin(sleep_until(Instant::now() + limits.opening)));
        Self { inner, limits, opening, read: 0, stalled: None }
    }

    /// Passes a write's result on, and the alarm when it is pending for too long.
    fn watch<T>(&mut self, result: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.opening = None;
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let limit = self.limits.stalled;
        let alarm = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
        match alarm.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Progress<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buffer);
        let Some(alarm) = self.opening.as_mut() else { return result };
        if result.is_pending() {
            return match alarm.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client says nothing"))),
                Poll::Pending => Poll::Pending,
            };
        }
        self.read += buffer.filled().len() - before;
        if self.read >= PREFACE_BYTES {
            self.opening = None;
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Progress<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.watch(result, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.watch(result, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch(result, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.watch(result, cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    fn limits(opening: Duration, stalled: Duration) -> Limits {
        Limits { opening, stalled }
    }

    const SHORT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_client_that_says_nothing_or_hardly_anything_fails() {
        for said in [&b""[..], b"P", b"PRI * HTTP/2.0"] {
            let (server, mut client) = duplex(64);
            client.write_all(said).await.unwrap();
            let mut server = Progress::new(server, limits(SHORT, LONG));
            let error = server.read_exact(&mut [0; 24]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{said:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_was_answered_may_be_silent() {
        let (server, mut client) = duplex(64);
        let mut server = Progress::new(server, limits(SHORT, LONG));
        server.write_all(b"answer").await.unwrap();
        tokio::time::sleep(SHORT * 5).await;
        let speaker = tokio::spawn(async move {
            tokio::time::sleep(SHORT * 5).await;
            client.write_all(b"x").await.unwrap();
            client
        });
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        drop(speaker);
    }

    #[tokio::test]
    async fn a_write_that_nobody_reads_fails() {
        let (server, _client) = duplex(8);
        let mut server = Progress::new(server, limits(LONG, SHORT));
        let error = server.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_write_that_is_read_succeeds_however_long_all_take() {
        let (server, mut client) = duplex(8);
        let mut server = Progress::new(server, limits(LONG, LONG));
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            all.len()
        });
        server.write_all(&[0; 4_096]).await.unwrap();
        drop(server);
        assert_eq!(reader.await.unwrap(), 4_096);
    }
}
