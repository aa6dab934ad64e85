//! Throw-away certificates: an authority that signs one certificate for each node and is forgotten then.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// The files of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) ca: PathBuf,
}

/// Makes certificates in `directory` of the nodes and gateways with these names, such as `node-1` and `gateway-1`; what was there
/// is replaced.
pub(super) fn make(directory: &Path, names: &[String]) -> Result<Vec<Certificate>> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "tidelog dev-cluster");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    let ca = directory.join("ca.pem");
    write(&ca, &authority.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(authority, key);
    names
        .iter()
        .map(|name| {
            // The names by which nodes know each other and the gateways; see docs/operations.md.
            let known = if name.starts_with("gateway") { "gateway" } else { name };
            let mut params = CertificateParams::new(vec![format!("{known}.tidelog")])?;
            params.distinguished_name.push(DnType::CommonName, format!("tidelog {name}"));
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate()?;
            let file = |ending: &str| directory.join(format!("{name}.{ending}"));
            let made = Certificate { cert: file("pem"), key: file("key"), ca: ca.clone() };
            write(&made.cert, &params.signed_by(&key, &issuer)?.pem())?;
            write(&made.key, &key.serialize_pem())?;
            Ok(made)
        })
        .collect()
}

/// Writes a file that only its owner reads.
fn write(path: &Path, text: &str) -> Result<()> {
    let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    open.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn every_node_has_a_certificate_and_a_key_that_only_its_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["node-1", "node-2", "gateway-1"].map(str::to_owned);
        let made = make(&dir.path().join("tls"), &names).unwrap();
        assert_eq!(made.len(), 3);
        for certificate in &made {
            for path in [&certificate.cert, &certificate.key, &certificate.ca] {
                let metadata = std::fs::metadata(path).unwrap();
                assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
                assert!(std::fs::read_to_string(path).unwrap().starts_with("-----BEGIN "));
            }
        }
        let first = std::fs::read(&made[0].cert).unwrap();
        assert_ne!(first, std::fs::read(&made[1].cert).unwrap());
        // Another run has others.
        assert_ne!(first, std::fs::read(&make(&dir.path().join("tls"), &names).unwrap()[0].cert).unwrap());
    }
}
