//! Opening the engine: lock, bucket, life, shards, caches.

use std::sync::Arc;

use tracing::info;

use super::produce::Secured;
use super::{Inner, Queue, probe};
use crate::cache::BlockCache;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::fetch::Fetcher;
use crate::metrics::cost::BucketJob;
use crate::model::catalog::CATALOG_SHARD;
use crate::peer::Wire;
use crate::produce::{Admission, Sticky};
use crate::raft::{DirLock, NodeIdentity};
use crate::shard::{GatewayOptions, Network, Shards, ShardsOptions, Slots, life};
use crate::store::Bucket;

/// With what the engine is opened.
#[derive(Debug)]
pub struct Options {
    /// All settings, validated.
    pub config: Config,
    /// The process's clock.
    pub clock: Clock,
    /// A start from the bucket may lose records that were acknowledged after its newest checkpoint.
    pub restore: bool,
}

/// What takes the place of the network and the bucket under a node of a simulation. Its disk is what is mounted at its data
/// directory ([`crate::disk`]).
#[derive(Clone)]
pub struct Surroundings {
    /// The bucket.
    pub bucket: Bucket,
    /// Carries the calls between nodes; a node listens at `peer.listen`, or rather at `peer.advertise`.
    pub wire: Arc<dyn Wire>,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

/// What the engine is made of besides its shards.
struct Place {
    config: Config,
    identity: NodeIdentity,
    clock: Clock,
    bucket: Bucket,
    lock: DirLock,
}

impl Queue {
    /// Opens the engine on the data directory of `config`; serves when this returns.
    ///
    /// # Errors
    /// `data_dir_in_use` naming the holder; `unavailable` if the bucket refuses what this process has to do with it
    /// (`store.probe`); `peer_listen`; `unclean_bucket`, `cluster_mismatch`, `node_identity_mismatch`, `corrupt`; or the bucket's, if there is no
    /// write-ahead log to start from.
    pub async fn open(options: Options) -> Result<Self> {
        let Options { config, clock, restore } = options;
        let lock = DirLock::acquire(&config.data_dir, &config.http.listen.to_string())?;
        let url = config
            .bucket_url()
            .map_err(|error| Error::invalid("invalid_bucket", "the bucket cannot be named").with_source(error))?;
        let bucket = Bucket::open(&url, &config.store)?;
        probe::at_start(&bucket, &config).await?;
        Self::open_on(Options { config, clock, restore }, bucket, lock, None).await
    }

    /// As [`Queue::open`], on a bucket that the caller brings: tests decorate it.
    ///
    /// # Errors
    /// As [`Queue::open`].
    pub async fn open_with_bucket(options: Options, bucket: Bucket) -> Result<Self> {
        let lock = DirLock::acquire(&options.config.data_dir, &options.config.http.listen.to_string())?;
        Self::open_on(options, bucket, lock, None).await
    }

    /// As [`Queue::open`], in surroundings that the caller brings: a simulation.
    ///
    /// # Errors
    /// As [`Queue::open`].
    pub async fn open_within(options: Options, surroundings: Surroundings) -> Result<Self> {
        let lock = DirLock::acquire(&options.config.data_dir, &options.config.http.listen.to_string())?;
        Self::open_on(options, surroundings.bucket, lock, Some(surroundings.wire)).await
    }

    async fn open_on(options: Options, bucket: Bucket, lock: DirLock, wire: Option<Arc<dyn Wire>>) -> Result<Self> {
        if !options.config.cluster.keeps_log() {
            return Self::follow(options, bucket, (lock, wire)).await;
        }
        let Options { config, clock, restore } = options;
        let wal_dir = config.wal_dir();
        let mut network = Network::bind(&config, &wal_dir, wire).await?;
        let request = life::Request { wal_dir: &wal_dir, restore, now: clock.wall(), cluster: &config.cluster };
        // Boxed: both are large, and whoever opens holds what surrounds them too.
        let life = Box::pin(life::begin(&bucket, request, &mut network)).await?;
        let identity = life.identity.clone();
        let options =
            ShardsOptions { config: config.clone(), clock: clock.clone(), life, bucket: bucket.clone(), network };
        let shards = Box::pin(Shards::open(options)).await?;
        Self::over(shards, Place { config, identity, clock, bucket, lock }).await
    }

    /// Opens a process that keeps no log: it follows the cluster whose nodes it was told of, once one of them answers.
    async fn follow(options: Options, bucket: Bucket, (lock, wire): (DirLock, Option<Arc<dyn Wire>>)) -> Result<Self> {
        let Options { config, clock, restore: _ } = options;
        let (bucket_too, clock_too) = (bucket.clone(), clock.clone());
        let following = GatewayOptions { config: config.clone(), clock: clock_too, bucket: bucket_too, wire };
        let (shards, identity) = Box::pin(Shards::follow(following)).await?;
        Self::over(shards, Place { config, identity, clock, bucket, lock }).await
    }

    async fn over(shards: Shards, place: Place) -> Result<Self> {
        let Place { config, identity, clock, bucket, lock } = place;
        let cache = BlockCache::open(config.cache.memory, config.cache.disk, &config.cache_dir()).await;
        let fetchers = Slots::new();
        let node = shards.zero().leader().node().clone();
        fetchers
            .set(CATALOG_SHARD, Fetcher::new(node, bucket.on_behalf_of(BucketJob::Fetch), cache, config.fetch.clone()));
        let admission = Admission::new(config.produce.memory);
        info!(incarnation = identity.incarnation.0, bucket = bucket.url(), "the engine is open");
        let sticky = Arc::new(Sticky::new(rand::random()));
        let secured = Secured::default();
        Ok(Self(Arc::new(Inner {
            config,
            identity,
            clock,
            bucket,
            shards,
            fetchers,
            admission,
            sticky,
            secured,
            lock,
        })))
    }
}
