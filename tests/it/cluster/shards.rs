//! Several shards: partitions and leaderships spread over the nodes, and changes of topics that a crash breaks off at any step.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Busy, busy};
use crate::support::binary::{run, text};
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::http::{self, Http};
use crate::support::injected::Injected;
use crate::support::load::Load;
use crate::support::readers::Readers;
use crate::support::server::{Settings, files_under};

/// The steps of a change of a topic; see docs/architecture.md.
const STEPS: [&str; 4] = ["topic.wanted", "topic.told", "topic.all_told", "topic.synced"];

fn balanced(leaders: &[u64]) -> bool {
    leaders == [1, 2, 3]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_and_leaderships_are_spread_and_come_back_after_a_kill() {
    let mut cluster = Cluster::start_with(3, busy().set("cluster.balance_after", "1s")).await;
    cluster.led(balanced).await;
    let http = cluster.http();
    http.create_topic("t", &json!({"partitions": 9, "archive_after_ms": 0})).await;
    for node in 1..=3 {
        let described = cluster.http_of(node).get("/v1/topics/t").await.expect(200);
        let partitions = described["partitions"].as_array().unwrap();
        let leaders: Vec<u64> = partitions.iter().map(|partition| partition["leader"].as_u64().unwrap()).collect();
        assert_eq!(leaders, [1, 1, 1, 2, 2, 2, 3, 3, 3], "asked of node {node}");
    }
    let mut load = Load::new(&http, "t", 9).await;
    let readers = Readers::start(&http, "t", 9);
    let history = load.history();
    load.during(async {
        Busy::more(&history, 500).await;
        cluster.kill(2);
        cluster.led(|leaders| leaders[0] == 1 && leaders[1] != 2 && leaders[2] == 3).await;
        Busy::more(&history, 500).await;
        cluster.restart(2).await;
        cluster.led(balanced).await;
        Busy::more(&history, 300).await;
    })
    .await;
    cluster.converge().await;
    load.repeat().await;
    for node in 1..=3 {
        load.check(&cluster.http_of(node), "t").await;
    }
    readers.check(&cluster.http_of(1), "t").await;
    let seen = cluster.members().await;
    let shards = seen["shards"].as_array().unwrap();
    assert_eq!(shards.len(), 3, "{seen}");
    for (number, shard) in shards.iter().enumerate() {
        assert_eq!((&shard["shard"], &shard["leader"]), (&json!(number), &json!(number + 1)), "{seen}");
        assert!(shard["committed"].as_u64() >= shard["flushed"].as_u64(), "{seen}");
    }
    assert!(seen["members"].as_array().unwrap().iter().all(|member| member["roles"][1] == "wal"), "{seen}");
}

/// A change of topic `t` and what it leaves.
struct Change {
    name: &'static str,
    method: Method,
    path: &'static str,
    body: Value,
    /// The number of partitions afterwards; `None` if there is no topic.
    partitions: Option<usize>,
}

fn changes() -> [Change; 4] {
    let change = |name, method, path, body, partitions| Change { name, method, path, body, partitions };
    [
        change("create", Method::PUT, "/v1/topics/t", json!({"partitions": 5}), Some(5)),
        change("grow", Method::PATCH, "/v1/topics/t", json!({"partitions": 8, "rekey": true}), Some(8)),
        change("delete", Method::DELETE, "/v1/topics/t", Value::Null, None),
        change("undelete", Method::POST, "/v1/topics/t:undelete", json!({}), Some(8)),
    ]
}

impl Change {
    /// Sends it; nobody may answer.
    async fn send(&self, http: &Http) -> Option<http::Answer> {
        let request = http.request(self.method.clone(), self.path);
        let request = match &self.body {
            Value::Null => request,
            body => request.header("content-type", "application/json").body(body.to_string()),
        };
        http::try_send(request).await
    }

    /// Whether a node shows all of it, every shard knows it, and every partition takes records.
    async fn is_done(&self, http: &Http) -> Option<()> {
        let status = http.try_get("/v1/status").await?.json();
        if status["shards"][0]["pending_topics"] != 0 {
            return None;
        }
        let described = http.try_get("/v1/topics/t").await?;
        let Some(count) = self.partitions else { return (described.status == 404).then_some(()) };
        let seen = (described.status == 200).then(|| described.json())?;
        if seen["partitions"].as_array()?.len() != count {
            return None;
        }
        let records: Vec<Value> =
            (0..count).map(|partition| json!({"text": self.name, "partition": partition})).collect();
        (http.produce("t", &json!(records)).await.status == 200).then_some(())
    }
}

/// One fail point after the other, for every kind of change, on a node that leads and on one that does not.
async fn a_change_broken_off(asks_the_leader: bool) {
    let mut cluster = Cluster::placed(3, Settings::default()).await;
    // Of each node: whoever goes on with a change is not to be killed as well.
    let injected: BTreeMap<u64, Injected> = (1..=3).map(|node| (node, Injected::new())).collect();
    for (node, injected) in &injected {
        cluster.set_for(*node, injected.followed_by(Settings::default()));
        cluster.spawn(*node);
    }
    cluster.all_ready().await;
    for step in STEPS {
        let mut crashes = 0;
        for change in changes() {
            let leader = cluster.leader().await;
            let asked = if asks_the_leader { leader } else { cluster.others(leader)[0] };
            let before = cluster.log(asked).matches("fail point armed").count();
            injected[&asked].points(&format!("{step}=crash"));
            eventually("arming", || async {
                (cluster.log(asked).matches("fail point armed").count() > before).then_some(())
            })
            .await;
            let answer = change.send(&cluster.http_of(asked)).await;
            let crashed = answer.is_none();
            if let Some(answer) = answer {
                // The leader goes on with what is not done within a second: on a machine with other work it is faster at times.
                assert!(!asks_the_leader && (200..300).contains(&answer.status), "{step}, {}: {answer:?}", change.name);
            } else {
                cluster.ended(asked).await;
            }
            crashes += u32::from(crashed);
            injected[&asked].points("");
            let other = cluster.http_of(cluster.others(asked)[0]);
            let what = format!("{} after a kill at {step}", change.name);
            eventually(&what, || change.is_done(&other)).await;
            if crashed {
                cluster.restart(asked).await;
            }
            let again = cluster.http_of(asked);
            eventually(&what, || change.is_done(&again)).await;
        }
        assert!(crashes > 0, "nobody was killed at {step}");
        // The next round creates it anew.
        let gone = http::send(cluster.http().request(Method::DELETE, "/v1/topics/t")).await;
        gone.expect(202);
    }
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_a_topic_that_breaks_off_at_any_step_is_brought_to_its_end() {
    a_change_broken_off(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_leader_brings_a_change_to_its_end() {
    a_change_broken_off(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_shards_grow_to_three_nodes_and_shrink_under_load() {
    let mut cluster = Cluster::start_with(1, busy().set("cluster.shards", "3")).await;
    cluster.http_of(1).create_topic("t", &json!({"partitions": 6, "archive_after_ms": 0})).await;
    for node in [2, 3] {
        cluster.place(node).await;
    }
    let mut load = Load::new(&cluster.http(), "t", 6).await;
    let history = load.history();
    let admin = |cluster: &Cluster, args: &[&str]| {
        let servers = cluster.urls();
        tokio::task::block_in_place(|| run(&servers, &[&["admin"], args].concat())).ok()
    };
    let voters = |seen: &Value| -> Vec<Vec<u64>> {
        let of = |shard: &Value| -> Vec<u64> {
            let members = shard["members"].as_array().unwrap().iter();
            members.filter(|member| member["voter"] == true).map(|member| member["node"].as_u64().unwrap()).collect()
        };
        seen["shards"].as_array().unwrap().iter().map(of).collect()
    };
    load.during(async {
        Busy::more(&history, 200).await;
        for node in [2, 3] {
            cluster.spawn(node);
            let address = cluster.address(node);
            for _ in 0..2 {
                admin(&cluster, &["add-node", &node.to_string(), &address]);
            }
            cluster.ready(node).await;
            Busy::more(&history, 100).await;
        }
    })
    .await;
    assert_eq!(voters(&cluster.members().await), [[1, 2, 3], [1, 2, 3], [1, 2, 3]]);
    cluster.converge().await;
    load.during(async {
        admin(&cluster, &["transfer-leader", "1"]);
        cluster.led(|leaders| leaders == [1, 1, 1]).await;
        for _ in 0..2 {
            admin(&cluster, &["remove-node", "1"]);
        }
        cluster.kill(1);
        Busy::more(&history, 100).await;
    })
    .await;
    assert_eq!(voters(&cluster.members().await), [[2, 3], [2, 3], [2, 3]]);
    cluster.converge().await;
    for node in [2, 3] {
        load.check(&cluster.http_of(node), "t").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_that_is_killed_while_it_begins_the_shards_goes_on() {
    let injected = Injected::new();
    injected.points("shard.begun=crash");
    let settings = injected.followed_by(Settings::default());
    let mut cluster = Cluster::placed(3, settings).await;
    (1..=3).for_each(|node| cluster.spawn(node));
    // All of them begin the shards that the catalog counts, the founder among them; who has not heard of it when there is no
    // majority left never does.
    cluster.all_but_one_ended().await;
    cluster.running().into_iter().for_each(|node| cluster.kill(node));
    injected.points("");
    (1..=3).for_each(|node| cluster.spawn(node));
    takes_records(&mut cluster).await;
}

/// It comes up, with all its shards.
async fn takes_records(cluster: &mut Cluster) {
    cluster.all_ready().await;
    cluster.http().create_topic("t", &json!({"partitions": 3})).await;
    let records = [0, 1, 2].map(|partition| json!({"text": "x", "partition": partition}));
    cluster.http().produce("t", &json!(records)).await.expect(200);
    cluster.converge().await;
}

/// Three nodes at their first start, one of which was killed at a fail point that stays armed for it.
async fn killed_at(point: &str, node: u64) -> (Cluster, Injected) {
    let injected = Injected::new();
    injected.points(&format!("{point}=crash"));
    let mut cluster = Cluster::placed(3, Settings::default()).await;
    cluster.set_for(node, injected.followed_by(Settings::default()));
    (1..=3).for_each(|node| cluster.spawn(node));
    cluster.ended(node).await;
    (cluster, injected)
}

/// With which members a shard begins is in the bucket then, and nothing else is anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_that_is_killed_after_it_wrote_down_whom_a_shard_begins_with_goes_on() {
    let (mut cluster, injected) = killed_at("shard.decided", 1).await;
    assert!(!files_under(&cluster.bucket().join("groups")).is_empty(), "nothing was written down");
    injected.points("");
    cluster.spawn(1);
    takes_records(&mut cluster).await;
}

/// The bucket knows its number then, and it has no log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_after_it_took_its_number_has_it_at_its_next_start() {
    let (mut cluster, injected) = killed_at("node.numbered", 2).await;
    assert!(files_under(&cluster.bucket().join("nodes")).iter().any(|file| text(file).ends_with("-0000000002.json")));
    injected.points("");
    cluster.spawn(2);
    takes_records(&mut cluster).await;
}

/// Its disk is lost between the moment at which the catalog counts the shards and the one at which it begins them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_whose_founder_lost_its_disk_before_it_began_them_are_begun_by_the_others() {
    let (mut cluster, _injected) = killed_at("shard.begun", 1).await;
    assert!(cluster.log(1).contains("the cluster has more shards"), "it is not the founder:\n{}", cluster.log(1));
    cluster.wipe(1);
    // The others know that there are more shards, and that nobody has begun them.
    let leader = cluster.leader_but(1).await;
    eventually("the shards are counted", || async { (cluster.shards(leader).await?.len() == 3).then_some(()) }).await;
    cluster.place(4).await;
    cluster.spawn(4);
    let (servers, address) = (cluster.urls(), cluster.address(4));
    eventually("the founder is replaced", || async {
        let replaced = tokio::task::block_in_place(|| run(&servers, &["admin", "replace-node", "1", "4", &address]));
        (replaced.code == 0).then_some(())
    })
    .await;
    cluster.all_ready().await;
    let http = cluster.http_of(leader);
    http.create_topic("t", &json!({"partitions": 3})).await;
    let records = [0, 1, 2].map(|partition| json!({"text": "x", "partition": partition}));
    http.produce("t", &json!(records)).await.expect(200);
    cluster.converge().await;
    let seen = cluster.members().await;
    for shard in seen["shards"].as_array().unwrap() {
        let members = shard["members"].as_array().unwrap().iter().map(|member| member["node"].as_u64().unwrap());
        assert_eq!(members.collect::<Vec<_>>(), [2, 3, 4], "{seen}");
    }
}
