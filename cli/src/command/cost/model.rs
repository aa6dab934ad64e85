//! What a cluster made by `terraform/` costs: pure arithmetic, the formulas of docs/cost.md in the same order.
//!
//! MB and GB are 10^6 and 10^9 bytes, a month has 730 hours. Rates are those of a whole month: a load that is high for an hour a
//! day has the machines of the peak and the bytes of the mean.

use serde::Serialize;

use super::prices::Prices;

const HOURS: f64 = 730.0;
const SECONDS: f64 = HOURS * 3600.0;
const DAY: f64 = 86_400.0;
const MIB: f64 = 1_048_576.0;
/// Zones, voters, and gateways at least.
const ZONES: f64 = 3.0;
/// Share of what a machine or volume can do that is planned for: the rest is for a zone that is away.
const USE: f64 = 0.7;
/// The most that a gp3 volume takes, in MB/s: every voter writes all of a cluster's log, so more than this needs more clusters.
const VOLUME_MBPS: f64 = 1_000.0;
/// What a gp3 volume takes without being paid for.
const VOLUME_MBPS_FREE: f64 = 125.0;
/// Sizes of voters (m7g): vCPU, and what network and volume of that size sustain, in MB/s.
const VOTERS: [(f64, f64, f64); 7] = [
    (2.0, 117.0, 78.0),
    (4.0, 234.0, 156.0),
    (8.0, 468.0, 312.0),
    (16.0, 937.0, 625.0),
    (32.0, 1_875.0, 1_250.0),
    (48.0, 2_812.0, 1_875.0),
    (64.0, 3_750.0, 2_500.0),
];
/// Log that one vCPU of a voter writes, in MB/s, a third of what docs/performance.md has for large batches.
const VOTER_MBPS: f64 = 100.0;
/// Gateways and compactors are of 2 vCPU (c7g.large), whose network sustains this in each direction, in MB/s.
const WORKER_VCPU: f64 = 2.0;
const WORKER_MBPS: f64 = 97.0;
/// Segments that one compactor reads and writes as Parquet, in MB/s.
const COMPACTOR_MBPS: f64 = 80.0;
/// Seconds of an outage of the bucket that the log has room for.
const OUTAGE: f64 = 1_800.0;
/// The smallest volume of a voter, and the disks of the other machines, in GB.
const VOLUME_GB: f64 = 100.0;
const GATEWAY_DISK_GB: f64 = 40.0;
const COMPACTOR_DISK_GB: f64 = 20.0;
const VOTER_DISK_GB: f64 = 20.0;
/// Live segments of a shard that cause an index part.
const INDEX_EVERY: f64 = 64.0;
/// `archive.job_size`, `archive.file_size`, parts of an upload, and `archive_after_ms`.
const JOB: f64 = 512.0 * MIB;
const FILE: f64 = 128.0 * MIB;
const PART: f64 = 64.0 * MIB;
const ARCHIVE_AFTER: f64 = 60.0;
/// `gc.grace` and a run of the garbage collection.
const GARBAGE: f64 = 4_200.0;
/// Interface endpoints, metrics and alarms of the module, and lines of the logs, in GB a month for each process.
const ENDPOINTS: f64 = 5.0;
const METRICS: f64 = 48.0;
const ALARMS: f64 = 24.0;
const LOG_GB: f64 = 1.0;

/// What is known of the load. Bytes are those of values and keys as producers have them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Load {
    /// Produced, in bytes a second.
    pub(super) rate: f64,
    /// How often each record is read.
    pub(super) fan_out: f64,
    /// The share of reads that is old enough to come from the bucket.
    pub(super) cold: f64,
    /// Bytes of producers for one byte stored.
    pub(super) compression: f64,
    /// Days for which records are kept.
    pub(super) retention_days: f64,
    /// Days for which deleted objects are kept (`old_versions_days`).
    pub(super) old_versions_days: f64,
    /// Topics that are written.
    pub(super) topics: f64,
    /// `flush.bytes`.
    pub(super) flush_bytes: f64,
    /// `flush.interval`, in seconds.
    pub(super) flush_interval: f64,
    /// `cluster.shards` of each cluster.
    pub(super) shards: f64,
    /// Whether clients come through the load balancer; otherwise they are given the gateways of their zone.
    pub(super) load_balancer: bool,
}

/// A line of the bill.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Line {
    pub(super) what: &'static str,
    /// How much of it, in words.
    pub(super) how_much: String,
    /// US dollars a month.
    pub(super) dollars: f64,
}

/// The bill of a month.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Bill {
    /// Clusters that the rate needs.
    pub(super) clusters: f64,
    pub(super) lines: Vec<Line>,
    pub(super) dollars: f64,
    /// PUT and GET for each GiB produced, after compression.
    pub(super) puts_per_gib: f64,
    pub(super) gets_per_gib: f64,
    /// US dollars for each GB produced, before compression.
    pub(super) dollars_per_gb: f64,
}

/// Requests a second of a whole deployment.
struct Calls {
    puts: f64,
    gets: f64,
}

/// Machines of a whole deployment.
struct Machines {
    clusters: f64,
    voter_vcpu: f64,
    gateways: f64,
    compactors: f64,
}

/// The bill for `load` at these prices.
pub(super) fn bill(load: &Load, prices: &Prices) -> Bill {
    let stored = load.rate / load.compression;
    let machines = machines(load, stored / 1e6);
    let calls = calls(load, stored / machines.clusters);
    let (puts, gets) = (calls.puts * machines.clusters, calls.gets * machines.clusters);
    let mut lines = machine_lines(&machines, stored, prices);
    lines.push(cross_zone(load, stored, prices));
    lines.extend(bucket_lines(load, stored, (puts, gets), prices));
    lines.extend(service_lines(load, stored, &machines, prices));
    let dollars = lines.iter().map(|line| line.dollars).sum();
    Bill {
        clusters: machines.clusters,
        dollars,
        puts_per_gib: puts / stored * 1_024.0 * MIB,
        gets_per_gib: gets / stored * 1_024.0 * MIB,
        dollars_per_gb: dollars / (load.rate / 1e9 * SECONDS),
        lines,
    }
}

/// Formula 1: machines, for `mbps` stored.
fn machines(load: &Load, mbps: f64) -> Machines {
    let clusters = (mbps / (VOLUME_MBPS * USE)).ceil().max(1.0);
    let each = mbps / clusters;
    // A voter gets everything once, and sends: as a leader of a third to two others and to the bucket, and to its readers.
    let sent = each * (2.0 / 3.0 + 1.0 / 3.0 + load.fan_out / ZONES);
    let network = sent.max(each);
    let fits = |(vcpu, net, disk): &&(f64, f64, f64)| {
        network <= net * USE && each <= disk * USE && each <= vcpu * VOTER_MBPS * USE
    };
    let voter_vcpu = VOTERS.iter().find(fits).map_or(VOTERS[VOTERS.len() - 1].0, |(vcpu, _, _)| *vcpu);
    // What comes in at a gateway goes out again: records to the leaders, pages to the readers.
    let gateways = (each * (1.0 + load.fan_out) / (WORKER_MBPS * USE)).ceil().max(ZONES);
    let compactors = (each / (COMPACTOR_MBPS * USE)).ceil().max(1.0);
    Machines { clusters, voter_vcpu, gateways: gateways * clusters, compactors: compactors * clusters }
}

fn machine_lines(machines: &Machines, stored: f64, prices: &Prices) -> Vec<Line> {
    let voters = ZONES * machines.clusters;
    let workers = machines.gateways + machines.compactors;
    let mbps = stored / 1e6 / machines.clusters;
    // Formula 2: the log's volume holds an outage of the bucket in seven tenths of it, and takes the rate at its share of use.
    let volume = (stored / machines.clusters * OUTAGE / 1e9 / 0.7).max(VOLUME_GB);
    let throughput = (mbps / USE).clamp(VOLUME_MBPS_FREE, VOLUME_MBPS);
    let ebs =
        voters * (volume * prices.get("ebs_gb_month") + (throughput - VOLUME_MBPS_FREE) * prices.get("ebs_mbps_month"));
    let disks = voters * VOTER_DISK_GB + machines.gateways * GATEWAY_DISK_GB + machines.compactors * COMPACTOR_DISK_GB;
    vec![
        Line {
            what: "voters",
            how_much: format!("{voters} of {} vCPU", machines.voter_vcpu),
            dollars: voters * machines.voter_vcpu * HOURS * prices.get("voter_vcpu_hour"),
        },
        Line {
            what: "gateways and compactors",
            how_much: format!("{} and {} of {WORKER_VCPU} vCPU", machines.gateways, machines.compactors),
            dollars: workers * WORKER_VCPU * HOURS * prices.get("worker_vcpu_hour"),
        },
        Line {
            what: "volumes of the log",
            how_much: format!("{voters} of {volume:.0} GB, {throughput:.0} MB/s"),
            dollars: ebs,
        },
        Line {
            what: "disks of the machines",
            how_much: format!("{disks:.0} GB"),
            dollars: disks * prices.get("root_gb_month"),
        },
    ]
}

/// Formula 3: bytes that cross zones. A gateway is in its client's zone; the leader is in another one two times of three; it sends
/// each byte to the two other zones; and readers of what is new are sent it by the leader.
fn cross_zone(load: &Load, stored: f64, prices: &Prices) -> Line {
    let other = (ZONES - 1.0) / ZONES;
    let crossings = other + (ZONES - 1.0) + load.fan_out * (1.0 - load.cold) * other;
    let gb = stored * crossings * SECONDS / 1e9;
    Line {
        what: "bytes between zones",
        how_much: format!("{} GB, each byte {crossings:.2} times", whole(gb)),
        dollars: gb * prices.get("cross_zone_gb"),
    }
}

/// Formula 4: calls to the bucket of one cluster that stores `stored` bytes a second.
fn calls(load: &Load, stored: f64) -> Calls {
    let shard = stored / load.shards;
    // A flush begins when flush.bytes are there or flush.interval is over, and at most once a second.
    let flushes = (shard / load.flush_bytes).clamp(1.0 / load.flush_interval, 1.0);
    let segments = (shard / load.flush_bytes).max(flushes);
    let index = segments / INDEX_EVERY;
    // A job takes what became due meanwhile, and makes a file for each topic.
    let job = (shard * ARCHIVE_AFTER).min(JOB);
    let file = (job / load.topics).min(FILE);
    let parts = (file / PART).ceil();
    let archive = shard / file * if parts > 1.0 { parts + 2.0 } else { 1.0 };
    // After each checkpoint the leader looks whether the cluster was replaced; a block is 1 MiB.
    let gets = flushes + shard / MIB + load.fan_out * load.cold * shard / MIB;
    Calls { puts: load.shards * (segments + flushes + index + archive), gets: load.shards * gets }
}

/// Formula 5: the bucket. A record is a segment until it is archived and garbage was collected, Parquet until its retention is
/// over, and each of both an old version after that.
fn bucket_lines(load: &Load, stored: f64, (puts, gets): (f64, f64), prices: &Prices) -> Vec<Line> {
    let days = load.retention_days + (ARCHIVE_AFTER + 2.0 * GARBAGE) / DAY + 2.0 * load.old_versions_days;
    let gb = stored * days * DAY / 1e9;
    let tiers = [(50_000.0, "s3_gb_month_first"), (450_000.0, "s3_gb_month_next"), (f64::INFINITY, "s3_gb_month_rest")];
    let mut left = gb;
    let mut storage = 0.0;
    for (size, price) in tiers {
        let part = left.min(size);
        storage += part * prices.get(price);
        left -= part;
    }
    let (puts, gets) = (puts * SECONDS, gets * SECONDS);
    vec![
        Line {
            what: "PUT",
            how_much: format!("{:.2} million", puts / 1e6),
            dollars: puts / 1_000.0 * prices.get("s3_put_1000"),
        },
        Line {
            what: "GET",
            how_much: format!("{:.2} million", gets / 1e6),
            dollars: gets / 1_000.0 * prices.get("s3_get_1000"),
        },
        Line { what: "storage", how_much: format!("{} GB, {days:.1} days", whole(gb)), dollars: storage },
    ]
}

/// Formula 6: what comes with the network and what watches.
fn service_lines(load: &Load, stored: f64, machines: &Machines, prices: &Prices) -> Vec<Line> {
    let gb = stored * (1.0 + load.fan_out) * SECONDS / 1e9;
    let mut lines = Vec::new();
    if load.load_balancer {
        lines.push(Line {
            what: "load balancer",
            how_much: format!("{} GB", whole(gb)),
            dollars: machines.clusters * HOURS * prices.get("load_balancer_hour") + gb * prices.get("load_balancer_gb"),
        });
    }
    let processes = ZONES * machines.clusters + machines.gateways + machines.compactors;
    let watched = METRICS * prices.get("metric_month") + ALARMS * prices.get("alarm_month");
    lines.push(Line {
        what: "endpoints, logs, metrics",
        how_much: format!("{} endpoints, {processes} processes", ENDPOINTS * machines.clusters),
        dollars: machines.clusters * (ENDPOINTS * ZONES * HOURS * prices.get("endpoint_hour") + watched)
            + processes * LOG_GB * prices.get("log_gb"),
    });
    lines
}

/// A number without its fraction, with thousands separated. All that come here are far below 2^53.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) fn whole(number: f64) -> String {
    crate::output::grouped(number.round().max(0.0) as u64)
}
