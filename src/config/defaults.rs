//! The defaults of every setting, in one place.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::peer::Peer;
use super::sections::{
    Archive, Cache, Fetch, Flush, Gc, Http, Idempotency, Log, LogFormat, Metrics, Produce, Producer, Raft, Retention,
    Shutdown, StartProbe, Store, Tail, TopicRules, Wal,
};
use super::{Admin, Auth, Cluster, Config, Cost, ListenerTls, Role};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn minutes(count: u64) -> Duration {
    secs(60 * count)
}

const fn hours(count: u64) -> Duration {
    minutes(60 * count)
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("tidelog-data"),
            bucket: None,
            http: Http::default(),
            admin: Admin::default(),
            auth: Auth::default(),
            store: Store::default(),
            flush: Flush::default(),
            wal: Wal::default(),
            tail: Tail::default(),
            cache: Cache::default(),
            fetch: Fetch::default(),
            produce: Produce::default(),
            gc: Gc::default(),
            archive: Archive::default(),
            retention: Retention::default(),
            producer: Producer::default(),
            idempotency: Idempotency::default(),
            topic: TopicRules::default(),
            raft: Raft::default(),
            cluster: Cluster::default(),
            peer: Peer::default(),
            shutdown: Shutdown::default(),
            log: Log::default(),
            metrics: Metrics::default(),
            cost: Cost::default(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7070)),
            cors_origins: Vec::new(),
            max_body: 16 * MIB,
            body_memory: 256 * MIB,
            max_connections: 8_192,
            max_followers: 1_024,
            read_timeout: secs(30),
            write_timeout: secs(60),
            max_connection_age: minutes(5),
            insecure: false,
            tls: ListenerTls::default(),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        let listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 7071)));
        Self { listen, tls: ListenerTls::default() }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            attempt_timeout: secs(30),
            deadline: minutes(2),
            concurrency: 64,
            probe: StartProbe::Refuse,
            hedge_percent: 5,
            checksums: true,
            archive_class: "STANDARD".to_owned(),
        }
    }
}

impl Default for Flush {
    fn default() -> Self {
        Self {
            bytes: 16 * MIB,
            interval: secs(10),
            metadata_interval: secs(60),
            checkpoint_gap: secs(1),
            uploads: 8,
            deadline: minutes(10),
        }
    }
}

impl Default for Wal {
    fn default() -> Self {
        Self {
            budget: 10 * GIB,
            keep: None,
            file_size: 16 * MIB,
            spare: GIB,
            min_free: GIB,
            min_free_percent: 5,
            reserve: 64 * MIB,
        }
    }
}

impl Default for Tail {
    fn default() -> Self {
        Self { memory: 256 * MIB }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self { memory: 256 * MIB, disk: 4 * GIB }
    }
}

impl Default for Fetch {
    fn default() -> Self {
        Self { memory: 256 * MIB, deadline: secs(60), bucket_deadline: secs(20), view_age: secs(30) }
    }
}

impl Default for Produce {
    fn default() -> Self {
        Self { memory: 128 * MIB, in_flight: 4, entry: 4 * MIB }
    }
}

impl Default for Gc {
    fn default() -> Self {
        Self { enabled: true, grace: hours(1), interval: minutes(10), list_limit: 100_000 }
    }
}

impl Default for Archive {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: secs(5),
            max_age: hours(24),
            file_size: 128 * MIB,
            workers: 1,
            job_size: 512 * MIB,
            claim: minutes(2),
            deadline: minutes(14),
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { interval: secs(30) }
    }
}

impl Default for Producer {
    fn default() -> Self {
        Self { expiry: hours(7 * 24), per_partition: 4_096 }
    }
}

impl Default for Idempotency {
    fn default() -> Self {
        Self { window: minutes(10), keys: 200_000 }
    }
}

impl Default for TopicRules {
    fn default() -> Self {
        Self { delete_grace: hours(24) }
    }
}

impl Default for Raft {
    fn default() -> Self {
        Self { election_min: millis(750), heartbeat: millis(150), clock_jump: hours(7 * 24) }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            node_id: None,
            nodes: Vec::new(),
            shards: None,
            balance_after: secs(5),
            roles: vec![Role::Gateway, Role::Wal, Role::Compactor],
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        // No delay: a single machine has no load balancer that would have to see it turn not ready.
        Self { drain_delay: Duration::ZERO, deadline: secs(10) }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            // The three parts of openraft tell of a node that is away with every heartbeat; we tell of it once.
            filter: "info,openraft=warn,openraft::replication=error,openraft::core::heartbeat=error,\
                      openraft::engine::handler::replication_handler=error,foyer=warn,object_store=warn"
                .to_owned(),
            slow_request: secs(1),
            sample: 0.01,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { topics: 200 }
    }
}
