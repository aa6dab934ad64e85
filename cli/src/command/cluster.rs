//! `tidelog admin add-node`, `remove-node`, `replace-node`, `transfer-leader`, `drain`: the nodes of a cluster.
//!
//! All but `drain` may be repeated and are tried until their time is over; any node of the cluster takes them.

use std::time::Duration;

use anyhow::Result;
use tidelog_api::cluster::{Cluster, Member};

use super::{connect, connect_for};
use crate::args::AdminRemote;
use crate::exit::usage;
use crate::output::{self, Table};

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
    let cluster = connect_for(remote, patience)?.transfer_leader(to).await?;
    let leader = cluster.leader.map_or_else(|| "no node leads yet".to_owned(), |node| format!("node {node} leads"));
    report(remote, &cluster, &leader)
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
    let mut table = Table::new(&["NODE", "ROLE", "PEER ADDRESS", "MATCHED", "LAG", "STATE", "DIRECTORY"]);
    for member in &cluster.members {
        let number = |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
        table.row([
            member.node.to_string(),
            role(member).to_owned(),
            if member.address.is_empty() { "none".to_owned() } else { member.address.clone() },
            number(member.matched),
            number(member.lag),
            state(member).to_owned(),
            member.directory.to_string(),
        ]);
    }
    table
}

fn role(member: &Member) -> &'static str {
    match (member.is_leader, member.voter) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "learner",
    }
}

fn state(member: &Member) -> &'static str {
    match member.reachable {
        Some(true) => "reachable",
        Some(false) => "away",
        None => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::AdminServer;
    use crate::remote::Credentials;

    #[test]
    fn members_are_listed_with_what_is_known_of_them() {
        let member = |node: u64, voter: bool, lag: Option<u64>| Member {
            node,
            address: format!("h{node}:1"),
            directory: uuid::Uuid::from_u128(u128::from(node)),
            voter,
            is_leader: node == 1,
            matched: lag.map(|lag| 10 - lag),
            lag,
            reachable: lag.map(|lag| lag < 5),
        };
        let members = vec![member(1, true, Some(0)), member(2, true, Some(7)), member(3, false, None)];
        let cluster = Cluster { cluster_id: "c".to_owned(), node: 2, leader: Some(1), term: 3, members };
        let lines: Vec<Vec<String>> = super::members(&cluster)
            .lines()
            .iter()
            .map(|line| line.split_whitespace().take(6).map(str::to_owned).collect())
            .collect();
        assert_eq!(lines[1], ["1", "leader", "h1:1", "10", "0", "reachable"]);
        assert_eq!(lines[2], ["2", "voter", "h2:1", "3", "7", "away"]);
        assert_eq!(lines[3], ["3", "learner", "h3:1", "unknown", "unknown", "unknown"]);
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
