//! All shards of a node: opening the first, which has the catalog, and then every other one that the catalog counts.
//!
//! A shard is begun by its founder, with the members that the first shard has then (`founding`); the other nodes wait until its
//! leader adds them or sends them what they missed. A start from the bucket begins every shard before it begins the first, so that nothing
//! is served of a cluster that is there in part.
//!
//! | a crash right after | leaves |
//! |---|---|
//! | the directory of a shard was made | nothing that counts: it is made again |
//! | `node.json` says that the shard was begun | a directory that is there: whoever was to begin it goes on |
//! | the shard was begun | a log, from which it starts |

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::common::{Common, Endpoint};
use super::gate::AppendGate;
use super::life::Life;
use super::network::Network;
use super::{Shard, catalog, founding, open, topics};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::failpoint;
use crate::model::catalog::CATALOG_SHARD;
use crate::model::{BackgroundJob, LogIndex, NodeId, ShardId, TopicId};
use crate::raft::{Member, RaftNode, Start, WalPresence};
use crate::store::Bucket;

/// How often a node looks whether there are more shards.
const LOOK: Duration = Duration::from_millis(100);
/// How long the first leader may take to say how many shards there are.
const FOUNDING: Duration = Duration::from_secs(10);
/// Before a shard that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// With what the shards of a node are opened.
#[derive(Debug)]
pub(crate) struct ShardsOptions {
    /// All settings.
    pub(crate) config: Config,
    /// The process's clock.
    pub(crate) clock: Clock,
    /// This directory's place in the cluster, and with what it begins.
    pub(crate) life: Life,
    /// The bucket.
    pub(crate) bucket: Bucket,
    /// The peers; those that greet are answered already.
    pub(crate) network: Network,
}

/// The shards of a node; clones share them.
#[derive(Clone)]
pub(crate) struct Shards(Arc<Inner>);

pub(super) struct Inner {
    pub(super) common: Arc<Common>,
    pub(super) zero: Shard,
    /// A leader of every shard was reached once.
    pub(super) ready: AtomicBool,
    /// Until it is shut down.
    pub(super) network: Mutex<Option<Network>>,
}

impl From<Inner> for Shards {
    fn from(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }
}

impl Shards {
    /// Opens the first shard and those that it counts already; more are opened once it counts them. A sole voter leads all of
    /// them when this returns; a node of several may not know a leader yet, see [`Shards::is_ready`].
    ///
    /// # Errors
    /// `corrupt` for a damaged or lost log, `unavailable` if a sole voter does not lead, or the log's.
    pub(crate) async fn open(options: ShardsOptions) -> Result<Self> {
        let ShardsOptions { config, clock, life, bucket, network } = options;
        let Life { identity, start, others } = life;
        let joins = matches!(start, Start::Join);
        let endpoint = Endpoint {
            calls: network.calls(&identity)?,
            dispatch: network.dispatch().clone(),
            address: network.address_of(identity.node),
            identity,
        };
        let common = Common::new(config, clock, bucket, endpoint);
        let mut begun = Vec::new();
        for (shard, start) in others {
            begun.push(begin_again(&common, shard, start).await?);
        }
        let zero = open::start_node(&common, CATALOG_SHARD, start).await?;
        let zero = Box::pin(Shard::open(&common, zero, joins)).await?;
        for started in begun {
            Box::pin(Shard::open(&common, started, false)).await?;
        }
        if zero.is_sole_voter()
            && let Err(error) = catalog::raise(zero.leader(), &common).await
        {
            // Its leadership tries again.
            debug!(?error, "the number of shards could not be set at once");
        }
        match open_counted(&common, &zero).await {
            // It goes on with what it has, as a start does whose bucket is away.
            Err(error) if error.kind() == ErrorKind::Unavailable && !zero.is_sole_voter() => {
                warn!(?error, "a shard cannot be opened and this is tried again");
            }
            opened => opened?,
        }
        let (ready, network) = (AtomicBool::new(false), Mutex::new(Some(network)));
        let shards = Self(Arc::new(Inner { common, zero, ready, network }));
        shards.start();
        let waiting = shards.iter().map(|shard| async move { shard.reopened().await });
        join_all(waiting).await;
        Ok(shards)
    }

    fn start(&self) {
        let common = &self.0.common;
        let sampler = common.gate.clone();
        common.tasks.spawn("disk", async move {
            sampler.sample().await;
            None
        });
        let (common, zero) = (Arc::clone(&self.0.common), self.0.zero.clone());
        self.0.common.tasks.spawn("shards", async move { host(&common, &zero).await });
        let (common, zero) = (Arc::clone(&self.0.common), self.0.zero.clone());
        self.0.common.tasks.spawn("founding", async move {
            founding::watch(&common, &zero).await;
            None
        });
    }

    /// The first shard, which has the catalog.
    #[must_use]
    pub(crate) fn zero(&self) -> &Shard {
        &self.0.zero
    }

    /// A shard that is open here.
    #[must_use]
    pub(crate) fn get(&self, shard: ShardId) -> Option<&Shard> {
        self.0.common.shards.get(shard)
    }

    /// All that are open here, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Shard> {
        self.0.common.shards.iter().map(|(_, shard)| shard)
    }

    /// Whether appends are taken, and the budget that decides.
    #[must_use]
    pub(crate) fn gate(&self) -> &AppendGate {
        &self.0.common.gate
    }

    /// Whether a leader of every shard was reached once since the start.
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        if self.0.ready.load(Ordering::Acquire) {
            return true;
        }
        let ready = self.is_complete() && self.iter().all(Shard::is_ready);
        if ready {
            self.0.ready.store(true, Ordering::Release);
        }
        ready
    }

    /// Whether every shard that the catalog counts is open here, and it will not count more at once.
    fn is_complete(&self) -> bool {
        is_complete(&self.0.common, &self.0.zero)
    }

    /// Whether this node is the only voter of every shard.
    #[must_use]
    pub(crate) fn is_sole_voter(&self) -> bool {
        self.iter().all(Shard::is_sole_voter)
    }

    /// Pauses or resumes a background job of all shards.
    pub(crate) fn set_paused(&self, job: BackgroundJob, paused: bool) {
        self.iter().for_each(|shard| shard.set_paused(job, paused));
    }

    /// Closes every shard for appends and returns once checkpoints of the closed states are in the bucket: a start from it is
    /// clean only if all of them are. See [`Shard::close`].
    ///
    /// # Errors
    /// The log's, or that flushing has ended for ever.
    pub(crate) async fn close(&self) -> Result<()> {
        // All of them first, so that nothing is closed while the bucket is away.
        all(self.iter().map(Shard::flush_for_close)).await?;
        let closed = join_all(self.iter().map(Shard::close)).await;
        let nothing = |closed: &Result<()>| closed.as_ref().is_err_and(|error| error.outcome() == Outcome::NotWritten);
        let in_part = !closed.iter().all(nothing);
        closed.into_iter().collect::<Result<()>>().map_err(|error| if in_part { error.in_part() } else { error })
    }

    /// Returns why once the process has to end.
    pub(crate) async fn fatal(&self) -> String {
        self.0.common.tasks.fatal().await
    }

    /// Stops the tasks and the nodes; the logs stay as they are.
    pub(crate) async fn shutdown(&self) {
        self.0.common.tasks.abort();
        let network = self.0.network.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.iter().for_each(Shard::stop);
        if let Some(network) = network {
            network.shutdown().await;
        }
        join_all(self.iter().map(Shard::shutdown)).await;
    }

    /// Tells all shards what the catalog wants them to know of a topic since entry `changed`, and returns once that is visible.
    ///
    /// # Errors
    /// `timeout` if that is not so by `deadline`: the change takes effect later.
    pub(crate) async fn tell(&self, topic: TopicId, changed: LogIndex, deadline: Instant) -> Result<()> {
        topics::tell(&self.0.common.shards, topic, changed, deadline).await
    }

    /// Whether there is one shard, as far as this node knows.
    pub(crate) fn is_single(&self) -> bool {
        self.0.common.shards.get(ShardId(1)).is_none()
    }

    pub(super) fn common(&self) -> &Common {
        &self.0.common
    }
}

/// Waits for all; the first error, if there is one.
pub(super) async fn all(each: impl IntoIterator<Item = impl Future<Output = Result<()>>>) -> Result<()> {
    join_all(each).await.into_iter().collect()
}

/// While the cluster is founded, the number of shards that this node's settings ask for counts too: its leader is about to say it.
/// Not for long: the leader may have other settings.
fn is_complete(common: &Common, zero: &Shard) -> bool {
    if common.identity.node == NodeId::GATEWAY {
        return zero.is_ready() && common.count() >= u64::from(catalog::count(zero.leader()));
    }
    let node = zero.leader();
    let begun = common.begun.get_or_init(Instant::now);
    let wanted = if zero.is_ready() && begun.elapsed() > FOUNDING {
        catalog::count(node)
    } else {
        node.with_state(|state| catalog::wanted(state, &common.config))
    };
    common.count() >= u64::from(wanted)
}

/// Opens whatever the catalog counts and is not open yet, until dropped; answers why the process has to end.
async fn host(common: &Arc<Common>, zero: &Shard) -> Option<String> {
    loop {
        common.dispatch.profile().set_complete(is_complete(common, zero));
        match open_counted(common, zero).await {
            Ok(()) => tokio::time::sleep(LOOK).await,
            Err(error) if error.kind() == ErrorKind::Corrupt => return Some(error.to_string()),
            Err(error) => {
                warn!(?error, "a shard cannot be opened and this is tried again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn open_counted(common: &Arc<Common>, zero: &Shard) -> Result<()> {
    for shard in (1..catalog::count(zero.leader())).map(ShardId) {
        if common.shards.get(shard).is_some() {
            continue;
        }
        let start = start_of(common, zero, shard).await?;
        let joins = matches!(start, Start::Join);
        info!(%shard, start = start_name(&start), "a shard is opened");
        let started = open::start_node(common, shard, start).await?;
        Box::pin(Shard::open(common, started, joins)).await?;
    }
    Ok(())
}

/// With what a shard begins here that the catalog counts.
async fn start_of(common: &Common, zero: &Shard, shard: ShardId) -> Result<Start> {
    let presence = presence(common, shard).await?;
    if presence == WalPresence::Present {
        return Ok(Start::Wal);
    }
    let Some(node) = zero.leader().local() else { return Ok(Start::Join) };
    let me = common.identity.node;
    let is_founder = || node.with_state(|state| catalog::founder(state, shard)) == Some(me);
    let mut founds = presence == WalPresence::Empty && is_founder();
    if founds {
        // With whom a shard begins is final, and what a node that was away knows must not be what counts.
        node.linearize().await?;
        founds = is_founder();
    }
    let members = if founds { voters(node) } else { BTreeMap::new() };
    // One that is not a voter has nothing to begin, whoever was to begin it.
    if !members.contains_key(&me) {
        return Ok(Start::Join);
    }
    let members = founding::members_of(common, shard, members).await?;
    Ok(if members.contains_key(&me) { Start::New(members) } else { Start::Join })
}

/// What is here of a shard that is about to be opened; `node.json` says from now on that it was begun.
async fn presence(common: &Common, shard: ShardId) -> Result<WalPresence> {
    let dir = common.wal_dir();
    if common.dispatch.has_begun(shard) && !RaftNode::has_directory(&dir, shard) {
        let message = format!(
            "the log of shard {shard} is gone from {}: this node has forgotten how it voted; have another one take its place",
            dir.display()
        );
        return Err(Error::corrupt(message));
    }
    let directory = common.identity.directory;
    // It reads the whole log, and other shards are served already.
    let looking = crate::blocking::spawn(move || RaftNode::presence(&dir, directory, shard)).await;
    let presence = looking.map_err(|error| Error::internal("looking at a log panicked").with_source(error))??;
    common.dispatch.begun(shard).await?;
    failpoint::hit_async("shard.begun").await?;
    Ok(presence)
}

/// A shard of a start from the bucket, which may have broken off after this one.
async fn begin_again(common: &Common, shard: ShardId, start: Start) -> Result<open::Started> {
    let there = presence(common, shard).await? == WalPresence::Present;
    open::start_node(common, shard, if there { Start::Wal } else { start }).await
}

/// Who votes in the first shard.
pub(super) fn voters(zero: &RaftNode) -> BTreeMap<NodeId, Member> {
    let voters = zero.members().into_iter().filter(|member| member.voter);
    voters.map(|member| (member.node, Member { address: member.address, directory: member.directory })).collect()
}

fn start_name(start: &Start) -> &'static str {
    match start {
        Start::Wal => "from its log",
        Start::New(_) => "as its founder",
        Start::Join => "and waits for its leader",
        Start::Checkpoint(_) => "from the bucket",
    }
}
