//! TLS of a listener: one certificate, HTTP/1.1 and HTTP/2 by ALPN. Callers are known by their tokens, not by certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tidelog::config::ListenerTls;
use tidelog::error::Result;
use tidelog::metrics::certificate_in_force;
use tokio_rustls::TlsAcceptor;

use crate::reload::{Reloaded, unusable};

/// In the order in which the server likes them.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The certificate in force; connections that were made with an earlier one keep it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Tls(Arc<Reloaded<Arc<ServerConfig>>>);

impl Tls {
    /// The files of a listener, if it has any, read again when they change; the metrics say until when they are good.
    ///
    /// # Errors
    /// `invalid_settings` if they cannot be used.
    pub(super) fn open(settings: &ListenerTls, listener: &'static str) -> Result<Option<Self>> {
        let Some((cert, key)) = settings.files() else { return Ok(None) };
        let reloaded =
            Reloaded::open(vec![cert.clone(), key.clone()], move |files| read(&files[0], &files[1], listener))?;
        Ok(Some(Self(reloaded)))
    }

    /// What makes a connection of a stream, as of now.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.with(Arc::clone))
    }
}

fn read(cert: &PathBuf, key: &Path, listener: &'static str) -> Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| unusable(cert, error))?;
    if chain.is_empty() {
        return Err(unusable(cert, "there is no certificate in it"));
    }
    let ends: Vec<_> = chain.iter().map(|certificate| certificate.to_vec()).collect();
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error))?;
    // No provider of the whole process: whoever links this has one of its own, or none.
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
    let mut config = config.map_err(|error| unusable(cert, error))?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    certificate_in_force(listener, ends.iter().map(Vec::as_slice));
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn files(dir: &Path, name: &str) -> ListenerTls {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (cert, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        ListenerTls { cert: Some(cert), key: Some(key) }
    }

    #[tokio::test]
    async fn files_that_belong_together_are_taken_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (files(dir.path(), "one"), files(dir.path(), "two"));
        assert!(Tls::open(&ListenerTls::default(), "clients").unwrap().is_none());
        let tls = Tls::open(&one, "clients").unwrap().unwrap();
        assert_eq!(tls.acceptor().config().alpn_protocols, PROTOCOLS);
        for wrong in [
            ListenerTls { key: two.key.clone(), ..one.clone() },
            ListenerTls { cert: one.key.clone(), ..one.clone() },
            ListenerTls { key: one.cert.clone(), ..one.clone() },
            ListenerTls { key: Some(dir.path().join("none")), ..one.clone() },
        ] {
            let error = Tls::open(&wrong, "clients").err().unwrap();
            assert!(error.message().contains("cannot be used"), "{error}");
        }
        // A renewal of both files is in force for the connections that come.
        let before = tls.acceptor();
        std::fs::copy(two.cert.unwrap(), one.cert.as_ref().unwrap()).unwrap();
        tls.0.refresh();
        assert!(Arc::ptr_eq(before.config(), tls.acceptor().config()), "the key is not the certificate's yet");
        std::fs::copy(two.key.unwrap(), one.key.as_ref().unwrap()).unwrap();
        tls.0.refresh();
        assert!(!Arc::ptr_eq(before.config(), tls.acceptor().config()));
    }
}
