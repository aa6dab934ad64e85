//! `tidelog admin add-node`, `remove-node`, `replace-node`, `transfer-leader`, `drain`: the nodes of a cluster.
//!
//! All but `drain` may be repeated and are tried until their time is over; any node of the cluster takes them.

use std::time::{Duration, Instant};

use anyhow::Result;
use tidelog_api::cluster::{Cluster, Replica};

use super::{connect, connect_for};
use crate::args::AdminRemote;
use crate::exit::usage;
use crate::output::{self, Table};

/// How long a server may take to hear who leads, and between two looks.
const HEARSAY: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

/// Takes a node in.
pub(super) async fn add(remote: &AdminRemote, node: u64, address: &str, patience: Duration) -> Result<()> {
    let cluster = connect_for(remote, patience)?.add_node(node, address).await?;
    report(remote, &cluster, &format!("node {node} votes"))
}

/// Takes a node out.
pub(super) async fn remove(remote: &AdminRemote, node: u64, patience: Duration) -> Result<()> {
    let cluster = connect_for(remote, patience)?.remove_node(node).await?;
    report(
        remote,
        &cluster,
        &format!("node {node} is no member any more; it can be stopped, and its data directory deleted"),
    )
}

/// Takes a node in and another one out.
pub(super) async fn replace(remote: &AdminRemote, node: u64, new: (u64, &str), patience: Duration) -> Result<()> {
    let (by, address) = new;
    let cluster = connect_for(remote, patience)?.replace_node(node, by, address).await?;
    report(remote, &cluster, &format!("node {by} votes in the place of node {node}"))
}

/// Moves the leadership.
pub(super) async fn transfer(remote: &AdminRemote, to: Option<u64>, patience: Duration) -> Result<()> {
    let client = connect_for(remote, patience)?;
    let mut cluster = client.transfer_leader(to).await?;
    // Who was asked may hear of the new leader of a shard a moment later.
    let deadline = Instant::now() + HEARSAY;
    while cluster.shards.iter().any(|shard| shard.leader.is_none()) && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
        cluster = client.cluster().await?;
    }
    let mut leaders: Vec<Option<u64>> = cluster.shards.iter().map(|shard| shard.leader).collect();
    leaders.sort_unstable();
    leaders.dedup();
    let said = match leaders.as_slice() {
        [Some(node)] => format!("node {node} leads"),
        leaders if leaders.contains(&None) => "a shard has no leader yet".to_owned(),
        leaders => {
            let nodes: Vec<String> = leaders.iter().flatten().map(u64::to_string).collect();
            format!("nodes {} lead", nodes.join(", "))
        }
    };
    report(remote, &cluster, &said)
}

/// Has one node give its leadership away and end.
pub(super) async fn drain(remote: &AdminRemote) -> Result<()> {
    check_single(remote)?;
    let cluster = connect(remote)?.drain().await?;
    report(remote, &cluster, &format!("node {} ends", cluster.node))
}

/// For what is meant for one server: a list does not say which.
pub(super) fn check_single(remote: &AdminRemote) -> Result<()> {
    if remote.at.admin_server.contains(',') {
        return Err(usage("--admin-server names several servers: this is for one of them, name it alone"));
    }
    Ok(())
}

fn report(remote: &AdminRemote, cluster: &Cluster, what: &str) -> Result<()> {
    if remote.json { output::json(cluster) } else { output::line(what) }
}

/// The members as a table.
pub(super) fn members(cluster: &Cluster) -> Table {
    let mut table = Table::new(&["NODE", "VOTES", "LEADS", "PEER ADDRESS", "STATE", "VERSION", "ROLES", "DIRECTORY"]);
    for member in &cluster.members {
        let leads = cluster.shards.iter().filter(|shard| shard.leader == Some(member.node));
        let leads: Vec<String> = leads.map(|shard| shard.shard.to_string()).collect();
        table.row([
            member.node.to_string(),
            if member.voter { "voter" } else { "learner" }.to_owned(),
            or(leads.join(","), "none"),
            or(member.address.clone(), "none"),
            state(member.reachable).to_owned(),
            member.version.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
            or(member.roles.join(","), UNKNOWN),
            member.directory.to_string(),
        ]);
    }
    table
}

/// How far the members are in each shard, as its leader knows.
pub(super) fn shards(cluster: &Cluster) -> Table {
    let mut table =
        Table::new(&["SHARD", "HEALTH", "LEADER", "TERM", "APPLIED", "COMMITTED", "FLUSHED", "LAG OF THE OTHERS"]);
    for shard in &cluster.shards {
        let others = shard.members.iter().filter(|member| Some(member.node) != shard.leader);
        let lags: Vec<String> = others.map(|member| format!("{}: {}", member.node, lag(member))).collect();
        table.row([
            shard.shard.to_string(),
            shard.health.clone(),
            shard.leader.map_or_else(|| "none".to_owned(), |node| node.to_string()),
            shard.term.to_string(),
            shard.applied.to_string(),
            shard.committed.to_string(),
            shard.flushed.to_string(),
            or(lags.join(", "), "none"),
        ]);
    }
    table
}

/// What is shown of what nobody knows.
const UNKNOWN: &str = "unknown";

fn lag(member: &Replica) -> String {
    let lag = member.lag.map_or_else(|| UNKNOWN.to_owned(), |lag| lag.to_string());
    match (member.reachable, member.voter) {
        (Some(false), _) => format!("{lag} (away)"),
        (_, false) => format!("{lag} (learner)"),
        _ => lag,
    }
}

fn or(text: String, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text }
}

fn state(reachable: Option<bool>) -> &'static str {
    match reachable {
        Some(true) => "reachable",
        Some(false) => "away",
        None => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use tidelog_api::cluster::{Member, Shard};

    use super::*;
    use crate::args::AdminServer;
    use crate::remote::Credentials;

    #[test]
    fn members_and_shards_are_listed_with_what_is_known_of_them() {
        let member = |node: u64, voter: bool, lag: Option<u64>| Member {
            node,
            address: format!("h{node}:1"),
            directory: uuid::Uuid::from_u128(u128::from(node)),
            voter,
            is_leader: node == 1,
            matched: lag.map(|lag| 10 - lag),
            lag,
            reachable: lag.map(|lag| lag < 5),
            version: lag.map(|_| "1.2.3".to_owned()),
            roles: lag.map(|_| vec!["wal".to_owned()]).unwrap_or_default(),
        };
        let members = vec![member(1, true, Some(0)), member(2, true, Some(7)), member(3, false, None)];
        let replica = |member: &Member| Replica {
            node: member.node,
            voter: member.voter,
            matched: member.matched,
            lag: member.lag,
            reachable: member.reachable,
        };
        let shard = |shard: u32, leader: Option<u64>| Shard {
            shard,
            health: "good".to_owned(),
            leader,
            term: 4,
            applied: 9,
            committed: 10,
            flushed: 5,
            members: members.iter().map(replica).collect(),
        };
        let shards = vec![shard(0, Some(1)), shard(1, Some(2)), shard(2, Some(1)), shard(3, None)];
        let cluster =
            Cluster { cluster_id: "c".to_owned(), node: 2, leader: Some(1), term: 3, members: members.clone(), shards };
        let words = |table: &Table, count: usize| -> Vec<Vec<String>> {
            let words = |line: &String| line.split_whitespace().take(count).map(str::to_owned).collect();
            table.lines().iter().map(words).collect()
        };
        let lines = words(&super::members(&cluster), 7);
        assert_eq!(lines[1], ["1", "voter", "0,2", "h1:1", "reachable", "1.2.3", "wal"]);
        assert_eq!(lines[2], ["2", "voter", "1", "h2:1", "away", "1.2.3", "wal"]);
        assert_eq!(lines[3], ["3", "learner", "none", "h3:1", "unknown", "unknown", "unknown"]);
        let lines = super::shards(&cluster).lines();
        assert!(lines[1].contains("2: 7 (away), 3: unknown (learner)"), "{lines:?}");
        assert_eq!(words(&super::shards(&cluster), 7)[4], ["3", "good", "none", "4", "9", "10", "5"]);
    }

    #[test]
    fn one_server_is_named_alone() {
        let remote = |server: &str| {
            let at = AdminServer { admin_server: server.to_owned() };
            AdminRemote { at, credentials: Credentials::default(), json: false }
        };
        assert!(check_single(&remote("http://a:1")).is_ok());
        assert!(check_single(&remote("http://a:1,http://b:1")).is_err());
    }
}
