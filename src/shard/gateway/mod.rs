//! A process that keeps no log: it follows every shard of a cluster that others keep, and does nothing that a leader does.
//!
//! It finds the cluster by the nodes that it was told of (`enrol`), opens the first shard and then all that the catalog counts.
//! Its own disk holds the block cache alone, so that nothing is lost with it, and any number of such processes may come and go.

mod enrol;
mod roster;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::{debug, info, warn};

use self::enrol::Told;
pub(super) use self::roster::Onlooker;
use super::adopt::BucketOrLeader;
use super::common::{Common, Endpoint};
use super::dispatch::Dispatch;
use super::host::{Inner as Hosted, Shards};
use super::network::Calls;
use super::open::start_batcher;
use super::profile::OwnProfile;
use super::roster::Roster;
use super::{Inner, Job, Jobs, Shard, archive_requests, life};
use crate::archive::Requests;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::flush::{self, FlushHandle};
use crate::model::ShardId;
use crate::model::catalog::CATALOG_SHARD;
use crate::peer::Wire;
use crate::raft::{Handle, NodeIdentity, Remote, RemoteOptions, Voter};
use crate::state::State;
use crate::store::Bucket;

/// The least between two looks whether there are more shards.
const LOOK: Duration = Duration::from_millis(10);
/// How often one that converts asks what is to be archived before its time.
const REQUESTS: Duration = Duration::from_secs(1);
/// How often the bucket is asked whether another life of the cluster has begun.
const LIFE: Duration = Duration::from_secs(30);

/// With what a gateway is opened.
pub(crate) struct GatewayOptions {
    /// All settings.
    pub(crate) config: Config,
    /// The process's clock.
    pub(crate) clock: Clock,
    /// The bucket.
    pub(crate) bucket: Bucket,
    /// Carries the calls in the place of TCP.
    pub(crate) wire: Option<Arc<dyn Wire>>,
}

impl Shards {
    /// Finds the cluster and follows its shards; returns once a node has said which cluster it is, whether it has a leader or not.
    ///
    /// # Errors
    /// `cluster_mismatch` if the bucket belongs to another cluster, `node_identity_mismatch` if the data directory has a log, or that
    /// the files of `peer.tls` cannot be used.
    pub(crate) async fn follow(options: GatewayOptions) -> Result<(Self, NodeIdentity)> {
        let GatewayOptions { config, clock, bucket, wire } = options;
        refuse_log(&config)?;
        let enrolled = enrol::enrol((&config, wire.as_ref()), &bucket).await?;
        let roles = config.cluster.roles.iter().map(|role| role.name().to_owned()).collect();
        let endpoint = Endpoint {
            identity: enrolled.identity.clone(),
            calls: Some(enrolled.calls),
            dispatch: Dispatch::new(config.wal_dir(), OwnProfile::new(roles)),
            address: String::new(),
        };
        let common = Common::new(config, clock, bucket, endpoint);
        let zero = Shard::follow(&common, CATALOG_SHARD, enrolled.members)?;
        let shards = Self::from(Hosted {
            common: Arc::clone(&common),
            zero: zero.clone(),
            ready: AtomicBool::new(false),
            network: Mutex::new(None),
        });
        let hosting = Arc::clone(&common);
        common.tasks.spawn("shards", async move { follow_counted(&hosting, &zero).await });
        let watching = Arc::clone(&common);
        common.tasks.spawn("bucket", async move { watch_bucket(&watching).await });
        Ok((shards, enrolled.identity))
    }
}

/// A directory of a node that keeps a log is not a gateway's: whoever starts it so has taken the wrong one, or the wrong role.
fn refuse_log(config: &Config) -> Result<()> {
    let dir = config.wal_dir();
    let Some(identity) = NodeIdentity::load(&dir)? else { return Ok(()) };
    let message = format!(
        "the directory {} has the write-ahead log of node {}: start it with the role \"wal\", or a gateway in another directory",
        dir.display(),
        identity.node
    );
    Err(Error::new(crate::error::ErrorKind::Conflict, "node_identity_mismatch", message))
}

/// Follows whatever the catalog counts and is not followed yet, until dropped; answers why the process has to end.
async fn follow_counted(common: &Arc<Common>, zero: &Shard) -> Option<String> {
    let mut applied = zero.leader().applied();
    loop {
        for shard in (1..zero.leader().with_state(State::shard_count)).map(ShardId) {
            if common.shards.get(shard).is_some() {
                continue;
            }
            info!(%shard, "a shard is followed");
            let members = match zero.leader() {
                Handle::Remote(remote) => remote.members(),
                Handle::Local(_) => Vec::new(),
            };
            if let Err(error) = Shard::follow(common, shard, members) {
                return Some(error.to_string());
            }
        }
        // As soon as one is counted: what is in it is asked for here then.
        tokio::time::sleep(LOOK).await;
        if applied.changed().await.is_err() {
            return None;
        }
    }
}

/// Answers why the process has to end: the bucket is of another cluster, or the cluster was started anew from it.
async fn watch_bucket(common: &Common) -> Option<String> {
    if let Some(why) = life::watch_bucket(&common.bucket, &common.identity).await {
        return Some(why);
    }
    loop {
        tokio::time::sleep(LIFE).await;
        if let Some(why) = life::is_over(&common.bucket, &common.identity).await {
            return Some(why);
        }
    }
}

impl Shard {
    /// Follows `shard` and puts it among the others.
    ///
    /// # Errors
    /// That this process calls nobody.
    fn follow(common: &Arc<Common>, shard: ShardId, members: Vec<Voter>) -> Result<Self> {
        let calls = common.calls_about(shard).ok_or_else(|| Error::internal("a gateway without calls to the nodes"))?;
        let remote = Remote::new(RemoteOptions {
            shard,
            incarnation: common.identity.incarnation,
            members,
            seeds: Arc::new(Told::new(calls.clone(), common.config.cluster.nodes.clone())),
            transport: Arc::new(calls.clone()),
            checkpoints: BucketOrLeader::new(shard, common.bucket.clone()),
            tail_memory: common.share(common.config.tail.memory),
            max_age: common.config.fetch.view_age,
            clock: common.clock.clone(),
        });
        let handle = Handle::from(remote.clone());
        let tasks = common.tasks.others();
        let onlooker = Onlooker::new(remote.clone(), common.identity.node, calls);
        let job = |name| Job::new(name, shard, common.clock.clone());
        let followed = Self(Arc::new(Inner {
            batcher: start_batcher(&tasks, &handle, Arc::new(|| Ok(())), &common.config),
            leader: handle.clone(),
            flush: FlushHandle::new(shard, 0),
            archive_requests: Requests::default(),
            jobs: Jobs { archive: job("archive"), gc: job("gc"), retention: job("retention") },
            tasks: tasks.clone(),
            members: Roster::Onlooker(onlooker.clone()),
            ready: Arc::new(AtomicBool::new(false)),
            open: None,
            checkpoints: None,
        }));
        if let Some(zero) = common.shards.get(CATALOG_SHARD) {
            followed.pause_as(zero);
        }
        common.shards.set(shard, followed.clone());
        common.share_out();
        let following = remote.clone();
        tasks.spawn("follow", async move { Some(following.follow().await) });
        followed.start_following(remote, handle, onlooker, common);
        Ok(followed)
    }

    fn start_following(&self, remote: Remote, handle: Handle, onlooker: Onlooker, common: &Common) {
        let (tasks, shard) = (&self.0.tasks, self.id());
        // A leader's, all of them.
        self.0.flush.rest();
        [&self.0.jobs.gc, &self.0.jobs.retention].into_iter().for_each(Job::rest);
        let contact = remote.clone();
        tasks.spawn("contact", async move {
            contact.stay_in_contact().await;
            None
        });
        let (flush, leader) = (self.0.flush.clone(), onlooker.clone());
        tasks.spawn("flush", async move {
            flush::follow(handle, flush, leader).await;
            None
        });
        let ready = Arc::clone(&self.0.ready);
        tasks.spawn("ready", async move {
            remote.ready().await;
            info!(%shard, "the shard was reached");
            ready.store(true, Ordering::Release);
            None
        });
        if common.config.cluster.is_compactor() {
            let requests = self.0.archive_requests.clone();
            tasks.spawn("archive_requests", async move {
                take_over(&onlooker, &requests).await;
                None
            });
        }
    }
}

/// Takes over what the nodes were asked to archive before its time, again and again: they tell each other, and not the gateways.
async fn take_over(onlooker: &Onlooker, requests: &Requests) {
    let mut known = Vec::new();
    let mut silent = false;
    loop {
        match archive_requests::ask(onlooker).await {
            Ok(found) => {
                silent = false;
                if found != known {
                    for (topic, targets) in &found {
                        requests.request(*topic, targets.iter().copied());
                    }
                    known = found;
                }
            }
            Err(error) if !std::mem::replace(&mut silent, true) => {
                warn!(?error, "no node says what is to be archived before its time");
            }
            Err(error) => debug!(?error, "no node says what is to be archived before its time"),
        }
        tokio::time::sleep(REQUESTS).await;
    }
}

/// Calls of a gateway to the nodes.
fn calls_of(identity: &NodeIdentity, (config, wire): (&Config, Option<&Arc<dyn Wire>>)) -> Result<Calls> {
    Calls::outgoing(identity, &config.peer, wire)
}
