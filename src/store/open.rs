//! Opens a bucket by its URL and says what an external reader can open.
//!
//! `file:///absolute/path`, `memory:///` (fresh each time) and `memory:///name` (shared within the process),
//! `gs://bucket/prefix` and `az://container/prefix` (`clouds.rs`), and
//! `s3://bucket/prefix` with endpoint, authorities and keys from the environment (`AWS_ENDPOINT_URL`, `AWS_CA_BUNDLE`,
//! `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`), or credentials and region from wherever Amazon's own tools find
//! them (`aws.rs`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;
use object_store::{Certificate, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};

use super::aws::{self, Chain};
use super::clouds::Cloud;
use super::credentials::Renewed;
use super::http::Connector;
use super::local::LocalDurable;
use crate::clock::Clock;
use crate::config;
use crate::error::{Error, ErrorKind, Result};

/// Environment variables that name an S3 endpoint, the most specific first.
const ENDPOINT_VARIABLES: [&str; 3] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
/// Environment variables that name the region.
const REGION_VARIABLES: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
/// That of whoever does not name one.
const DEFAULT_REGION: &str = "us-east-1";
/// Environment variables of keys that do not end.
const KEY_VARIABLES: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
/// Names a PEM file of authorities that are believed besides the well-known ones, as for Amazon's own tools.
const CA_VARIABLE: &str = "AWS_CA_BUNDLE";
/// How often a client goes on with a body that broke off. It sees nothing else to try again: `http.rs`.
const CLIENT_RETRIES: usize = 3;

static SHARED_MEMORY: Mutex<BTreeMap<String, Arc<InMemory>>> = Mutex::new(BTreeMap::new());

/// A bucket's place: the store without decorators, and its URL without a slash at the end.
pub(super) struct Opened {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) local: Option<Arc<LocalDurable>>,
    /// Whether it is beyond the network.
    pub(super) is_remote: bool,
    pub(super) url: String,
}

/// Opens `url`; a local directory that is not there is created only if `create` says so.
pub(super) fn open(url: &str, settings: &config::Store, create: bool) -> Result<Opened> {
    if let Some(path) = url.strip_prefix("file://") {
        open_local(path, create)
    } else if let Some(name) = url.strip_prefix("memory://") {
        Ok(open_memory(name.trim_matches('/')))
    } else if let Some(place) = url.strip_prefix("s3://") {
        open_s3(place, settings)
    } else if let Some((cloud, place)) = Cloud::of(url) {
        let place = Place::of(cloud.scheme(), place)?;
        let store = cloud.build(place.bucket, retry_of_client(settings), settings);
        let store = store.map_err(|error| place.cannot_be_opened(error))?;
        place.opened(store)
    } else {
        Err(invalid(url, "does not start with file://, memory://, s3://, gs:// or az://"))
    }
}

/// What a URL of a cloud names.
struct Place<'a> {
    url: String,
    bucket: &'a str,
    prefix: &'a str,
}

impl<'a> Place<'a> {
    /// What stands after `scheme` and `://`.
    fn of(scheme: &str, place: &'a str) -> Result<Self> {
        let place = place.trim_end_matches('/');
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let url = format!("{scheme}://{place}");
        if bucket.is_empty() { Err(invalid(&url, "names no bucket")) } else { Ok(Self { url, bucket, prefix }) }
    }

    fn cannot_be_opened(&self, error: object_store::Error) -> Error {
        invalid(&self.url, "cannot be opened").with_source(error)
    }

    /// The prefix in `store`, which is the whole bucket.
    fn opened(self, store: Arc<dyn ObjectStore>) -> Result<Opened> {
        let store = if self.prefix.is_empty() {
            store
        } else {
            let prefix = object_store::path::Path::parse(self.prefix)
                .map_err(|error| invalid(&self.url, "has a bad prefix").with_source(error))?;
            Arc::new(PrefixStore::new(store, prefix))
        };
        Ok(Opened { store, local: None, is_remote: true, url: self.url })
    }
}

fn invalid(url: &str, what: &str) -> Error {
    Error::invalid("invalid_bucket", format!("bucket {url:?} {what}"))
}

fn open_local(path: &str, create: bool) -> Result<Opened> {
    let url = format!("file://{path}");
    let decoded = decode(path).ok_or_else(|| invalid(&url, "is not a valid URL"))?;
    if !decoded.starts_with('/') {
        return Err(invalid(&url, "is not an absolute path"));
    }
    if !create && !PathBuf::from(&decoded).is_dir() {
        return Err(Error::new(ErrorKind::NotFound, "bucket_not_found", format!("there is no directory {decoded}")));
    }
    let local = LocalDurable::open(&PathBuf::from(&decoded)).map_err(|error| {
        Error::unavailable(format!("cannot open the bucket directory {decoded}: {error}")).with_source(error)
    })?;
    let root = local.root().to_str().ok_or_else(|| invalid(&url, "is not UTF-8"))?;
    let url = format!("file://{}", encode(root));
    let local = Arc::new(local);
    Ok(Opened { store: Arc::clone(&local) as Arc<dyn ObjectStore>, local: Some(local), is_remote: false, url })
}

fn open_memory(name: &str) -> Opened {
    let store = if name.is_empty() {
        Arc::default()
    } else {
        let mut shared = SHARED_MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(shared.entry(name.to_owned()).or_default())
    };
    Opened { store, local: None, is_remote: false, url: format!("memory:///{name}").trim_end_matches('/').to_owned() }
}

fn open_s3(place: &str, settings: &config::Store) -> Result<Opened> {
    let place = Place::of("s3", place)?;
    let mut builder = fitted(AmazonS3Builder::from_env().with_bucket_name(place.bucket), settings);
    let bundle = std::env::var_os(CA_VARIABLE).map(PathBuf::from);
    if let Some(bundle) = &bundle {
        builder = builder.with_client_options(believing(bundle)?);
    }
    let endpoint = named(&ENDPOINT_VARIABLES);
    let region = named(&REGION_VARIABLES).or_else(|| aws::region(endpoint.is_none()));
    if let Some(endpoint) = endpoint {
        // An endpoint of one's own that has no TLS was meant so.
        builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
    }
    if let Some(region) = &region {
        builder = builder.with_region(region);
    }
    // One of the two alone is a mistake, which the client tells.
    if named(&KEY_VARIABLES).is_none() {
        let authorities = bundle.as_deref().map(read_bundle).transpose()?;
        let chain = Chain::new(region.unwrap_or_else(|| DEFAULT_REGION.to_owned()), authorities);
        builder = builder.with_credentials(Arc::new(Renewed::new(chain, Clock::system())));
    }
    let store = builder.build().map_err(|error| place.cannot_be_opened(error))?;
    place.opened(Arc::new(store))
}

/// The client as it has to be below the decorators.
pub(super) fn fitted(builder: AmazonS3Builder, settings: &config::Store) -> AmazonS3Builder {
    let builder = builder.with_retry(retry_of_client(settings)).with_http_connector(Connector::new(settings));
    if settings.checksums { builder.with_checksum_algorithm(Checksum::SHA256) } else { builder }
}

fn retry_of_client(settings: &config::Store) -> RetryConfig {
    RetryConfig { max_retries: CLIENT_RETRIES, retry_timeout: settings.attempt_timeout, ..RetryConfig::default() }
}

/// The first of some environment variables that says something.
fn named(variables: &[&str]) -> Option<String> {
    variables.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn unusable(bundle: &Path, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let message = format!("{CA_VARIABLE} names {}, which cannot be used", bundle.display());
    Error::invalid("invalid_bucket", message).with_source(error)
}

fn read_bundle(bundle: &Path) -> Result<Vec<u8>> {
    std::fs::read(bundle).map_err(|error| unusable(bundle, error))
}

/// Options of the client by which the authorities of a PEM file are believed besides the well-known ones; what the environment says of
/// the client otherwise stays.
pub(super) fn believing(bundle: &Path) -> Result<ClientOptions> {
    let certificates = Certificate::from_pem_bundle(&read_bundle(bundle)?).map_err(|error| unusable(bundle, error))?;
    if certificates.is_empty() {
        return Err(unusable(bundle, "there is no certificate in it"));
    }
    // What is not UTF-8 is somebody else's.
    let named = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.to_str()?.strip_prefix("AWS_")?.to_ascii_lowercase();
        Some((name.parse::<ClientConfigKey>().ok()?, value.into_string().ok()?))
    });
    let options = named.fold(ClientOptions::new(), |options, (key, value)| options.with_config(key, value));
    Ok(certificates.into_iter().fold(options, ClientOptions::with_root_certificate))
}

/// Escapes all of a path that has a meaning in a URL.
pub(super) fn encode(path: &str) -> String {
    use std::fmt::Write;
    path.bytes().fold(String::with_capacity(path.len()), |mut url, byte| {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
        url
    })
}

/// Undoes [`encode`]; `None` if an escape is broken or the result is not UTF-8.
fn decode(url: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(url.len());
    let mut rest = url.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn escapes_are_undone() {
        for path in ["/a b/ü/%41", "/plain/path-1_2.x", "/#?&"] {
            assert_eq!(decode(&encode(path)).as_deref(), Some(path));
        }
        assert_eq!(decode("/%4"), None);
        assert_eq!(decode("/%ff"), None);
    }

    #[test]
    fn wrong_urls_are_refused() {
        for url in ["", "bucket", "ftp://x", "file://relative", "file:///%zz", "s3://", "gs://", "az:///x"] {
            assert!(open(url, &config::Store::default(), true).is_err(), "{url}");
        }
    }
}
