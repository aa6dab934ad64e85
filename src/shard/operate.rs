//! What operators ask of all shards of the cluster together. Each call may be repeated; see [`crate::queue::Queue`].

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use super::Shard;
use super::admin::Request;
use super::change::of_shard;
use super::host::Shards;
use super::profile::{OwnProfile, PROFILE, Profile};
use crate::error::Result;
use crate::model::catalog::CATALOG_SHARD;
use crate::model::{ClusterStatus, GroupStatus, NodeId, NodeProfile};

/// How long a node may take to say what it is.
const ASK_DEADLINE: Duration = Duration::from_secs(1);

/// A node that is about to end, and stays when this is dropped.
struct Stays<'a>(Option<&'a OwnProfile>);

impl Stays<'_> {
    /// It ends.
    fn not(mut self) {
        self.0 = None;
    }
}

impl Drop for Stays<'_> {
    fn drop(&mut self) {
        if let Some(profile) = self.0 {
            profile.set_draining(false);
        }
    }
}

impl Shards {
    /// The cluster as the leaders of its shards know it, or as this node does where one does not answer.
    pub(crate) async fn cluster(&self) -> ClusterStatus {
        let (shards, profiles) = tokio::join!(join_all(self.iter().map(Shard::status)), self.profiles());
        self.status_of(shards, profiles)
    }

    /// The members of the first shard as this node knows them.
    pub(crate) fn known(&self) -> ClusterStatus {
        self.status_of(self.iter().map(|shard| shard.members().known()).collect(), Vec::new())
    }

    /// Takes a node in.
    pub(crate) async fn add_node(&self, node: NodeId, address: String) -> Result<ClusterStatus> {
        self.change(Request::Add { node, address }).await
    }

    /// Takes a node out.
    pub(crate) async fn remove_node(&self, node: NodeId) -> Result<ClusterStatus> {
        self.change(Request::Remove { node }).await
    }

    /// Takes a node in and another one out.
    pub(crate) async fn replace_node(&self, old: NodeId, new: NodeId, address: String) -> Result<ClusterStatus> {
        self.change(Request::Replace { old, new, address }).await
    }

    /// Gives the leaderships of all shards to `to`, or each to the voter that is furthest.
    pub(crate) async fn transfer_leader(&self, to: Option<NodeId>) -> Result<ClusterStatus> {
        for shard in self.iter() {
            let moved = shard.members().run(Request::Transfer { to }).await;
            moved.map_err(|error| if shard.id() == CATALOG_SHARD { error } else { of_shard(shard.id(), &error) })?;
        }
        Ok(self.cluster().await)
    }

    /// As [`Self::leave`]; a node that could not give all of them away, or was not to after all, takes some again.
    pub(crate) async fn drain(&self) -> Result<ClusterStatus> {
        let stays = Stays(Some(self.common().dispatch.profile()));
        let left = self.leave().await?;
        stays.not();
        Ok(left)
    }

    /// Gives the leaderships away that this node has and others could take, and takes none any more.
    pub(crate) async fn leave(&self) -> Result<ClusterStatus> {
        self.common().dispatch.profile().set_draining(true);
        let drained = join_all(self.iter().map(|shard| async move {
            match shard.members().run_here(Request::Transfer { to: None }).await {
                // Nothing to hand over.
                Err(error) if error.code() == "not_leader" => Ok(()),
                drained => drained.map(drop),
            }
        }));
        drained.await.into_iter().collect::<Result<()>>()?;
        Ok(self.known())
    }

    /// The first shard's leader does it there, and then in all others.
    async fn change(&self, request: Request) -> Result<ClusterStatus> {
        self.zero().members().run(request).await?;
        Ok(self.cluster().await)
    }

    fn status_of(&self, shards: Vec<GroupStatus>, profiles: Vec<NodeProfile>) -> ClusterStatus {
        let identity = &self.common().identity;
        ClusterStatus::new(identity.cluster.clone(), identity.node, shards, profiles)
    }

    /// What the members say of themselves, by number; those that do not answer are left out.
    async fn profiles(&self) -> Vec<NodeProfile> {
        let common = self.common();
        let others = self.zero().members().others();
        let asked = others.iter().map(|other| async move {
            let answer = common.calls.as_ref()?.call(other, PROFILE, Bytes::new(), ASK_DEADLINE).await.ok()?;
            Some(profile(other.node, Profile::decode(&answer).ok()?))
        });
        let mut profiles: Vec<NodeProfile> = join_all(asked).await.into_iter().flatten().collect();
        if common.identity.node != NodeId::GATEWAY {
            profiles.push(profile(common.identity.node, common.dispatch.profile().now()));
        }
        profiles.sort_by_key(|profile| profile.node);
        profiles
    }
}

impl Shard {
    async fn status(&self) -> GroupStatus {
        // A request for the status has no failure: what this node knows is an answer too.
        self.members().run(Request::Status).await.unwrap_or_else(|_| self.members().known())
    }
}

fn profile(node: NodeId, profile: Profile) -> NodeProfile {
    NodeProfile { node, version: profile.version, roles: profile.roles }
}
