//! One HTTP/1.1 connection, as cheap as hyper has it: the connection is driven by the task that waits for the answer, so
//! a request costs no hand-over between tasks, and an answer is looked at only if it is an error.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tidelog_api::error::ErrorBody;
use tokio::net::TcpStream;

use crate::args::Remote;
use crate::exit::usage;

/// Bytes of an error's body that are kept.
const MAX_ERROR_LEN: usize = 64 << 10;

/// Where a server listens.
#[derive(Debug, Clone)]
pub(super) struct Target {
    host: HeaderValue,
    /// The header authorization.
    token: Option<HeaderValue>,
    address: (String, u16),
}

impl Target {
    /// The server that is to be loaded, and the token for it.
    pub(super) fn of(remote: &Remote) -> Result<Self> {
        let mut target = Self::parse(&remote.server)?;
        if let Some(token) = remote.credentials.token()? {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value = value.map_err(|_| usage("the token has characters that none has"))?;
            value.set_sensitive(true);
            target.token = Some(value);
        }
        Ok(target)
    }

    /// The server of a URL `http://host:port`.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let uri: Uri = url.parse().map_err(|error| usage(format!("{url:?} is not a URL: {error}")))?;
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(usage(format!("{url:?}: the load generator takes http://host:port")));
        };
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let address = (host, authority.port_u16().unwrap_or(80));
        Ok(Self { host: HeaderValue::from_str(authority.as_str())?, token: None, address })
    }

    /// A request that has no body.
    pub(super) fn get(&self, uri: Uri, accept: &'static str) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        headers.extend(self.token.clone().map(|token| (header::AUTHORIZATION, token)));
        request
    }

    /// A request with a body.
    pub(super) fn post(&self, uri: Uri, content_type: &'static str, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.extend(self.token.clone().map(|token| (header::AUTHORIZATION, token)));
        request
    }
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// 2xx; bytes of the answer's body.
    Done(u64),
    /// The error's code, or its status where the body has none.
    Refused(String),
}

/// The connection, until it ends.
type Served = Option<Pin<Box<Connection<TokioIo<TcpStream>, Full<Bytes>>>>>;

/// A connection.
pub(super) struct Wire {
    sender: SendRequest<Full<Bytes>>,
    connection: Served,
}

impl Wire {
    /// Connects.
    pub(super) async fn connect(target: &Target) -> Result<Self> {
        let (host, port) = (&target.address.0, target.address.1);
        let stream = TcpStream::connect((host.as_str(), port))
            .await
            .with_context(|| format!("cannot connect to {host}:{port}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, connection: Some(Box::pin(connection)) })
    }

    /// Sends a request, and reads its answer to the end without keeping it.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Outcome> {
        let mut response = self.begin(request).await?;
        if !response.status().is_success() {
            return self.refused(response).await;
        }
        let mut len = 0;
        while let Some(chunk) = self.chunk(&mut response).await? {
            len += chunk.len() as u64;
        }
        Ok(Outcome::Done(len))
    }

    /// Sends a request, and gives the head of its answer; the body is read with [`Wire::chunk`].
    pub(super) async fn begin(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        let Self { sender, connection } = self;
        drive(connection, async {
            sender.ready().await?;
            sender.send_request(request).await
        })
        .await
    }

    /// The next piece of an answer's body; `None` at its end.
    pub(super) async fn chunk(&mut self, response: &mut Response<Incoming>) -> Result<Option<Bytes>> {
        loop {
            match drive(&mut self.connection, async { response.frame().await.transpose() }).await? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(chunk) = frame.into_data() {
                        return Ok(Some(chunk));
                    }
                }
            }
        }
    }

    /// The code of an error.
    pub(super) async fn refused(&mut self, mut response: Response<Incoming>) -> Result<Outcome> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response).await? {
            if body.len() + chunk.len() > MAX_ERROR_LEN {
                bail!("an error of more than {MAX_ERROR_LEN} bytes");
            }
            body.extend_from_slice(&chunk);
        }
        let code = serde_json::from_slice(&body).map(|ErrorBody { error }| error.code);
        Ok(Outcome::Refused(code.unwrap_or_else(|_| response.status().as_u16().to_string())))
    }
}

/// Waits for `future` while the connection is served in the same task.
async fn drive<T>(connection: &mut Served, future: impl Future<Output = hyper::Result<T>>) -> Result<T> {
    let mut future = pin!(future);
    let value = std::future::poll_fn(|cx: &mut Context<'_>| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(value);
        }
        let ended = connection.as_mut().is_none_or(|connection| connection.as_mut().poll(cx).is_ready());
        if ended {
            // Dropped, it fails whatever waits for it.
            *connection = None;
        }
        // What the connection brought may be what is waited for.
        future.as_mut().poll(cx)
    });
    Ok(value.await?)
}
