//! `[peer]`: how the nodes of a cluster reach each other, and the rules of its settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Config, units};

/// A body must be able to hold the largest command (64 MiB) and what is said about it.
const LEAST_BODY: u64 = 65 << 20;
/// What a head may announce; far above anything that is sent.
const LARGEST_BODY: u64 = 1 << 30;

/// `[peer]`: how the nodes of a cluster reach each other. Without `listen` a node is reached by nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Peer {
    /// Address and port of the listener for other nodes; port 0 takes a free one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// `host:port` under which other nodes reach this one; where it listens if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// Largest body of a request or an answer in bytes.
    #[serde(with = "units::size")]
    pub max_body: u64,
    /// Bytes that the bodies of other nodes' requests may hold at once, and those of their answers; more are refused.
    #[serde(with = "units::size")]
    pub memory: u64,
    /// How long making a connection may take, TLS and greeting included.
    #[serde(with = "units::duration")]
    pub connect_timeout: Duration,
    /// Listen beyond loopback without TLS: whoever reaches the port may write to the log.
    pub insecure: bool,
    /// Who this node is to the others, and whom it believes.
    pub tls: PeerTls,
}

/// `[peer.tls]`: PEM files, read again when they change; all three or none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerTls {
    /// This node's certificate, with the intermediate ones after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// The certificate's private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The authorities whose certificates are believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl PeerTls {
    /// How many of the three files are set.
    pub(super) fn count(&self) -> usize {
        [&self.cert, &self.key, &self.ca].into_iter().flatten().count()
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            listen: None,
            advertise: None,
            max_body: 80 << 20,
            memory: 256 << 20,
            connect_timeout: Duration::from_secs(1),
            insecure: false,
            tls: PeerTls::default(),
        }
    }
}

impl Config {
    /// The rules of `[peer]`.
    pub(super) fn check_peer(&self, problems: &mut Vec<String>) {
        let peer = &self.peer;
        let size = units::size::print;
        if peer.max_body < LEAST_BODY {
            problems.push(format!("peer.max_body: {} is less than {}", size(peer.max_body), size(LEAST_BODY)));
        }
        if peer.max_body > LARGEST_BODY {
            problems.push(format!("peer.max_body: {} is more than {}", size(peer.max_body), size(LARGEST_BODY)));
        }
        if peer.memory < peer.max_body {
            problems.push(format!("peer.memory: {} is less than peer.max_body", size(peer.memory)));
        }
        if peer.connect_timeout.is_zero() {
            problems.push("peer.connect_timeout: must not be 0".to_owned());
        }
        if ![0, 3].contains(&peer.tls.count()) {
            problems.push("peer.tls: needs all of cert, key and ca, or none".to_owned());
        }
        if let Some(address) = &peer.advertise
            && !is_host_and_port(address)
        {
            problems
                .push(format!("peer.advertise: {address:?} is not a host and a port such as \"node-1.example:7072\""));
        }
        let Some(listen) = peer.listen else {
            if peer.advertise.is_some() {
                problems.push("peer.advertise: is set without peer.listen".to_owned());
            }
            return;
        };
        if listen.ip().is_unspecified() && peer.advertise.is_none() {
            problems.push(format!("peer.listen: {listen} is no address that others can use: set peer.advertise"));
        }
        if !listen.ip().is_loopback() && peer.tls.count() == 0 && !peer.insecure {
            problems.push(format!(
                "peer.listen: {listen} is beyond loopback: set peer.tls.cert, peer.tls.key and peer.tls.ca, or peer.insecure"
            ));
        }
    }
}

/// Whether the text has a host and a port other than 0.
#[must_use]
pub fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let named = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || matches!(c, ':' | '/' | '@'));
        let numbered = bare.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
        (named || numbered) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::Sources;

    fn problems(text: &str) -> Vec<String> {
        let sources = Sources { file: Some((PathBuf::from("t.toml"), text.to_owned())), ..Sources::default() };
        Config::load(&sources).map_or_else(|error| error.problems, |_| Vec::new())
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for good in ["a:1", "node-1.example:7072", "10.0.0.1:65535", "[::1]:7072"] {
            assert!(is_host_and_port(good), "{good}");
        }
        for bad in ["", "a", ":1", "a:", "a:0", "a:65536", "a b:1", "http://a:1", "::1:7072", "[x]:1:2", "u@h:1"] {
            assert!(!is_host_and_port(bad), "{bad}");
        }
    }

    #[test]
    fn a_listener_beyond_loopback_needs_certificates_or_a_word() {
        let open = "[peer]\nlisten = \"10.0.0.1:7072\"\n";
        let found = problems(open);
        assert!(found.len() == 1 && found[0].starts_with("peer.listen:") && found[0].contains("insecure"), "{found:?}");
        assert_eq!(problems(&format!("{open}insecure = true\n")), [""; 0]);
        assert_eq!(problems(&format!("{open}[peer.tls]\ncert = \"c\"\nkey = \"k\"\nca = \"a\"\n")), [""; 0]);
        assert_eq!(problems("[peer]\nlisten = \"127.0.0.1:0\"\n"), [""; 0]);
    }

    #[test]
    fn settings_that_do_not_fit_together_are_reported() {
        let text = "[peer]\nmax_body = \"1MiB\"\nmemory = \"1KiB\"\nconnect_timeout = \"0s\"\nadvertise = \"x\"\n\
                    [peer.tls]\ncert = \"c\"\n";
        let found = problems(text);
        for key in ["peer.max_body", "peer.memory", "peer.connect_timeout", "peer.tls", "peer.advertise"] {
            assert!(found.iter().any(|problem| problem.starts_with(&format!("{key}:"))), "{key} in {found:#?}");
        }
        let found = problems("[peer]\nlisten = \"0.0.0.0:7072\"\ninsecure = true\n");
        assert!(found.len() == 1 && found[0].contains("peer.advertise"), "{found:?}");
    }

    #[test]
    fn files_of_a_nested_section_come_from_the_environment_too() {
        let sources = Sources {
            environment: vec![
                ("TIDELOG__PEER__TLS__CERT".to_owned(), "/a/cert.pem".to_owned()),
                ("TIDELOG__PEER__TLS__KEY".to_owned(), "/a/key.pem".to_owned()),
                ("TIDELOG__PEER__TLS__CA".to_owned(), "/a/ca.pem".to_owned()),
                ("TIDELOG__PEER__LISTEN".to_owned(), "127.0.0.1:7072".to_owned()),
            ],
            ..Sources::default()
        };
        let config = Config::load(&sources).unwrap();
        assert_eq!(config.peer.tls.ca, Some(PathBuf::from("/a/ca.pem")));
        assert_eq!(config.peer.listen.map(|address| address.port()), Some(7072));
        let printed = Sources { file: Some((PathBuf::from("t.toml"), config.to_toml())), ..Sources::default() };
        assert_eq!(Config::load(&printed), Ok(config));
    }
}
