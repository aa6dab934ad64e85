//! This node among its peers: the listener, the calls to others, and what it needs of them for its own log.
//!
//! A node without a peer listener has a network too, in which there is nobody.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use uuid::Uuid;

use super::dispatch::Dispatch;
use super::hello::{HELLO, Hello};
use super::life::Peering;
use super::profile::OwnProfile;
use crate::config::{self, ClusterNode, Config};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{NodeId, ShardId};
use crate::peer::{Bound, CallError, Local, PeerServer, Peers, Target, Wire};
use crate::raft::{NodeIdentity, PeerAddress, Transport, TransportError};

/// How long a node is asked who it is.
const HELLO_DEADLINE: Duration = Duration::from_secs(1);

/// See the module.
pub struct Network {
    listening: Option<Listening>,
    dispatch: Dispatch,
}

struct Listening {
    config: Config,
    address: String,
    bound: Option<Bound>,
    server: Option<PeerServer>,
    /// The calls of this node, and who it is in them: it greets others before it has its number.
    calls: Mutex<Option<(Uuid, Peers)>>,
    /// Carries the calls in the place of TCP.
    wire: Option<Arc<dyn Wire>>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = self.listening.as_ref().map(|listening| &listening.address);
        f.debug_struct("Network").field("address", &address).finish_non_exhaustive()
    }
}

impl Network {
    /// Takes the port of the peer listener, if there is to be one, or its place on `wire`. Nobody is answered yet.
    ///
    /// # Errors
    /// `peer_listen` if the address or the files of `peer.tls` cannot be used.
    pub async fn bind(config: &Config, wal_dir: &Path, wire: Option<Arc<dyn Wire>>) -> Result<Self> {
        let roles = config.cluster.roles.iter().map(|role| role.name().to_owned()).collect();
        let dispatch = Dispatch::new(wal_dir.to_owned(), OwnProfile::new(roles));
        let Some(listen) = config.peer.listen else { return Ok(Self { listening: None, dispatch }) };
        let bound = match &wire {
            Some(wire) => PeerServer::on(Arc::clone(wire), &config.peer),
            None => PeerServer::bind(&config.peer).await,
        };
        let bound = bound.map_err(|error| {
            Error::new(ErrorKind::Unavailable, "peer_listen", format!("cannot listen for peers on {listen}"))
                .with_source(error)
        })?;
        let listening = Listening {
            config: config.clone(),
            address: bound.advertised(),
            bound: Some(bound),
            server: None,
            calls: Mutex::default(),
            wire,
        };
        Ok(Self { listening: Some(listening), dispatch })
    }

    /// What answers the peers.
    pub(super) fn dispatch(&self) -> &Dispatch {
        &self.dispatch
    }

    /// Calls to peers on behalf of `identity`; `None` if this node has no peer listener.
    ///
    /// # Errors
    /// That the files of `peer.tls` cannot be used for that.
    pub(super) fn calls(&self, identity: &NodeIdentity) -> Result<Option<Calls>> {
        let Some(listening) = &self.listening else { return Ok(None) };
        let mut calls = listening.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, peers)) = &*calls
            && *known == identity.directory
        {
            return Ok(Some(Calls { peers: peers.clone(), shard: ShardId(0) }));
        }
        let settings = &listening.config.peer;
        let peers = match &listening.wire {
            Some(wire) => Peers::over(Arc::clone(wire), local(identity), settings),
            None => Peers::new(local(identity), settings)?,
        };
        *calls = Some((identity.directory, peers.clone()));
        Ok(Some(Calls { peers, shard: ShardId(0) }))
    }

    /// Answers nobody any more.
    pub(super) async fn shutdown(mut self) {
        self.dispatch.stop();
        if let Some(server) = self.listening.as_mut().and_then(|listening| listening.server.take()) {
            server.shutdown().await;
        }
    }
}

impl Peering for Network {
    fn open(&mut self, identity: &NodeIdentity, fresh: bool) -> Result<()> {
        self.dispatch.begin(identity.clone(), fresh);
        let Some(listening) = &mut self.listening else { return Ok(()) };
        let bound = listening.bound.take().ok_or_else(|| Error::internal("the peers are answered already"))?;
        listening.server = Some(bound.serve(local(identity), Arc::new(self.dispatch.clone())));
        Ok(())
    }

    async fn hello(&self, identity: &NodeIdentity, node: &ClusterNode) -> Result<Hello> {
        let calls = self.calls(identity)?;
        let calls = calls.ok_or_else(|| Error::unavailable("this node has no peer listener"))?;
        calls.hello(NodeId(node.id), &node.address).await
    }

    fn address(&self, node: NodeId) -> String {
        self.address_of(node)
    }
}

impl Network {
    /// `host:port` at which the others reach this node, which is `node`; empty if they cannot. What they were told at the
    /// first start counts before where it listens.
    pub(super) fn address_of(&self, node: NodeId) -> String {
        let Some(listening) = &self.listening else { return String::new() };
        let told = listening.config.cluster.nodes.iter().find(|told| told.id == node.0);
        match (&listening.config.peer.advertise, told) {
            (None, Some(told)) => told.address.clone(),
            _ => listening.address.clone(),
        }
    }
}

fn local(identity: &NodeIdentity) -> Local {
    Local {
        cluster: identity.cluster.clone(),
        incarnation: identity.incarnation,
        node: identity.node,
        directory: identity.directory,
    }
}

/// Calls to peers about one shard.
#[derive(Clone)]
pub(super) struct Calls {
    peers: Peers,
    shard: ShardId,
}

impl Calls {
    /// Calls of a process that is called by nobody, about the first shard.
    ///
    /// # Errors
    /// That the files of `peer.tls` cannot be used for that.
    pub(super) fn outgoing(
        identity: &NodeIdentity,
        settings: &config::Peer,
        wire: Option<&Arc<dyn Wire>>,
    ) -> Result<Self> {
        let peers = match wire {
            Some(wire) => Peers::over(Arc::clone(wire), local(identity), settings),
            None => Peers::new(local(identity), settings)?,
        };
        Ok(Self { peers, shard: ShardId(0) })
    }

    /// Calls about `shard`, over the same connections.
    pub(super) fn about(&self, shard: ShardId) -> Self {
        Self { peers: self.peers.clone(), shard }
    }

    /// Asks whoever listens at `address` whether it is `node`, and what it knows.
    pub(super) async fn hello(&self, node: NodeId, address: &str) -> Result<Hello> {
        let target = Target { node, directory: Uuid::nil(), address: address.to_owned() };
        // Of the node, whichever shard this is about.
        let answer = self.peers.call(&target, ShardId(0), HELLO, Vec::new(), HELLO_DEADLINE).await;
        let hello = Hello::decode(&answer.map_err(CallError::into_error)?)?;
        if hello.node == node { Ok(hello) } else { Err(Error::internal("a node answered for another one")) }
    }

    /// Calls `target`.
    pub(super) async fn call(
        &self,
        target: &PeerAddress,
        kind: u8,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        self.peers.call(&named(target), self.shard, kind, vec![body], deadline).await
    }
}

impl Transport for Calls {
    fn call(
        &self,
        target: &PeerAddress,
        kind: u8,
        body: Vec<Bytes>,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let (peers, shard, target) = (self.peers.clone(), self.shard, named(target));
        async move {
            peers.call(&target, shard, kind, body, deadline).await.map_err(|error| match error {
                CallError::NotSent(error) => TransportError::NotSent(error),
                CallError::Answered(error) => TransportError::Answered(error),
                CallError::Unknown(error) => TransportError::Unknown(error),
            })
        }
        .boxed()
    }
}

fn named(target: &PeerAddress) -> Target {
    Target { node: target.node, directory: target.directory, address: target.address.clone() }
}
