//! `tidelog dev-cluster`: a cluster for trying it, of child processes of this binary with one local bucket, until Ctrl-C.
//!
//! The nodes are ordinary ones: what is done here with flags can be done by hand. They speak mutual TLS with each other. One that ends is reported and not started
//! again, so that it can be seen what the others do without it. All of them end with this process, however that ends.

mod certificates;
mod home;
mod node;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tidelog::config::Config;

use self::home::{Home, Shape};
use self::node::{Name, Node, Place};
use super::serve::signals::Signals;
use crate::args::DevClusterArgs;
use crate::exit::{note, usage};
use crate::output::Out;

/// How long all nodes may take to be ready.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// More than the nodes' own `shutdown.deadline`.
const END_DEADLINE: Duration = Duration::from_secs(20);
/// How often the nodes are looked at.
const POLL: Duration = Duration::from_millis(100);
/// Ports from one node to the next.
const STRIDE: u16 = 10;
/// From a node's port for clients to that for operators.
const ADMIN: u16 = 1;
/// From a node's port for clients to that for its peers.
const PEER: u16 = 5;

/// Starts the nodes, says where they are, and ends them at a signal.
pub(super) async fn run(args: &DevClusterArgs) -> Result<()> {
    let mut signals = Signals::new()?;
    let home = Home::open(args.data_dir.as_deref())?;
    let places = places(&home.shape(args.nodes, args.base_port)?, args.gateways)?;
    let mut nodes = Nodes::default();
    let names: Vec<String> = places.iter().map(|place| place.name.file()).collect();
    let certificates = certificates::make(&home.path().join("tls"), &names)?;
    for (place, certificate) in places.iter().zip(&certificates) {
        nodes.0.push(Node::start(place, &places, certificate, home.path())?);
    }
    let ready = tokio::select! {
        ready = nodes.ready() => ready.map(|()| true),
        _ = signals.next() => Ok(false),
    };
    let result = match ready {
        Ok(true) => {
            say(&nodes, &home)?;
            tokio::select! {
                _ = signals.next() => Ok(()),
                result = nodes.watch() => result,
            }
        }
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    signals.end_at_next();
    let ended = nodes.end().await;
    // Removed, if it was ours, only now that nobody writes into it.
    drop(home);
    result.and(ended)
}

/// Where each node listens, and after them each gateway.
fn places(shape: &Shape, gateways: u16) -> Result<Vec<Place>> {
    let names = (1..=shape.nodes).map(Name::Node).chain((1..=gateways).map(Name::Gateway));
    (0..)
        .zip(names)
        .map(|(number, name): (u16, Name)| {
            let client = shape.base_port.checked_add(number * STRIDE);
            let ports = client.and_then(|client| Some((client, client.checked_add(ADMIN)?, client.checked_add(PEER)?)));
            let (client, admin, peer) =
                ports.ok_or_else(|| usage("--base-port leaves no ports for that many nodes"))?;
            Ok(Place { name, client, admin, peer })
        })
        .collect()
}

/// The nodes, those that have ended included.
#[derive(Default)]
struct Nodes(Vec<Node>);

impl Nodes {
    /// Returns once every node is ready.
    async fn ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        for place in 0..self.0.len() {
            while !self.0[place].is_ready().await {
                if let Some(ended) = self.0.iter_mut().find_map(Node::take_end) {
                    bail!("{ended}");
                }
                if begun.elapsed() > READY_DEADLINE {
                    let node = &self.0[place];
                    bail!("{} is not ready after {READY_DEADLINE:?}; {}", node.place().name, node.last_words());
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Reports nodes that end; returns once none is left.
    async fn watch(&mut self) -> Result<()> {
        loop {
            tokio::time::sleep(POLL).await;
            for ended in self.0.iter_mut().filter_map(Node::take_end) {
                note(&ended);
            }
            if self.0.iter().all(Node::has_ended) {
                bail!("no node is left");
            }
        }
    }

    /// Asks all to end, and waits for it; one that does not is killed.
    async fn end(mut self) -> Result<()> {
        self.0.iter_mut().for_each(Node::ask_to_end);
        let begun = Instant::now();
        let mut failed = Vec::new();
        while !self.0.iter().all(Node::has_ended) {
            failed.extend(self.0.iter_mut().filter_map(Node::take_failure));
            if begun.elapsed() > END_DEADLINE {
                failed.extend(self.0.iter_mut().filter_map(Node::kill));
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
    }
}

/// Where the nodes are, and what can be done with them.
fn say(nodes: &Nodes, home: &Home) -> Result<()> {
    let urls: Vec<String> = nodes.0.iter().map(|node| node.place().url()).collect();
    let servers = urls.join(",");
    let admin: Vec<String> = nodes.0.iter().map(|node| node.place().admin_url()).collect();
    let (path, kept) = (home.path(), if home.is_kept() { "kept" } else { "removed at the end" });
    let config = Config { data_dir: path.to_owned(), ..Config::default() };
    let mut out = Out::new();
    for node in &nodes.0 {
        let (place, id) = (node.place(), node.id());
        let (url, admin, log) = (place.url(), place.admin_url(), node.log().display());
        out.line(&format!("{}  {url}  process {id}, operators {admin}, log {log}", place.name))?;
    }
    out.line(&format!("data    {} ({kept}), bucket {}", path.display(), config.bucket_url()?))?;
    out.line(&format!("produce echo hello | tidelog produce greetings --create --server {servers}"))?;
    out.line(&format!("consume tidelog consume greetings --server {servers}"))?;
    out.line(&format!("status  tidelog admin status --admin-server {}", admin.join(",")))?;
    out.line("Ctrl-C ends all of them")?;
    out.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_node_has_ports_of_its_own() {
        let places = |nodes, base_port| super::places(&Shape { nodes, base_port }, 1);
        let three = places(2, 7070).unwrap();
        let ports: Vec<[u16; 3]> = three.iter().map(|place| [place.client, place.admin, place.peer]).collect();
        assert_eq!(ports, [[7070, 7071, 7075], [7080, 7081, 7085], [7090, 7091, 7095]]);
        assert_eq!(three[2].url(), "http://127.0.0.1:7090");
        let names: Vec<String> = three.iter().map(|place| place.name.file()).collect();
        assert_eq!(names, ["node-1", "node-2", "gateway-1"]);
        assert!(places(5, 65_500).is_err());
    }
}
