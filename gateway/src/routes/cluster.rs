//! The nodes of the cluster: who is a member, who leads, and changing either. Any node takes any of these requests.

use axum::response::Response;
use http::StatusCode;
use tidelog::config::is_host_and_port;
use tidelog::error::Error;
use tidelog::model::id::MAX_SAFE_INTEGER;
use tidelog::model::{ClusterStatus, GroupStatus, MemberStatus, NodeId, NodeProfile};
use tidelog_api::ErrorBody;
use tidelog_api::cluster::{AddNode, Cluster, Member, RemoveNode, ReplaceNode, Replica, Shard, TransferLeader};

use super::call::Call;
use super::json;
use crate::error::Result;

/// A name of a machine has at most 253 characters, a port five.
const MAX_ADDRESS_LEN: usize = 253 + 1 + 5;

/// The members of the cluster, who leads, and how far each is
#[utoipa::path(get, path = "/v1/admin/cluster", tag = "operation",
    responses((status = 200, body = Cluster), (status = "default", body = ErrorBody)))]
pub(crate) async fn describe(call: Call) -> Result<Response> {
    let app = call.finish()?;
    answer(app.queue().cluster().await?)
}

/// Take a node in: as a learner, and as a voter once it has caught up
#[utoipa::path(post, path = "/v1/admin/nodes:add", tag = "operation", request_body = AddNode,
    responses((status = 200, body = Cluster), (status = "default", body = ErrorBody)))]
pub(crate) async fn add(call: Call) -> Result<Response> {
    let (app, request) = call.json::<AddNode>().await?;
    let (node, address) = (node(request.node)?, address(request.address)?);
    tracing::info!(%node, address, "an operator adds a node");
    answer(app.queue().add_node(node, address).await?)
}

/// Take a node out; its id is not used again
#[utoipa::path(post, path = "/v1/admin/nodes:remove", tag = "operation", request_body = RemoveNode,
    responses((status = 200, body = Cluster), (status = "default", body = ErrorBody)))]
pub(crate) async fn remove(call: Call) -> Result<Response> {
    let (app, request) = call.json::<RemoveNode>().await?;
    let node = node(request.node)?;
    tracing::info!(%node, "an operator removes a node");
    answer(app.queue().remove_node(node).await?)
}

/// Take a node in and another one out
#[utoipa::path(post, path = "/v1/admin/nodes:replace", tag = "operation", request_body = ReplaceNode,
    responses((status = 200, body = Cluster), (status = "default", body = ErrorBody)))]
pub(crate) async fn replace(call: Call) -> Result<Response> {
    let (app, request) = call.json::<ReplaceNode>().await?;
    let (old, new, address) = (node(request.node)?, node(request.by)?, address(request.address)?);
    if old == new {
        return Err(invalid("a node is replaced by one with another id: ids are never used again"));
    }
    tracing::info!(%old, %new, address, "an operator replaces a node");
    answer(app.queue().replace_node(old, new, address).await?)
}

/// Have another voter lead
#[utoipa::path(post, path = "/v1/admin/leader:transfer", tag = "operation", request_body = TransferLeader,
    responses((status = 200, body = Cluster), (status = "default", body = ErrorBody)))]
pub(crate) async fn transfer(call: Call) -> Result<Response> {
    let (app, request) = call.json::<TransferLeader>().await?;
    let to = request.to.map(node).transpose()?;
    tracing::info!(?to, "an operator moves the leadership");
    answer(app.queue().transfer_leader(to).await?)
}

/// Give the node's leadership away and end its process, as a rolling upgrade does
#[utoipa::path(post, path = "/v1/admin/drain", tag = "operation",
    responses((status = 200, body = Cluster), (status = "default", body = ErrorBody)))]
pub(crate) async fn drain(call: Call) -> Result<Response> {
    let app = call.finish()?;
    let cluster = app.queue().drain().await?;
    tracing::info!(node = cluster.node.0, "an operator drains the node");
    app.hooks().stop();
    answer(cluster)
}

fn node(id: u64) -> Result<NodeId> {
    match id {
        1..=MAX_SAFE_INTEGER => Ok(NodeId(id)),
        _ => Err(invalid(format!("node: {id} is not a number from 1 to 2^53 - 1"))),
    }
}

/// Refuses what nobody could connect to; whether anybody listens there the engine finds out.
fn address(text: String) -> Result<String> {
    if is_host_and_port(&text) && text.len() <= MAX_ADDRESS_LEN {
        return Ok(text);
    }
    Err(invalid(format!("address: {text:?} is not host:port")))
}

fn invalid(message: impl Into<String>) -> crate::error::ApiError {
    Error::invalid("invalid_node", message).into()
}

fn answer(cluster: ClusterStatus) -> Result<Response> {
    json(StatusCode::OK, &body(cluster))
}

fn body(cluster: ClusterStatus) -> Cluster {
    let member = |known: MemberStatus| {
        let profile = cluster.profiles.iter().find(|profile| profile.node == known.node);
        member(known, profile)
    };
    Cluster {
        cluster_id: cluster.cluster_id,
        node: cluster.node.0,
        leader: cluster.leader.map(|NodeId(id)| id),
        term: cluster.term,
        members: cluster.members.into_iter().map(member).collect(),
        shards: cluster.shards.into_iter().map(shard).collect(),
    }
}

fn member(member: MemberStatus, profile: Option<&NodeProfile>) -> Member {
    Member {
        node: member.node.0,
        address: member.address,
        directory: member.directory,
        voter: member.voter,
        is_leader: member.is_leader,
        matched: member.matched,
        lag: member.lag,
        reachable: member.reachable,
        version: profile.map(|profile| profile.version.clone()),
        roles: profile.map(|profile| profile.roles.clone()).unwrap_or_default(),
    }
}

fn shard(shard: GroupStatus) -> Shard {
    let replica = |member: MemberStatus| Replica {
        node: member.node.0,
        voter: member.voter,
        matched: member.matched,
        lag: member.lag,
        reachable: member.reachable,
    };
    Shard {
        shard: shard.shard.0,
        health: shard.health().name().to_owned(),
        leader: shard.leader.map(|NodeId(id)| id),
        term: shard.term,
        applied: shard.applied,
        committed: shard.committed,
        flushed: shard.flushed,
        members: shard.members.into_iter().map(replica).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for good in ["127.0.0.1:7075", "node-1.internal:1", "[::1]:7075", "a:65535"] {
            assert_eq!(address(good.to_owned()).unwrap(), good);
        }
        let long = format!("{}:1", "x".repeat(300));
        for bad in ["", "host", ":1", "host:", "host:0", "host:65536", "a b:1", "http://a:1", &long] {
            let error = address(bad.to_owned()).unwrap_err();
            assert_eq!(error.code(), tidelog_api::ErrorCode::InvalidNode, "{bad}");
        }
    }

    #[test]
    fn ids_are_what_json_keeps_exact() {
        assert_eq!(node(1).unwrap(), NodeId(1));
        assert_eq!(node(MAX_SAFE_INTEGER).unwrap(), NodeId(MAX_SAFE_INTEGER));
        assert!(node(0).is_err() && node(MAX_SAFE_INTEGER + 1).is_err());
    }
}
