//! The handle to a server, or to several that serve the same cluster.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Certificate, ClientBuilder, Method, Url};
use tidelog_api::producers::{ProducerRegistered, RegisterProducer};
use tidelog_api::topics::{SettingsRequest, TopicDescription, TopicList, TopicSummary};

use crate::call::{Call, Safety};
use crate::error::{Error, Result};
use crate::retry::RetryPolicy;
use crate::topic::Topic;

/// Longer than any request waits (60 s for a flush, or for records that are to be in the bucket), so that a quiet server is not
/// taken for a dead one.
pub(crate) const SILENCE: Duration = Duration::from_secs(75);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How a client behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOptions {
    /// Retries.
    pub retry: RetryPolicy,
    /// How long one attempt of a short call may take.
    pub attempt_timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { retry: RetryPolicy::default(), attempt_timeout: Duration::from_secs(75) }
    }
}

/// What a client shows, and whom it believes.
#[derive(Clone, Default)]
pub struct Access {
    /// Authorities in PEM that are believed besides the well-known ones, for servers of `https://`.
    pub ca: Option<Vec<u8>>,
    /// The bearer token that is sent with every request.
    pub token: Option<String>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A token is nobody's to see.
        f.debug_struct("Access").field("ca", &self.ca.is_some()).field("token", &self.token.is_some()).finish()
    }
}

impl Access {
    fn apply(&self, mut builder: ClientBuilder) -> Result<ClientBuilder> {
        if let Some(pem) = &self.ca {
            let found = Certificate::from_pem_bundle(pem).map_err(|error| Error::Invalid(error.to_string()))?;
            if found.is_empty() {
                return Err(Error::Invalid("there is no certificate among the authorities".to_owned()));
            }
            builder = found.into_iter().fold(builder, ClientBuilder::add_root_certificate);
        }
        if let Some(token) = &self.token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value = value.map_err(|_| Error::Invalid("the token has characters that none has".to_owned()))?;
            value.set_sensitive(true);
            builder = builder.default_headers(HeaderMap::from_iter([(AUTHORIZATION, value)]));
        }
        Ok(builder)
    }

    /// Connections that show this, and are given up when a server says nothing for `silence`.
    fn connections(&self, silence: Duration) -> Result<reqwest::Client> {
        let builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(silence)
            // A proxy of the environment has no business between us and a queue on loopback.
            .no_proxy()
            .user_agent(concat!("tidelog-client/", env!("CARGO_PKG_VERSION")));
        self.apply(builder)?.build().map_err(|error| Error::Invalid(error.to_string()))
    }
}

/// A server, or several of one cluster. Clones share its connections, and which server is asked.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    access: Access,
    /// At least one.
    servers: Vec<Url>,
    /// Which of them is asked: the first until it fails, then the next one.
    current: AtomicUsize,
    options: ClientOptions,
}

impl Client {
    /// A client of the server at this URL, such as `http://127.0.0.1:7070`, or of several, separated by commas: when one of
    /// them cannot be reached or has no leader, the next one is asked, and stays the one until it fails. Nothing is sent.
    ///
    /// # Errors
    /// A URL is none of http or https.
    pub fn new(servers: &str, options: ClientOptions) -> Result<Self> {
        Self::with_access(servers, options, &Access::default())
    }

    /// The same for servers that want a token, or whose certificates are of an authority of their own.
    ///
    /// # Errors
    /// As [`Client::new`]; the authorities or the token cannot be used.
    pub fn with_access(servers: &str, options: ClientOptions, access: &Access) -> Result<Self> {
        let servers: Vec<Url> = servers.split(',').map(parse_server).collect::<Result<_>>()?;
        let (http, access) = (access.connections(SILENCE)?, access.clone());
        Ok(Self(Arc::new(Inner { http, access, servers, current: AtomicUsize::new(0), options })))
    }

    /// Other connections than [`Client::http`], for a call during which a server may say nothing for longer.
    pub(crate) fn connections(&self, silence: Duration) -> Result<reqwest::Client> {
        self.0.access.connections(silence)
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.0.http
    }

    /// Which server is asked now; see [`Client::base`].
    pub(crate) fn current(&self) -> usize {
        self.0.current.load(Ordering::Relaxed)
    }

    /// The URL of a server.
    pub(crate) fn base(&self, server: usize) -> &Url {
        &self.0.servers[server % self.0.servers.len()]
    }

    /// How many servers there are.
    pub(crate) fn servers(&self) -> usize {
        self.0.servers.len()
    }

    /// The next server is asked from now on, unless somebody has turned away from `server` already.
    pub(crate) fn turn_from(&self, server: usize) {
        let next = (server + 1) % self.servers();
        let turned = self.0.current.compare_exchange(server, next, Ordering::Relaxed, Ordering::Relaxed);
        if turned.is_ok() && next != server {
            tracing::debug!(from = %self.base(server), to = %self.base(next), "another server is asked");
        }
    }

    pub(crate) fn options(&self) -> &ClientOptions {
        &self.0.options
    }

    /// The URL of the server that is asked next, as messages show it.
    #[must_use]
    pub fn server(&self) -> String {
        self.name(self.current())
    }

    /// The URL of a server as messages show it.
    pub(crate) fn name(&self, server: usize) -> String {
        self.base(server).as_str().trim_end_matches('/').to_owned()
    }

    /// The exchange with a server broke off: the next one is asked from now on.
    pub(crate) fn broken(&self, server: usize, source: reqwest::Error) -> Error {
        self.turn_from(server);
        Error::Broken { server: self.name(server), source }
    }

    pub(crate) fn protocol(&self, server: usize, what: String) -> Error {
        Error::Protocol { server: self.name(server), what }
    }

    /// Creates a topic, or finds that it exists and agrees with what `settings` names; says whether it was created.
    ///
    /// # Errors
    /// `topic_exists` if it disagrees.
    pub async fn create_topic(&self, name: &str, settings: &SettingsRequest) -> Result<(TopicDescription, bool)> {
        let call = Call::new(self, Method::PUT, &["v1", "topics", name], Safety::Repeatable)?.json(settings)?;
        let (status, description) = call.send_for_status(self).await?;
        Ok((description, status == 201))
    }

    /// Describes a topic by its name.
    ///
    /// # Errors
    /// `topic_not_found`
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        Call::new(self, Method::GET, &["v1", "topics", name], Safety::Repeatable)?.send_for(self).await
    }

    /// The topic that has this name now, for everything that is to stay with it.
    ///
    /// # Errors
    /// `topic_not_found`
    pub async fn topic(&self, name: &str) -> Result<(Topic, TopicDescription)> {
        let description = self.describe_topic(name).await?;
        Ok((Topic::new(self.clone(), &description), description))
    }

    /// All topics whose names begin with `prefix`, by name.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn list_topics(&self, prefix: &str) -> Result<Vec<TopicSummary>> {
        let mut topics: Vec<TopicSummary> = Vec::new();
        loop {
            let after = topics.last().map(|topic| topic.name.clone());
            let call = Call::new(self, Method::GET, &["v1", "topics"], Safety::Repeatable)?
                .query("prefix", prefix)
                .query_if("start_after", after);
            let page: TopicList = call.send_for(self).await?;
            let stuck = page.topics.is_empty();
            topics.extend(page.topics);
            if !page.has_more || stuck {
                return Ok(topics);
            }
        }
    }

    /// Brings back the newest deleted topic of that name.
    ///
    /// # Errors
    /// `topic_not_found` once the grace period is over.
    pub async fn undelete_topic(&self, name: &str) -> Result<TopicDescription> {
        let verb = format!("{name}:undelete");
        Call::new(self, Method::POST, &["v1", "topics", &verb], Safety::Once)?.send_for(self).await
    }

    /// Registers a producer: a fresh id without a name; with one, its epoch is raised and its older holder fenced.
    ///
    /// It is sent again when the outcome of an attempt is unknown. Such an attempt may be applied after the one that was
    /// answered and raise the epoch of a name once more: the caller is then fenced as by a later holder, and has to register
    /// again.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn register_producer(&self, name: Option<&str>) -> Result<ProducerRegistered> {
        // Fencing ourselves costs a registration and writes nothing twice. To ask for the current epoch afterwards would not
        // help: an attempt may still be on its way then, and a higher epoch may as well be another holder's, which two must
        // not share. Only registrations that the server can tell apart would.
        let body = RegisterProducer { name: name.map(str::to_owned) };
        Call::new(self, Method::POST, &["v1", "producers"], Safety::Repeatable)?.json(&body)?.send_for(self).await
    }

    /// The id and the current epoch of a named producer, which this does not raise.
    ///
    /// # Errors
    /// `producer_not_found` if nobody registered that name.
    pub async fn find_producer(&self, name: &str) -> Result<ProducerRegistered> {
        let call = Call::new(self, Method::GET, &["v1", "producers"], Safety::Repeatable)?;
        call.query("name", name).send_for(self).await
    }
}

fn parse_server(text: &str) -> Result<Url> {
    let text = text.trim();
    let url: Url = text.parse().map_err(|error| Error::Invalid(format!("{text:?} is not a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
        return Err(Error::Invalid(format!("{text:?} does not start with http:// or https://")));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn servers_take_turns_once_for_each_failure() {
        let client = Client::new("http://a:1, http://b:2/,http://c:3", ClientOptions::default()).unwrap();
        assert_eq!(client.server(), "http://a:1");
        client.turn_from(0);
        // A second call that failed on the same server does not turn away from the next.
        client.turn_from(0);
        assert_eq!(client.server(), "http://b:2");
        client.turn_from(1);
        client.turn_from(2);
        assert_eq!(client.server(), "http://a:1");
        let alone = Client::new("http://a:1", ClientOptions::default()).unwrap();
        alone.turn_from(0);
        assert_eq!(alone.server(), "http://a:1");
    }

    #[test]
    fn a_token_is_not_shown_and_authorities_are_certificates() {
        let client = |access: &Access| Client::with_access("https://a:1", ClientOptions::default(), access);
        let token = Access { token: Some("hunter2".to_owned()), ..Access::default() };
        let shown = format!("{token:?} {:?}", client(&token).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
        for wrong in [
            Access { token: Some("line\nbreak".to_owned()), ..Access::default() },
            Access { ca: Some(b"not PEM".to_vec()), ..Access::default() },
        ] {
            let error = client(&wrong).unwrap_err().to_string();
            assert!(!error.contains("break"), "{error}");
        }
    }

    #[test]
    fn every_server_has_to_be_a_url() {
        for wrong in ["", "a:1", "ftp://a", "http://a,", "http://a,b", ",http://a"] {
            assert!(Client::new(wrong, ClientOptions::default()).is_err(), "{wrong:?}");
        }
    }
}
