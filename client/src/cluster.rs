//! The nodes of the cluster: who is a member, who leads, and changing either.
//!
//! Each change may be repeated, and is: a retry of one that was done answers the cluster as it is.

use reqwest::Method;
use serde::Serialize;
use tidelog_api::cluster::{AddNode, Cluster, RemoveNode, ReplaceNode, TransferLeader};

use crate::call::{Call, Safety};
use crate::client::Client;
use crate::error::Result;

impl Client {
    /// The members of the cluster, who leads, and how far each is.
    ///
    /// # Errors
    /// `unavailable` without a leader.
    pub async fn cluster(&self) -> Result<Cluster> {
        Call::new(self, Method::GET, &["v1", "admin", "cluster"], Safety::Repeatable)?.send_for(self).await
    }

    /// Takes the node at `address` (`host:port` of its peer listener) in; it votes once it has caught up.
    ///
    /// # Errors
    /// `node_exists`, `node_identity_mismatch`, `cluster_mismatch`; `timeout` if it has not caught up yet: ask again.
    pub async fn add_node(&self, node: u64, address: &str) -> Result<Cluster> {
        self.change("nodes:add", &AddNode { node, address: address.to_owned() }).await
    }

    /// Takes a node out of the cluster.
    ///
    /// # Errors
    /// `invalid_membership` if it is the last voter, or if too few of the others answer.
    pub async fn remove_node(&self, node: u64) -> Result<Cluster> {
        self.change("nodes:remove", &RemoveNode { node }).await
    }

    /// Takes the node `by` at `address` in, and then `node` out.
    ///
    /// # Errors
    /// Those of [`Client::add_node`] and [`Client::remove_node`].
    pub async fn replace_node(&self, node: u64, by: u64, address: &str) -> Result<Cluster> {
        self.change("nodes:replace", &ReplaceNode { node, by, address: address.to_owned() }).await
    }

    /// Has another voter lead: this one, or the one that is furthest.
    ///
    /// # Errors
    /// `invalid_membership` if the node does not vote.
    pub async fn transfer_leader(&self, to: Option<u64>) -> Result<Cluster> {
        self.change("leader:transfer", &TransferLeader { to }).await
    }

    /// Has the server that is asked now give its leadership away and end its process; no other server is asked instead.
    ///
    /// # Errors
    /// It could not give its leadership away; it goes on running then.
    pub async fn drain(&self) -> Result<Cluster> {
        let call = Call::new(self, Method::POST, &["v1", "admin", "drain"], Safety::Once)?;
        call.pinned(self).send_for(self).await
    }

    async fn change(&self, route: &str, body: &impl Serialize) -> Result<Cluster> {
        Call::new(self, Method::POST, &["v1", "admin", route], Safety::Repeatable)?.json(body)?.send_for(self).await
    }
}
