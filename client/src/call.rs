//! One call: build the request, send it, read an error, decide about another attempt.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, Response};
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

/// A request before it is sent; kept so that it can be sent again, perhaps to another server.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    path: Vec<String>,
    query: Vec<(String, String)>,
    headers: Vec<(&'static str, String)>,
    body: Option<Bytes>,
    timeout: Option<Duration>,
    /// Connections of its own, if those of the client do not do.
    http: Option<reqwest::Client>,
    safety: Safety,
    /// The only server that is meant.
    pinned: Option<usize>,
}

/// An answer whose body is not read yet, and which server sent it.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) response: Response,
    pub(crate) server: usize,
}

impl Call {
    pub(crate) fn new(client: &Client, method: Method, path: &[&str], safety: Safety) -> Result<Self> {
        if let Some(bad) = path.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
            return Err(Error::Invalid(format!("{bad:?} cannot be a name in a path")));
        }
        let path = path.iter().map(|&segment| segment.to_owned()).collect();
        let timeout = Some(client.options().attempt_timeout);
        let (query, headers) = (Vec::new(), Vec::new());
        Ok(Self { method, path, query, headers, body: None, timeout, http: None, safety, pinned: None })
    }

    pub(crate) fn query(mut self, name: &str, value: impl ToString) -> Self {
        self.query.push((name.to_owned(), value.to_string()));
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

    /// One attempt may take this long in all, and the server may be silent until then: over connections of its own, because
    /// the client's are given up after a shorter silence.
    pub(crate) fn patient(mut self, client: &Client, timeout: Duration) -> Result<Self> {
        self.http = Some(client.connections(timeout)?);
        Ok(self.timeout(Some(timeout)))
    }

    /// For what one server is to do: no other one is asked in its place.
    pub(crate) fn pinned(mut self, client: &Client) -> Self {
        self.pinned = Some(client.current());
        self
    }

    fn build(&self, client: &Client, server: usize) -> Result<RequestBuilder> {
        let mut url = client.base(server).clone();
        url.path_segments_mut()
            .map_err(|()| Error::Invalid("the server's URL cannot be a base".to_owned()))?
            .pop_if_empty()
            .extend(&self.path);
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        let http = self.http.as_ref().unwrap_or_else(|| client.http());
        let mut request = http.request(self.method.clone(), url);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        if let Some(timeout) = self.timeout {
            request = request.timeout(timeout);
        }
        Ok(request)
    }

    /// Sends, and sends again as long as that is safe and may help; the body of the answer is left to the caller.
    /// Dropping the future leaves the outcome unknown.
    pub(crate) async fn send(&self, client: &Client) -> Result<Sent> {
        let mut attempts = Attempts::new();
        loop {
            match self.attempt(client).await {
                Ok(sent) => return Ok(sent),
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
        let (status, server, body) = loop {
            match self.attempt_whole(client).await {
                Ok(answer) => break answer,
                Err(error) => attempts.pause(self, client, error).await?,
            }
        };
        let answer = serde_json::from_slice(&body).map_err(|error| client.protocol(server, error.to_string()))?;
        Ok((status, answer))
    }

    async fn attempt_whole(&self, client: &Client) -> Result<(u16, usize, Bytes)> {
        let Sent { response, server } = self.attempt(client).await?;
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(|source| client.broken(server, source))?;
        Ok((status, server, body))
    }

    async fn attempt(&self, client: &Client) -> Result<Sent> {
        let server = self.pinned.unwrap_or_else(|| client.current());
        let sent = self.build(client, server)?.send().await;
        let response = sent.map_err(|source| {
            if source.is_builder() {
                Error::Invalid(source.to_string())
            } else if source.is_connect() {
                client.turn_from(server);
                Error::Connect { server: client.name(server), source }
            } else {
                client.broken(server, source)
            }
        })?;
        if response.status().is_success() {
            return Ok(Sent { response, server });
        }
        let error = read_error(client, server, response).await;
        if error.is_of_the_server() {
            client.turn_from(server);
        }
        Err(error)
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
    /// Rounds over all servers.
    rounds: u32,
    /// Servers that failed in this round.
    failed: usize,
    /// The last one that may have written.
    uncertain: Option<Error>,
}

impl Attempts {
    fn new() -> Self {
        Self { started: Instant::now(), rounds: 0, failed: 0, uncertain: None }
    }

    /// Waits for the next attempt, or gives the error back because there is none. What one server cannot do the next one may
    /// do at once: the pause comes when each of them has failed.
    async fn pause(&mut self, call: &Call, client: &Client, error: Error) -> Result<()> {
        if !call.may_repeat(&error) {
            return Err(self.last(error));
        }
        let (policy, elapsed) = (&client.options().retry, self.started.elapsed());
        self.failed += 1;
        if call.pinned.is_none() && error.is_of_the_server() && self.failed < client.servers() {
            tracing::debug!(%error, path = ?call.path, "the next server is asked");
            if elapsed >= policy.deadline {
                return Err(self.last(error));
            }
            self.note(call, error);
            return Ok(());
        }
        let pause = policy.pause(self.rounds, elapsed, error.retry_after(), rand::random());
        let Some(pause) = pause else { return Err(self.last(error)) };
        tracing::debug!(round = self.rounds, ?pause, %error, path = ?call.path, "another attempt follows");
        self.note(call, error);
        tokio::time::sleep(pause).await;
        (self.rounds, self.failed) = (self.rounds + 1, 0);
        Ok(())
    }

    fn note(&mut self, call: &Call, error: Error) {
        if call.method != Method::GET && !matches!(error.outcome(), None | Some(Outcome::NotWritten)) {
            self.uncertain = Some(error);
        }
    }

    /// What the caller is told of all attempts: that the last one wrote nothing says nothing of one before.
    fn last(&mut self, mut error: Error) -> Error {
        match (&mut error, self.uncertain.take()) {
            (Error::Api(last), Some(_)) if last.description.outcome == Some(Outcome::NotWritten) => {
                last.description.outcome = Some(Outcome::Unknown);
                error
            }
            (Error::Connect { .. }, Some(uncertain)) => uncertain,
            _ => error,
        }
    }
}

async fn read_error(client: &Client, server: usize, mut response: Response) -> Error {
    let status = response.status().as_u16();
    let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = Vec::new();
    while body.len() <= MAX_ERROR_LEN {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(source) => return client.broken(server, source),
        }
    }
    let Ok(ErrorBody { error: description }) = serde_json::from_slice(&body) else {
        return client.protocol(server, format!("status {status} without an error body"));
    };
    let millis = description.details.get("retry_after_ms").and_then(serde_json::Value::as_u64);
    let retry_after = millis.map(Duration::from_millis).or(header.map(Duration::from_secs));
    Error::Api(Box::new(ApiError { status, description, retry_after }))
}
