//! `[cluster]`: which node this is, and who begins the cluster.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::peer::is_host_and_port;
use super::{Config, units};

/// `[cluster]`: this node and the first ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// The number of this node, or `auto` for one above all that its peers know. A directory that has a number keeps it, unless it
    /// took it by `auto` and another directory was taken in with it first. `auto` is refused beside `peer.tls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeChoice>,
    /// The nodes of the first start, `id=host:port` of their peer listeners, the same on all of them; later only where to ask
    /// for the cluster, since the members are in the log. Empty for a cluster of one.
    pub nodes: Vec<ClusterNode>,
    /// Raft groups that the partitions are spread over, the same on all nodes. Not set, a cluster is founded with one for each of
    /// `nodes`, and keeps what it has. A larger number adds shards, which new partitions go to; there are never less.
    #[serde(with = "units::optional_count", skip_serializing_if = "Option::is_none")]
    pub shards: Option<u32>,
    /// How long the voter that is to lead a shard has been there and caught up before the leadership is handed to it; 0 leaves
    /// leaderships where they are. Shard k is led by the voter at place k of all, by number and around.
    #[serde(with = "units::duration")]
    pub balance_after: Duration,
    /// What this process does: `gateway` unless clients go to others, `wal` unless it only follows the nodes that keep the log, and
    /// `compactor` unless others convert.
    pub roles: Vec<Role>,
}

/// The setting `cluster.node_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeChoice {
    /// This one.
    Id(u64),
    /// The next that is free.
    Auto,
}

/// One of `cluster.nodes`: `id=host:port`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterNode {
    /// Its number.
    pub id: u64,
    /// Where its peer listener is.
    pub address: String,
}

/// One of `cluster.roles`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Serves clients.
    Gateway,
    /// Keeps the log and votes.
    Wal,
    /// Turns segments into Parquet.
    Compactor,
}

impl Role {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Wal => "wal",
            Self::Compactor => "compactor",
        }
    }
}

impl Config {
    /// The rules of `[cluster]`.
    pub(super) fn check_cluster(&self, problems: &mut Vec<String>) {
        let cluster = &self.cluster;
        cluster.check(problems);
        if !cluster.keeps_log() {
            self.check_gateway(problems);
        } else if !cluster.nodes.is_empty() && self.peer.listen.is_none() {
            problems
                .push("peer.listen: must be set beside cluster.nodes: the others have to reach this node".to_owned());
        }
        if cluster.node_id == Some(NodeChoice::Auto) && self.peer.tls.count() > 0 {
            problems.push(
                "cluster.node_id: \"auto\" and peer.tls exclude each other: a certificate names its node".to_owned(),
            );
        }
        if !cluster.serves_clients() && self.admin.listen.is_none() {
            problems.push(
                "admin.listen: must be set without the role \"gateway\": nothing else would say how the process is"
                    .to_owned(),
            );
        }
        // Whoever has a bucket of its own has a cluster of its own.
        let shared = self.bucket.as_deref().is_some_and(|url| !url.starts_with("memory:"));
        if (cluster.nodes.len() > 1 || !cluster.keeps_log()) && !shared {
            problems.push("bucket: must be set beside cluster.nodes, to one that all nodes share".to_owned());
        }
    }

    /// What a process without the role `wal` cannot have.
    fn check_gateway(&self, problems: &mut Vec<String>) {
        if self.cluster.nodes.is_empty() {
            problems.push(
                "cluster.nodes: must be set without the role \"wal\", so that the log's nodes are found".to_owned(),
            );
        }
        if self.cluster.node_id.is_some() {
            problems.push("cluster.node_id: a process without the role \"wal\" has no number".to_owned());
        }
        if self.peer.listen.is_some() {
            problems.push("peer.listen: nobody calls a process without the role \"wal\"".to_owned());
        }
    }
}

impl Cluster {
    /// Whether this process keeps a write-ahead log: otherwise it is a gateway, which follows those that do.
    #[must_use]
    pub fn keeps_log(&self) -> bool {
        self.roles.contains(&Role::Wal)
    }

    /// Whether this process listens for clients.
    #[must_use]
    pub fn serves_clients(&self) -> bool {
        self.roles.contains(&Role::Gateway)
    }

    /// Whether this process turns segments into Parquet, if `archive.enabled` lets it.
    #[must_use]
    pub fn is_compactor(&self) -> bool {
        self.roles.contains(&Role::Compactor)
    }

    /// What is wrong with the section by itself.
    fn check(&self, problems: &mut Vec<String>) {
        if self.node_id == Some(NodeChoice::Id(0)) {
            problems.push("cluster.node_id: node numbers begin with 1".to_owned());
        }
        if !self.nodes.is_empty() && self.node_id.is_none() && self.keeps_log() {
            problems.push(
                "cluster.node_id: must be set beside cluster.nodes, so that this node knows which it is".to_owned(),
            );
        }
        if self.nodes.is_empty() && self.node_id == Some(NodeChoice::Auto) {
            problems
                .push("cluster.node_id: \"auto\" needs cluster.nodes, to ask them which numbers are taken".to_owned());
        }
        for (at, node) in self.nodes.iter().enumerate() {
            if self.nodes[..at].iter().any(|other| other.id == node.id) {
                problems.push(format!("cluster.nodes: node {} is there twice", node.id));
            }
            if self.nodes[..at].iter().any(|other| other.address == node.address) {
                problems.push(format!("cluster.nodes: {} is there twice", node.address));
            }
        }
        if let Some(shards) = self.shards.filter(|shards| !(1..=MAX_SHARDS).contains(shards)) {
            problems.push(format!("cluster.shards: {shards} is not between 1 and {MAX_SHARDS}"));
        }
        if self.nodes.len() > MAX_FIRST_NODES {
            problems.push(format!("cluster.nodes: {} nodes are more than {MAX_FIRST_NODES}", self.nodes.len()));
        }
        if self.roles.is_empty() {
            problems.push("cluster.roles: must have at least one, or there is nothing to do".to_owned());
        }
    }
}

/// Every write waits for a majority; more than five voters make that slower and hardly safer.
const MAX_FIRST_NODES: usize = 5;
/// Shards that the catalog counts at most.
const MAX_SHARDS: u32 = 64;

impl fmt::Display for ClusterNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.id, self.address)
    }
}

impl From<ClusterNode> for String {
    fn from(node: ClusterNode) -> Self {
        node.to_string()
    }
}

impl TryFrom<String> for ClusterNode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for ClusterNode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a node such as \"1=host:7072\"");
        let (id, address) = text.split_once('=').ok_or_else(wrong)?;
        let id = id.trim().parse().ok().filter(|id| *id > 0).ok_or_else(wrong)?;
        let address = address.trim();
        is_host_and_port(address).then(|| Self { id, address: address.to_owned() }).ok_or_else(wrong)
    }
}

impl Serialize for NodeChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Id(id) => serializer.serialize_u64(*id),
            Self::Auto => serializer.serialize_str("auto"),
        }
    }
}

impl<'de> Deserialize<'de> for NodeChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl Visitor<'_> for Choice {
            type Value = NodeChoice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a node number or \"auto\"")
            }
            fn visit_u64<E: de::Error>(self, id: u64) -> Result<NodeChoice, E> {
                Ok(NodeChoice::Id(id))
            }
            fn visit_i64<E: de::Error>(self, id: i64) -> Result<NodeChoice, E> {
                u64::try_from(id).map(NodeChoice::Id).map_err(|_| E::custom("a node number is not negative"))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<NodeChoice, E> {
                match text {
                    "auto" => Ok(NodeChoice::Auto),
                    id => id
                        .parse()
                        .map(NodeChoice::Id)
                        .map_err(|_| E::custom(format!("{text:?} is not a node number or \"auto\""))),
                }
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn nodes_are_written_as_they_are_read() {
        for text in ["1=host:7072", "12=10.0.0.1:1", "3=[::1]:7072"] {
            assert_eq!(text.parse::<ClusterNode>().map(|node| node.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(" 2 = host:7 ".parse(), Ok(ClusterNode { id: 2, address: "host:7".to_owned() }));
        for wrong in
            ["host:1", "0=host:1", "x=host:1", "1=host", "1=:1", "1=host:0", "1=host:65536", "1=::1:7", "1=a b:1"]
        {
            assert!(wrong.parse::<ClusterNode>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cluster_needs_a_listener_and_a_bucket_that_its_nodes_share() {
        let problems = |text: &str| {
            let sources = Sources { file: Some(("t.toml".into(), text.to_owned())), ..Sources::default() };
            Config::load(&sources).map_or_else(|error| error.problems, |_| Vec::new())
        };
        let cluster = "[cluster]\nnode_id = 1\nnodes = [\"1=a:1\", \"2=b:1\"]\n";
        let found = problems(cluster);
        assert!(
            found.len() == 2 && found[0].starts_with("peer.listen:") && found[1].starts_with("bucket:"),
            "{found:?}"
        );
        let listen = format!("[peer]\nlisten = \"127.0.0.1:7072\"\n{cluster}");
        assert_eq!(problems(&format!("bucket = \"s3://b\"\n{listen}")), [""; 0]);
        let found = problems(&format!("bucket = \"memory:///\"\n{listen}"));
        assert!(found.len() == 1 && found[0].starts_with("bucket:"), "{found:?}");
        let tls = format!("bucket = \"s3://b\"\n[peer.tls]\ncert = \"c\"\nkey = \"k\"\nca = \"a\"\n{listen}");
        let found = problems(&tls.replace("node_id = 1", "node_id = \"auto\""));
        assert!(found.len() == 1 && found[0].starts_with("cluster.node_id:"), "{found:?}");
    }

    #[test]
    fn a_gateway_is_told_peers_and_a_bucket_and_has_no_number_or_listener() {
        let problems = |text: &str| {
            let sources = Sources { file: Some(("t.toml".into(), text.to_owned())), ..Sources::default() };
            Config::load(&sources).map_or_else(|error| error.problems, |_| Vec::new())
        };
        let gateway = "bucket = \"s3://b\"\n[cluster]\nroles = [\"gateway\", \"compactor\"]\n";
        let told = format!("{gateway}nodes = [\"1=a:1\"]\n");
        assert_eq!(problems(&told), [""; 0]);
        assert!(problems(gateway)[0].starts_with("cluster.nodes:"));
        assert!(problems(&format!("{told}node_id = 4\n"))[0].starts_with("cluster.node_id:"));
        assert!(problems(&format!("{told}[peer]\nlisten = \"127.0.0.1:7072\"\n"))[0].starts_with("peer.listen:"));
        assert!(problems(&told.replace("s3://b", "memory:///"))[0].starts_with("bucket:"));
        let grace = problems(&format!("{told}[gc]\ngrace = \"1h\"\n[fetch]\nview_age = \"15m\"\n"));
        assert!(grace.len() == 1 && grace[0].contains("fetch.view_age"), "{grace:?}");
    }

    #[test]
    fn who_serves_no_clients_answers_operators() {
        let problems = |text: &str| {
            let sources = Sources { file: Some(("t.toml".into(), text.to_owned())), ..Sources::default() };
            Config::load(&sources).map_or_else(|error| error.problems, |_| Vec::new())
        };
        for roles in ["\"wal\"", "\"wal\", \"compactor\""] {
            let text = format!("[cluster]\nroles = [{roles}]\n");
            assert_eq!(problems(&text), [""; 0], "{roles}");
            let found = problems(&format!("{text}[admin]\nlisten = \"none\"\n"));
            assert!(found.len() == 1 && found[0].starts_with("admin.listen:"), "{found:?}");
            // Nobody listens there.
            assert_eq!(problems(&format!("{text}[http]\nlisten = \"0.0.0.0:7070\"\n")), [""; 0], "{roles}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_told() {
        let nodes = |text: &str| text.split(' ').filter_map(|node| node.parse().ok()).collect::<Vec<ClusterNode>>();
        let check = |cluster: Cluster| {
            let mut problems = Vec::new();
            cluster.check(&mut problems);
            problems
        };
        let id = |id| Some(NodeChoice::Id(id));
        assert!(check(Cluster::default()).is_empty());
        let three = nodes("1=a:1 2=b:1 3=c:1");
        assert!(check(Cluster { node_id: id(4), nodes: three.clone(), ..Cluster::default() }).is_empty());
        for wrong in [
            Cluster { nodes: three, ..Cluster::default() },
            Cluster { node_id: Some(NodeChoice::Auto), ..Cluster::default() },
            Cluster { node_id: id(0), ..Cluster::default() },
            Cluster { node_id: id(1), nodes: nodes("1=a:1 1=b:1"), ..Cluster::default() },
            Cluster { node_id: id(1), nodes: nodes("1=a:1 2=a:1"), ..Cluster::default() },
            Cluster { node_id: id(1), nodes: nodes("1=a:1 2=b:1 3=c:1 4=d:1 5=e:1 6=f:1"), ..Cluster::default() },
            Cluster { roles: Vec::new(), ..Cluster::default() },
            Cluster { shards: Some(0), ..Cluster::default() },
            Cluster { shards: Some(65), ..Cluster::default() },
        ] {
            assert_eq!(check(wrong.clone()).len(), 1, "{wrong:?}");
        }
    }
}
