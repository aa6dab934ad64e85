//! One call: build the request, send it, read an error, decide about another attempt.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidelog_api::error::ErrorBody;
use tidelog_api::{ErrorCode, Outcome, headers};

use crate::client::Client;
use crate::error::{ApiError, Error, Result};

/// Bytes of an error body that are read at most.
const MAX_ERROR_LEN: usize = 4 << 20;

/// Whether a request whose outcome is unknown may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safety {
    /// It writes nothing, or writes the same thing once however often it is sent.
    Repeatable,
    /// Only when the first attempt wrote nothing.
    Once,
}

/// A request before it is sent; kept so that it can be sent again.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    url: Url,
    headers: Vec<(&'static str, String)>,
    body: Option<Bytes>,
    timeout: Option<Duration>,
    safety: Safety,
}

impl Call {
    pub(crate) fn new(client: &Client, method: Method, path: &[&str], safety: Safety) -> Result<Self> {
        let mut url = client.base().clone();
        if let Some(bad) = path.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
            return Err(Error::Invalid(format!("{bad:?} cannot be a name in a path")));
        }
        url.path_segments_mut()
            .map_err(|()| Error::Invalid("the server's URL cannot be a base".to_owned()))?
            .pop_if_empty()
            .extend(path);
        let timeout = Some(client.options().attempt_timeout);
        Ok(Self { method, url, headers: Vec::new(), body: None, timeout, safety })
    }

    pub(crate) fn query(mut self, name: &str, value: impl ToString) -> Self {
        self.url.query_pairs_mut().append_pair(name, &value.to_string());
        self
    }

    pub(crate) fn query_if(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub(crate) fn body(mut self, content_type: &str, body: Bytes) -> Self {
        self.body = Some(body);
        self.header("content-type", content_type)
    }

    pub(crate) fn json(self, body: &impl Serialize) -> Result<Self> {
        let body = serde_json::to_vec(body).map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(self.body(headers::JSON, body.into()))
    }

    /// How long one attempt may take in all; `None` bounds only how long the connection may be silent.
    pub(crate) fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    fn build(&self, client: &Client) -> RequestBuilder {
        let mut request = client.http().request(self.method.clone(), self.url.clone());
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        if let Some(timeout) = self.timeout {
            request = request.timeout(timeout);
        }
        request
    }

    /// Sends, and sends again as long as that is safe and may help; the body of the answer is left to the caller.
    /// Dropping the future leaves the outcome unknown.
    pub(crate) async fn send(&self, client: &Client) -> Result<Response> {
        let mut attempts = Attempts::new();
        loop {
            match self.attempt(client).await {
                Ok(response) => return Ok(response),
                Err(error) => attempts.pause(self, client, error).await?,
            }
        }
    }

    /// Sends as [`Call::send`] does, and reads a JSON answer: one that breaks off is asked for again.
    pub(crate) async fn send_for<T: DeserializeOwned>(&self, client: &Client) -> Result<T> {
        self.send_for_status(client).await.map(|(_, answer)| answer)
    }

    /// The same, with the status.
    pub(crate) async fn send_for_status<T: DeserializeOwned>(&self, client: &Client) -> Result<(u16, T)> {
        let mut attempts = Attempts::new();
        let (status, body) = loop {
            match self.attempt_whole(client).await {
                Ok(answer) => break answer,
                Err(error) => attempts.pause(self, client, error).await?,
            }
        };
        let answer = serde_json::from_slice(&body).map_err(|error| client.protocol(error.to_string()))?;
        Ok((status, answer))
    }

    async fn attempt_whole(&self, client: &Client) -> Result<(u16, Bytes)> {
        let response = self.attempt(client).await?;
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(|source| client.broken(source))?;
        Ok((status, body))
    }

    async fn attempt(&self, client: &Client) -> Result<Response> {
        let sent = self.build(client).send().await;
        let response = sent.map_err(|source| {
            if source.is_builder() {
                Error::Invalid(source.to_string())
            } else if source.is_connect() {
                Error::Connect { server: client.server(), source }
            } else {
                client.broken(source)
            }
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(read_error(client, response).await)
    }

    fn may_repeat(&self, error: &Error) -> bool {
        // A request under a triple or key that was written but not yet flushed only waits when it is sent again.
        let waits = self.safety == Safety::Repeatable && error.is(ErrorCode::FlushTimeout);
        let nothing_written = matches!(error.outcome(), None | Some(Outcome::NotWritten));
        waits || (error.retryable() && (nothing_written || self.safety == Safety::Repeatable))
    }
}

/// The attempts of one call so far.
struct Attempts {
    started: Instant,
    count: u32,
}

impl Attempts {
    fn new() -> Self {
        Self { started: Instant::now(), count: 0 }
    }

    /// Waits for the next attempt, or gives the error back because there is none.
    async fn pause(&mut self, call: &Call, client: &Client, error: Error) -> Result<()> {
        if !call.may_repeat(&error) {
            return Err(error);
        }
        let policy = &client.options().retry;
        let pause = policy.pause(self.count, self.started.elapsed(), error.retry_after(), rand::random());
        let Some(pause) = pause else { return Err(error) };
        tracing::debug!(attempt = self.count, ?pause, %error, url = %call.url, "another attempt follows");
        tokio::time::sleep(pause).await;
        self.count += 1;
        Ok(())
    }
}

async fn read_error(client: &Client, mut response: Response) -> Error {
    let status = response.status().as_u16();
    let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = Vec::new();
    while body.len() <= MAX_ERROR_LEN {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(source) => return client.broken(source),
        }
    }
    let Ok(ErrorBody { error: description }) = serde_json::from_slice(&body) else {
        return client.protocol(format!("status {status} without an error body"));
    };
    let millis = description.details.get("retry_after_ms").and_then(serde_json::Value::as_u64);
    let retry_after = millis.map(Duration::from_millis).or(header.map(Duration::from_secs));
    Error::Api(Box::new(ApiError { status, description, retry_after }))
}
