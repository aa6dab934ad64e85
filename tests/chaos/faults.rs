//! The faults. Each is injected under load, lasts, is mended, and afterwards the cluster takes records again with all its nodes.

use std::time::Duration;

use rand::Rng as _;

use super::damage;
use super::support::away::Away;
use super::support::binary::run;
use super::support::cluster::MAX_ELECTION_MS;
use super::support::eventually;
use super::world::{Roles, World, lasting};

/// Long enough that whoever hears no leader elects one, and that what is under way is given up.
const CUT: Duration = Duration::from_millis(2 * MAX_ELECTION_MS);
/// As long as the issue says that a leader is stopped.
const STOPPED: Duration = Duration::from_millis(3 * MAX_ELECTION_MS);
/// How long nobody may acknowledge anything without a majority.
const SILENCE: Duration = Duration::from_millis(500);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    LeaderKilled,
    FollowerKilled,
    AllKilled,
    LeaderStopped,
    BucketAwayLeaderKilled,
    MinorityCutOff,
    MajorityCutOff,
    OneWayCut,
    WalDeleted,
    WalBitFlipped,
    GatewayKilled,
    GatewayCutOff,
    CompactorKilled,
    RollingRestart,
    LeaderMoved,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 15] = [
        Self::LeaderKilled,
        Self::FollowerKilled,
        Self::AllKilled,
        Self::LeaderStopped,
        Self::BucketAwayLeaderKilled,
        Self::MinorityCutOff,
        Self::MajorityCutOff,
        Self::OneWayCut,
        Self::WalDeleted,
        Self::WalBitFlipped,
        Self::GatewayKilled,
        Self::GatewayCutOff,
        Self::CompactorKilled,
        Self::RollingRestart,
        Self::LeaderMoved,
    ];

    /// As it is told.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::LeaderKilled => "leader killed",
            Self::FollowerKilled => "follower killed",
            Self::AllKilled => "all nodes killed at once",
            Self::LeaderStopped => "leader stopped for 3 x the longest election timeout",
            Self::BucketAwayLeaderKilled => "leader killed while the bucket is away",
            Self::MinorityCutOff => "minority cut off",
            Self::MajorityCutOff => "no majority connected",
            Self::OneWayCut => "one-way cut",
            Self::WalDeleted => "follower's WAL deleted, replaced by a new node",
            Self::WalBitFlipped => "bit flipped in a follower's WAL",
            Self::GatewayKilled => "gateway killed in mid request",
            Self::GatewayCutOff => "gateway cut off",
            Self::CompactorKilled => "compactor killed",
            Self::RollingRestart => "rolling restart",
            Self::LeaderMoved => "leadership moved",
        }
    }

    /// Leaders that it kills.
    pub(crate) const fn leader_kills(self) -> u64 {
        match self {
            Self::LeaderKilled | Self::AllKilled | Self::BucketAwayLeaderKilled => 1,
            _ => 0,
        }
    }
}

/// Injects a fault, mends it, and returns once the cluster is whole.
pub(crate) async fn inject(world: &mut World, fault: Fault) {
    match fault {
        Fault::LeaderKilled => {
            let leader = world.leader().await;
            killed(world, leader).await;
        }
        Fault::FollowerKilled => {
            let follower = world.follower().await;
            killed(world, follower).await;
        }
        Fault::GatewayKilled => {
            let gateway = world.one_of(&world.gateways.clone());
            killed(world, gateway).await;
        }
        Fault::GatewayCutOff => gateway_cut_off(world).await,
        Fault::AllKilled => {
            // The voters at once; the gateways go on, or go with them.
            let nodes = if world.random.random() { world.nodes() } else { world.voters.iter().copied().collect() };
            nodes.iter().for_each(|node| world.cluster.kill(*node));
            nodes.iter().for_each(|node| world.cluster.spawn(*node));
        }
        Fault::LeaderStopped => leader_stopped(world).await,
        Fault::BucketAwayLeaderKilled => bucket_away(world).await,
        Fault::MinorityCutOff => minority_cut_off(world).await,
        Fault::MajorityCutOff => majority_cut_off(world).await,
        Fault::OneWayCut => one_way_cut(world).await,
        Fault::WalDeleted => wal_deleted(world).await,
        Fault::WalBitFlipped => bit_flipped(world).await,
        Fault::CompactorKilled => {
            world.compactor.kill_and_restart();
            world.more(50).await;
        }
        Fault::RollingRestart => rolling_restart(world).await,
        Fault::LeaderMoved => {
            let to = world.follower().await;
            admin(world, &["transfer-leader", &to.to_string()]);
        }
    }
    settle(world).await;
}

/// All nodes that must run do, are ready, and take records.
async fn settle(world: &mut World) {
    world.cluster.net().heal();
    world.compactor.check();
    all_run(world).await;
    world.more(50).await;
}

/// All nodes that must run do and are ready; one whose flipped bit ended it is replaced.
async fn all_run(world: &mut World) {
    for node in world.nodes() {
        let Some(status) = world.cluster.ready_or_ended(node).await else { continue };
        let log = world.cluster.log(node);
        assert!(!status.success() && world.flipped.contains(&node) && log.contains("corrupt"), "{status}\n{log}");
        world.cluster.wipe(node);
        replaced(world, node).await;
        let new = world.voters.iter().copied().max().unwrap();
        world.cluster.ready(new).await;
    }
}

/// Voters that no client reached serve clients from now on, so that each can be asked what it has. Nobody produces meanwhile.
pub(crate) async fn open_voters(world: &mut World) {
    world.roles = Roles::GatewayWal;
    for node in world.voters.clone() {
        if !world.voters.contains(&node) {
            // Replaced while another one was waited for; the new one serves clients.
            continue;
        }
        stopped(world, node).await;
        world.take_roles(node);
        world.cluster.spawn(node);
        all_run(world).await;
    }
}

fn admin(world: &World, args: &[&str]) -> String {
    let servers = world.cluster.urls();
    tokio::task::block_in_place(|| run(&servers, &[&["admin"], args].concat())).ok()
}

/// `kill -9`; the others go on, and it comes back.
async fn killed(world: &mut World, node: u64) {
    world.cluster.kill(node);
    world.more(50).await;
    world.cluster.spawn(node);
}

async fn leader_stopped(world: &mut World) {
    let leader = world.leader().await;
    world.cluster.pause(leader);
    lasting(STOPPED).await;
    world.more(50).await;
    world.cluster.resume(leader);
}

/// Nobody needs the bucket to acknowledge, to elect or to start, and `/readyz` does not depend on it.
async fn bucket_away(world: &mut World) {
    let away = Away::take(world.cluster.bucket());
    world.more(30).await;
    let leader = world.leader().await;
    world.cluster.kill(leader);
    let others: Vec<u64> = world.nodes().into_iter().filter(|node| *node != leader).collect();
    let enough = world.journal.count() + 100;
    eventually("the load without a bucket", || async {
        for node in &others {
            ready_is_told(world, *node).await;
        }
        (world.journal.count() >= enough).then_some(())
    })
    .await;
    if world.random.random() {
        world.cluster.restart(leader).await;
        drop(away);
    } else {
        drop(away);
        world.cluster.spawn(leader);
    }
}

async fn ready_is_told(world: &World, node: u64) {
    let Some(answer) = world.cluster.http_of(node).try_get("/readyz").await else { return };
    world.journal.records().ready_asked += 1;
    if answer.status != 200 {
        let body = String::from_utf8_lossy(&answer.body);
        world.journal.wrong(format!("node {node} is not ready while the bucket is away: {body}"));
    }
}

async fn minority_cut_off(world: &mut World) {
    let leader = world.leader().await;
    let follower = world.follower().await;
    let first = if world.random.random() { leader } else { follower };
    let mut cut = vec![first];
    while cut.len() < (world.voters.len() - 1) / 2 {
        let more: Vec<u64> = world.voters.iter().copied().filter(|node| !cut.contains(node)).collect();
        cut.push(world.one_of(&more));
    }
    let mut rest: Vec<u64> = world.voters.iter().copied().filter(|node| !cut.contains(node)).collect();
    if world.random.random() {
        rest.extend(&world.gateways);
    }
    cut.iter().for_each(|node| world.cluster.net().isolate(*node, &rest));
    lasting(CUT).await;
    world.more(50).await;
}

/// A gateway that reaches nobody; the other one goes on.
async fn gateway_cut_off(world: &mut World) {
    let gateway = world.one_of(&world.gateways.clone());
    let voters: Vec<u64> = world.voters.iter().copied().collect();
    world.cluster.net().isolate(gateway, &voters);
    lasting(CUT).await;
    world.more(50).await;
}

/// Each alone: nobody can acknowledge anything.
async fn majority_cut_off(world: &mut World) {
    for node in &world.voters {
        world.cluster.net().isolate(*node, &world.other_voters(*node));
    }
    lasting(CUT).await;
    let before = world.journal.count();
    lasting(SILENCE).await;
    let after = world.journal.count();
    if after != before {
        world.journal.wrong(format!("{} records were acknowledged without a majority", after - before));
    }
}

async fn one_way_cut(world: &mut World) {
    let leader = world.leader().await;
    let others = world.other_voters(leader);
    match world.random.random_range(0..3) {
        0 => others.iter().for_each(|other| world.cluster.net().cut(leader, *other)),
        1 => others.iter().for_each(|other| world.cluster.net().cut(*other, leader)),
        _ => {
            let other = world.one_of(&others);
            world.cluster.net().cut(leader, other);
        }
    }
    lasting(CUT).await;
    world.more(50).await;
}

async fn wal_deleted(world: &mut World) {
    let follower = world.follower().await;
    world.cluster.kill(follower);
    world.cluster.wipe(follower);
    // The same command line: it forgot its vote, so it must not have one.
    world.cluster.spawn(follower);
    let status = world.cluster.ended(follower).await;
    let log = world.cluster.log(follower);
    assert!(!status.success() && log.contains("tidelog admin replace-node"), "{status}\n{log}");
    replaced(world, follower).await;
}

/// A node that is gone for ever is replaced by a new one.
async fn replaced(world: &mut World, old: u64) {
    let new = world.new_node();
    world.cluster.place_for(new, old).await;
    world.take_roles(new);
    world.cluster.spawn(new);
    let address = world.cluster.address(new);
    admin(world, &["replace-node", &old.to_string(), &new.to_string(), &address]);
    world.voters.remove(&old);
    world.voters.insert(new);
}

/// Damage is found, or is where nothing counts: the node starts with its log whole, or not at all.
async fn bit_flipped(world: &mut World) {
    let follower = world.follower().await;
    world.cluster.kill(follower);
    let flipped = damage::flip(&world.cluster.data(follower), &mut world.random);
    println!("  a bit of {}", flipped.display());
    world.cluster.spawn(follower);
    if let Some(status) = world.cluster.ready_or_ended(follower).await {
        let log = world.cluster.log(follower);
        let name = flipped.file_name().unwrap().to_str().unwrap();
        assert!(!status.success() && log.contains(name), "{status}: {name} is not named\n{log}");
        world.cluster.wipe(follower);
        replaced(world, follower).await;
    } else {
        world.flipped.insert(follower);
    }
}

async fn rolling_restart(world: &mut World) {
    for node in world.nodes() {
        stopped(world, node).await;
        world.more(20).await;
        world.cluster.restart(node).await;
    }
}

/// A node ends because it is told to.
async fn stopped(world: &mut World, node: u64) {
    let status = world.cluster.terminate(node).await;
    assert!(status.success(), "node {node}: {status}\n{}", world.cluster.log(node));
}
