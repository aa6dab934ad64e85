//! Mutual TLS: who is believed, and what a change of the files does.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::peer::tls::nodes_of;

/// An authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key for DNS names, as PEM.
    fn issue(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// The files of one node.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new(believed: &Authority, by: &Authority, names: &[&str]) -> Self {
        let files = Self { directory: tempfile::tempdir().unwrap() };
        files.write(&[believed], by, names);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces the files, each at once as a tool that rotates them does.
    fn write(&self, believed: &[&Authority], by: &Authority, names: &[&str]) {
        let (cert, key) = by.issue(names);
        let ca: String = believed.iter().map(|authority| authority.pem.as_str()).collect();
        for (name, text) in [("cert.pem", cert), ("key.pem", key), ("ca.pem", ca)] {
            replace(&self.path(name), &text);
        }
    }

    fn settings(&self) -> config::Peer {
        let tls = config::PeerTls {
            cert: Some(self.path("cert.pem")),
            key: Some(self.path("key.pem")),
            ca: Some(self.path("ca.pem")),
        };
        config::Peer { tls, connect_timeout: Duration::from_secs(10), ..super::settings() }
    }

    fn peers(&self, node: u64) -> Peers {
        Peers::new(local(node), &self.settings()).unwrap()
    }
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

#[tokio::test]
async fn nodes_of_one_authority_call_each_other() {
    let ca = Authority::new();
    let node = Node::start(2, &Files::new(&ca, &ca, &["node-2.tidelog", "host.example"]).settings()).await;
    let files = Files::new(&ca, &ca, &["node-1.tidelog"]);
    let peers = files.peers(1);
    let large = Bytes::from(vec![9; 12 << 20]);
    let answer = peers.call(&node.target, SHARD, ECHO, vec![large.clone()], LONG).await.unwrap();
    assert!(answer == large);
    let answer = peers.call(&node.target, SHARD, WHO, vec![], LONG).await.unwrap();
    assert_eq!(answer, format!("1 {}", directory(1)));
}

#[tokio::test]
async fn a_caller_of_a_foreign_authority_is_not_heard() {
    let (ca, foreign) = (Authority::new(), Authority::new());
    let node = Node::start(2, &Files::new(&ca, &ca, &["node-2.tidelog"]).settings()).await;
    // It believes the node, but is not believed itself.
    let files = Files::new(&ca, &foreign, &["node-1.tidelog"]);
    not_sent(echo(&files.peers(1), &node.target).await, "peer_unreachable");
    assert_eq!(node.handled(), 0);
}

#[tokio::test]
async fn a_node_of_a_foreign_authority_is_not_called() {
    let (ca, foreign) = (Authority::new(), Authority::new());
    // The node believes everybody who matters here.
    let node = Node::start(2, &Files::new(&ca, &foreign, &["node-2.tidelog"]).settings()).await;
    let files = Files::new(&ca, &ca, &["node-1.tidelog"]);
    not_sent(echo(&files.peers(1), &node.target).await, "peer_unreachable");
    assert_eq!(node.handled(), 0);
}

#[tokio::test]
async fn a_gateway_has_a_certificate_of_its_own_or_that_of_a_node() {
    let ca = Authority::new();
    let node = Node::start(2, &Files::new(&ca, &ca, &["node-2.tidelog"]).settings()).await;
    for name in ["gateway.tidelog", "node-7.tidelog"] {
        let files = Files::new(&ca, &ca, &[name]);
        echo(&files.peers(0), &node.target).await.unwrap();
    }
    // The certificate of a gateway makes nobody a node, and other names make nobody a gateway.
    for (name, number) in [("gateway.tidelog", 1), ("node-0.tidelog", 0), ("*.tidelog", 0), ("host.example", 0)] {
        let files = Files::new(&ca, &ca, &[name]);
        assert_eq!(
            Peers::new(local(number), &files.settings()).map(drop).unwrap_err().code(),
            "invalid_settings",
            "{name}"
        );
    }
    let liar = Files::new(&ca, &ca, &["gateway.tidelog"]);
    let pretending = liar.peers(0).pretending(local(1));
    not_sent(echo(&pretending, &node.target).await, "node_identity_mismatch");
}

#[tokio::test]
async fn a_caller_is_who_its_certificate_names() {
    let ca = Authority::new();
    let node = Node::start(2, &Files::new(&ca, &ca, &["node-2.tidelog"]).settings()).await;
    let files = Files::new(&ca, &ca, &["node-1.tidelog", "node-3.tidelog"]);
    echo(&files.peers(1), &node.target).await.unwrap();
    echo(&files.peers(3), &node.target).await.unwrap();
    // What it says of itself is changed after its own check.
    let peers = files.peers(1);
    let liar = peers.pretending(local(4));
    not_sent(echo(&liar, &node.target).await, "node_identity_mismatch");
    assert_eq!(node.handled(), 2);
}

#[tokio::test]
async fn a_node_is_called_only_under_the_name_in_its_certificate() {
    let ca = Authority::new();
    let files = Files::new(&ca, &ca, &["node-1.tidelog"]);
    for name in ["node-3.tidelog", "*.tidelog", "Node-2.tidelog", "node-02.tidelog", "node-2.tidelog.example"] {
        let node = Node::start(2, &Files::new(&ca, &ca, &[name]).settings()).await;
        not_sent(echo(&files.peers(1), &node.target).await, "node_identity_mismatch");
        assert_eq!(node.handled(), 0, "{name}");
    }
}

#[tokio::test]
async fn without_a_certificate_nobody_gets_in_and_nobody_is_called() {
    let ca = Authority::new();
    let secured = Node::start(2, &Files::new(&ca, &ca, &["node-2.tidelog"]).settings()).await;
    not_sent(echo(&peers(1), &secured.target).await, "peer_unreachable");
    let plain = Node::start(2, &settings()).await;
    let files = Files::new(&ca, &ca, &["node-1.tidelog"]);
    not_sent(echo(&files.peers(1), &plain.target).await, "peer_unreachable");
    assert_eq!(secured.handled() + plain.handled(), 0);
}

#[tokio::test]
async fn certificates_are_read_again_and_old_connections_end() {
    let (old, new) = (Authority::new(), Authority::new());
    let node_files = Files::new(&old, &old, &["node-2.tidelog"]);
    let node = Node::start(2, &node_files.settings()).await;
    let stale = Files::new(&old, &old, &["node-1.tidelog"]);
    let rotated = Files::new(&old, &old, &["node-3.tidelog"]);
    let (stale_peers, peers) = (stale.peers(1), rotated.peers(3));
    echo(&stale_peers, &node.target).await.unwrap();
    echo(&peers, &node.target).await.unwrap();
    // Both authorities for a while, then only the new one.
    rotated.write(&[&old, &new], &new, &["node-3.tidelog"]);
    node_files.write(&[&new], &new, &["node-2.tidelog"]);
    // The node notices at its next connection; both connections of before end, and only one of them comes back.
    peers.reread().await;
    until_answered(&peers, &node.target).await;
    let refused = async {
        loop {
            match echo(&stale_peers, &node.target).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                result => break not_sent(result, "peer_unreachable"),
            }
        }
    };
    tokio::time::timeout(LONG, refused).await.unwrap();
    echo(&peers, &node.target).await.unwrap();
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_the_ones_before() {
    let ca = Authority::new();
    let node = Node::start(2, &Files::new(&ca, &ca, &["node-2.tidelog"]).settings()).await;
    let files = Files::new(&ca, &ca, &["node-1.tidelog"]);
    let peers = files.peers(1);
    // A key that does not belong to the certificate: a rotation that is half done.
    replace(&files.path("key.pem"), &ca.issue(&["node-1.tidelog"]).1);
    peers.reread().await;
    echo(&peers, &node.target).await.unwrap();
    fs::remove_file(files.path("ca.pem")).unwrap();
    peers.reread().await;
    echo(&peers, &node.target).await.unwrap();
}

#[tokio::test]
async fn files_that_cannot_be_used_stop_a_start() {
    let ca = Authority::new();
    let start = |files: &Files| Peers::new(local(1), &files.settings()).map(drop).unwrap_err();
    let good = || Files::new(&ca, &ca, &["node-1.tidelog"]);
    let other = start(&Files::new(&ca, &ca, &["node-2.tidelog"]));
    assert!(other.message().contains("does not name node-1.tidelog"), "{other:?}");
    for (name, text) in [
        ("cert.pem", String::new()),
        ("cert.pem", ca.pem.clone()),
        ("key.pem", ca.issue(&["node-1.tidelog"]).1),
        ("key.pem", "no key".to_owned()),
        ("ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned()),
        ("ca.pem", "x".repeat(2 << 20)),
    ] {
        let files = good();
        replace(&files.path(name), &text);
        let error = start(&files);
        assert_eq!(error.code(), "invalid_settings", "{name}: {error:?}");
        let error = PeerServer::bind(&files.settings()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{name}");
    }
    let files = good();
    fs::remove_file(files.path("key.pem")).unwrap();
    assert!(start(&files).message().contains("key.pem"));
}

#[test]
fn a_certificate_names_nodes_in_one_spelling() {
    let ca = Authority::new();
    let names =
        ["node-1.tidelog", "node-07.tidelog", "*.tidelog", "node-+9.tidelog", "node-12.tidelog", "node-.tidelog"];
    let names: Vec<_> = names.into_iter().map(str::to_owned).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &ca.issuer).unwrap();
    let nodes: Vec<_> = nodes_of(certificate.der()).unwrap().into_iter().collect();
    assert_eq!(nodes, [NodeId(1), NodeId(12)]);
}
