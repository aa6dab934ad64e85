//! The end of a run: everything that is there, read in several ways, and the checker over it.

use std::sync::Arc;

use reqwest::Method;

use super::bucket;
use super::check::{Scan, Verdict, check, same};
use super::faults;
use super::journal::record::Found;
use super::support::binary::{run, text};
use super::support::eventually;
use super::support::http::{Http, try_send};
use super::support::server::{Server, Settings, copy_tree};
use super::world::{Roles, World};
use super::{PARTITIONS, TOPIC};

/// What was found.
#[derive(Debug)]
pub(crate) struct Verdicts {
    pub(crate) invariants: Vec<Verdict>,
    pub(crate) sent: usize,
    pub(crate) acknowledged: usize,
    pub(crate) there: usize,
    pub(crate) read: usize,
}

/// Ends the run, and judges it.
pub(crate) async fn reach(mut world: World) -> Verdicts {
    world.cluster.converge().await;
    world.stop_consuming().await;
    let open = world.open();
    let scan = scan(&world.cluster.http_of(open[0])).await;
    let records = std::mem::take(&mut *world.journal.records());
    let mut invariants = check(&records, &scan);
    invariants.extend(others(&world, &open[1..], &scan).await);
    if world.roles == Roles::Wal {
        // Only now: the gateways were asked before anybody was started anew for it.
        faults::open_voters(&mut world).await;
        let voters: Vec<u64> = world.voters.iter().copied().collect();
        invariants.extend(others(&world, &voters, &scan).await);
    }
    for node in world.nodes() {
        assert!(!world.cluster.log(node).contains(" panicked at "), "{}", world.cluster.log(node));
    }
    let http = world.cluster.http();
    archive(&http).await;
    let archived = bucket::archived(&http, &world.cluster.bucket(), TOPIC).await;
    invariants.push(same("the Parquet files have the same", &scan, &archived));
    let bucket = format!("file://{}", text(&world.cluster.bucket()));
    let verified = tokio::task::block_in_place(|| run("", &["verify", "--bucket", &bucket]));
    assert_eq!(verified.code, 0, "tidelog verify: {}\n{}", verified.stdout, verified.stderr);
    let alone = from_the_bucket(&mut world).await;
    invariants.push(same("a start from the bucket alone has the same", &scan, &alone));
    Verdicts {
        invariants,
        sent: records.sent.len(),
        acknowledged: records.acked.len(),
        there: scan.values().map(Vec::len).sum(),
        read: records.pages.iter().map(|page| page.found.len()).sum(),
    }
}

/// What each of these nodes serves, beside what one has served before.
async fn others(world: &World, nodes: &[u64], scan: &Scan) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for node in nodes {
        let other = self::scan(&world.cluster.http_of(*node)).await;
        verdicts.push(same("another node has the same", scan, &other));
    }
    verdicts
}

/// Has everything archived, however leaderships move meanwhile.
async fn archive(http: &Http) {
    let path = format!("/v1/topics/{TOPIC}:flush?archive=true&wait_ms=3000");
    eventually("the archive", || async {
        let answer = try_send(http.request(Method::POST, &path)).await?;
        assert!(matches!(answer.status, 200 | 202 | 503 | 504), "{answer:?}");
        (answer.status == 200).then_some(())
    })
    .await;
}

/// Everything that a node serves; offsets are dense from 0 on.
async fn scan(http: &Http) -> Scan {
    let mut scan = Scan::new();
    for partition in 0..PARTITIONS {
        let records = http.fetch_all(TOPIC, partition, "&values=text&max_bytes=16777216").await;
        for (wanted, record) in (0..).zip(&records) {
            assert_eq!(record["offset"].as_u64(), Some(wanted), "partition {partition} is not dense");
        }
        scan.insert(partition, records.iter().map(Found::read).collect());
    }
    scan
}

/// The cluster is closed, and another machine is started with nothing but a copy of the bucket.
async fn from_the_bucket(world: &mut World) -> Scan {
    let nodes = world.nodes();
    let url = world.cluster.url(nodes[0]);
    let said = tokio::task::block_in_place(|| run(&url, &["admin", "stop"])).ok();
    assert!(said.contains("everything is in the bucket"), "{said}");
    let ended = world.cluster.ended(nodes[0]).await;
    assert!(ended.success(), "{ended}");
    for node in &nodes[1..] {
        let ended = world.cluster.terminate(*node).await;
        assert!(ended.success(), "{ended}\n{}", world.cluster.log(*node));
    }
    let dir = Arc::new(tempfile::tempdir().unwrap());
    copy_tree(&world.cluster.bucket(), &dir.path().join("data").join("bucket"));
    let server = Server::start_in(dir, Settings::default()).await;
    scan(&Http::new(server.url())).await
}
