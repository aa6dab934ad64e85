//! Mutual TLS between nodes: certificates of the cluster's own authorities, each naming its node, from files that are read again
//! when they change.
//!
//! A certificate names a node by the DNS name `node-{id}.tidelog`, and a gateway by `gateway.tidelog`, spelt out: a wildcard names
//! nobody, since who holds it would be everybody. Whoever may be a node may be a gateway. TLS 1.3 only, no resumption: a connection lives long, and each new one proves itself anew.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::sync::watch;

use crate::config;
use crate::error::{Error, Result};
use crate::metrics::certificate_in_force;
use crate::model::NodeId;

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(10);
const PROTOCOL: &[u8] = b"h2";
/// The DNS name by which certificates name gateways.
const GATEWAY: &str = "gateway.tidelog";
/// A file that is larger is no certificate or key.
const MAX_FILE: u64 = 1 << 20;

/// The DNS name by which certificates name a node.
pub(super) fn name_of(node: NodeId) -> String {
    if node == NodeId::GATEWAY {
        return GATEWAY.to_owned();
    }
    format!("node-{node}.tidelog")
}

/// Whether a certificate that names `nodes` lets its holder say that it is `node`.
pub(super) fn may_be(nodes: &BTreeSet<NodeId>, node: NodeId) -> bool {
    nodes.contains(&node) || (node == NodeId::GATEWAY && !nodes.is_empty())
}

/// The nodes that a certificate names, each by its exact name.
///
/// # Errors
/// If it is no certificate.
pub(super) fn nodes_of(certificate: &CertificateDer<'_>) -> Result<BTreeSet<NodeId>> {
    let certificate = webpki::EndEntityCert::try_from(certificate)
        .map_err(|error| Error::unavailable("a peer's certificate cannot be read").with_source(error))?;
    let nodes = certificate.valid_dns_names().filter_map(|name| {
        let node = match name {
            GATEWAY => NodeId::GATEWAY,
            name => NodeId(name.strip_prefix("node-")?.strip_suffix(".tidelog")?.parse().ok()?),
        };
        // One spelling only, and one that the verifier agrees with.
        let server = ServerName::try_from(name).ok().filter(|_| name == name_of(node))?;
        certificate.verify_is_valid_for_subject_name(&server).is_ok().then_some(node)
    });
    Ok(nodes.collect())
}

/// What the files said when they were last read, and a watch on them. Cheap to clone behind its `Arc`.
pub(super) struct Tls {
    files: Files,
    loaded: watch::Sender<Arc<Loaded>>,
    /// The files as they were when they could not be used; said once.
    unusable: Mutex<Option<Stamps>>,
}

/// One reading of the files.
pub(super) struct Loaded {
    stamps: Stamps,
    pub(super) client: Arc<ClientConfig>,
    pub(super) server: Arc<ServerConfig>,
    /// The nodes that this process may say it is.
    pub(super) nodes: BTreeSet<NodeId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
    ca: PathBuf,
}

/// Modification time in nanoseconds, length and inode of each file.
type Stamps = [(i128, u64, u64); 3];
/// Stands for files of which one is not there.
const GONE: Stamps = [(0, 0, 0); 3];

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files of `settings`, and follows them while the result lives. `None` if there are none.
    ///
    /// # Errors
    /// `invalid_settings` if some of them are missing or cannot be used.
    pub(super) fn open(settings: &config::PeerTls) -> Result<Option<Arc<Self>>> {
        let files = match (&settings.cert, &settings.key, &settings.ca) {
            (None, None, None) => return Ok(None),
            (Some(cert), Some(key), Some(ca)) => Files { cert: cert.clone(), key: key.clone(), ca: ca.clone() },
            _ => return Err(Error::invalid("invalid_settings", "peer.tls needs all of cert, key and ca, or none")),
        };
        let loaded = Arc::new(Loaded::read(&files)?);
        let tls = Arc::new(Self { files, loaded: watch::Sender::new(loaded), unusable: Mutex::default() });
        tokio::spawn(follow(Arc::downgrade(&tls)));
        Ok(Some(tls))
    }

    /// The files as they are now; as they were if they cannot be used.
    pub(super) async fn current(self: &Arc<Self>) -> Arc<Loaded> {
        let tls = Arc::clone(self);
        // A task that did not run leaves what there was.
        let _ = tokio::task::spawn_blocking(move || tls.refresh()).await;
        self.last()
    }

    /// What was read last.
    pub(super) fn last(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.borrow())
    }

    /// Resolves when something else than `loaded` has been read.
    pub(super) async fn changed(&self, loaded: &Arc<Loaded>) {
        let mut news = self.loaded.subscribe();
        // It fails when this is dropped, and then nobody waits.
        let _ = news.wait_for(|newest| !Arc::ptr_eq(newest, loaded)).await;
    }

    fn refresh(&self) {
        // One at a time, or an older reading might replace a newer one.
        let mut unusable = self.unusable.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.files.stamps().unwrap_or(GONE);
        if found == self.last().stamps || Some(found) == *unusable {
            return;
        }
        match Loaded::read(&self.files) {
            Ok(loaded) => {
                *unusable = None;
                self.loaded.send_replace(Arc::new(loaded));
                tracing::info!(cert = %self.files.cert.display(), "certificates were read again");
            }
            Err(error) => {
                *unusable = Some(found);
                tracing::warn!(?error, "certificates changed and cannot be used: the ones before stay");
            }
        }
    }
}

/// Looks at the files until nobody uses them any more.
async fn follow(tls: Weak<Tls>) {
    loop {
        tokio::time::sleep(POLL).await;
        let Some(tls) = tls.upgrade() else { return };
        tls.current().await;
    }
}

impl Files {
    fn stamps(&self) -> Result<Stamps> {
        Ok([stamp(&self.cert)?, stamp(&self.key)?, stamp(&self.ca)?])
    }
}

fn stamp(path: &Path) -> Result<(i128, u64, u64)> {
    let metadata = fs::metadata(path).map_err(|error| unusable(path, error))?;
    if metadata.len() > MAX_FILE {
        return Err(unusable(path, format!("it has {} bytes", metadata.len())));
    }
    let nanoseconds = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    Ok((nanoseconds, metadata.len(), metadata.ino()))
}

fn unusable(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::invalid("invalid_settings", format!("{} of peer.tls cannot be used", path.display())).with_source(source)
}

impl Loaded {
    fn read(files: &Files) -> Result<Self> {
        // Before the reading, so that a change in between is seen the next time.
        let stamps = files.stamps()?;
        let certificates = certificates(&files.cert)?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unusable(&files.key, error))?;
        let mut roots = RootCertStore::empty();
        for root in self::certificates(&files.ca)? {
            roots.add(root).map_err(|error| unusable(&files.ca, error))?;
        }
        let roots = Arc::new(roots);
        let ends: Vec<_> = certificates.iter().map(|certificate| certificate.to_vec()).collect();
        let nodes = certificates.first().map(nodes_of).transpose()?.unwrap_or_default();
        let client = client(Arc::clone(&roots), certificates.clone(), key.clone_key());
        let client = client.map_err(|error| unusable(&files.cert, error))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
        let verifier = verifier.map_err(|error| unusable(&files.ca, error))?;
        let server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| builder.with_client_cert_verifier(verifier).with_single_cert(certificates, key));
        let mut server = server.map_err(|error| unusable(&files.cert, error))?;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        server.send_tls13_tickets = 0;
        certificate_in_force("peers", ends.iter().map(Vec::as_slice));
        Ok(Self { stamps, client: Arc::new(client), server: Arc::new(server), nodes })
    }
}

fn client(
    roots: Arc<RootCertStore>,
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates, key)?;
    client.alpn_protocols = vec![PROTOCOL.to_vec()];
    client.resumption = Resumption::disabled();
    Ok(client)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificates of a PEM file, of which there has to be one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| unusable(path, error))?;
    if certificates.is_empty() {
        return Err(unusable(path, "there is no certificate in it"));
    }
    Ok(certificates)
}
