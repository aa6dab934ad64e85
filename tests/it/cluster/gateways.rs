//! Gateways: processes that keep no log and follow the nodes that do. They take any request, come and go, and nothing is lost with
//! them.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Busy, busy, lasting};
use crate::support::away::Away;
use crate::support::cluster::{Cluster, MAX_ELECTION_MS};
use crate::support::eventually;
use crate::support::http::{Http, send, try_send};
use crate::support::load::Load;
use crate::support::readers::Readers;
use crate::support::server::Settings;

const FIRST: u64 = 11;
const SECOND: u64 = 12;

/// Three nodes and two gateways, all ready.
async fn start(settings: Settings) -> Cluster {
    let mut cluster = Cluster::place_all(3, &[FIRST, SECOND], settings).await;
    for node in [1, 2, 3, FIRST, SECOND] {
        cluster.spawn(node);
    }
    cluster.all_ready().await;
    cluster
}

/// The same with load and readers that know the gateways only.
async fn start_busy() -> Busy {
    let cluster = start(busy()).await;
    let http = Http::over([FIRST, SECOND].map(|gateway| cluster.url(gateway)).into());
    http.create_topic("t", &json!({"partitions": super::PARTITIONS, "archive_after_ms": 0})).await;
    let load = Load::new(&http, "t", super::PARTITIONS).await;
    let readers = Readers::start(&http, "t", super::PARTITIONS);
    Busy { cluster, load, readers }
}

fn texts(records: &[Value]) -> Vec<String> {
    records.iter().map(|record| record["text"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_takes_any_request() {
    let cluster = start(busy()).await;
    let (first, second) = (cluster.http_of(FIRST), cluster.http_of(SECOND));
    first.create_topic("t", &json!({"archive_after_ms": 0})).await;
    for (number, http) in [&first, &second, &cluster.http_of(1), &first].into_iter().enumerate() {
        let answer = http.produce("t", &json!([{"text": number.to_string()}])).await.expect(200);
        assert_eq!(answer["records"][0]["offset"], number);
    }
    // What one has written the other sees at once, and waits for what is to come.
    assert_eq!(texts(&second.fetch_all("t", 0, "").await), ["0", "1", "2", "3"]);
    let path = "/v1/topics/t/partitions/0/records?offset=4&wait_ms=30000";
    let (page, written) = tokio::join!(second.get(path), async {
        lasting(Duration::from_millis(300)).await;
        first.produce("t", &json!([{"text": "4"}])).await
    });
    written.expect(200);
    assert_eq!(texts(page.expect(200)["records"].as_array().unwrap()), ["4"]);
    // The bucket: acknowledged when it is there, flushed and archived when it is asked for.
    let path = "/v1/topics/t/records?acks=object&timeout_ms=30000";
    let answer = first.json(Method::POST, path, &json!({"records": [{"text": "5"}]})).await.expect(200);
    assert_eq!(answer["durability"], "object");
    second.flush("t", true).await;
    let archived = first.get("/v1/topics/t/archive").await.expect(200);
    assert_eq!(archived["archived"][0]["archived_offset"], 6);
    assert_eq!(first.fetch_all("t", 0, "").await.len(), 6);
    // Topics, producers, a position of time.
    let altered = first.json(Method::PATCH, "/v1/topics/t", &json!({"partitions": 3, "rekey": true})).await.expect(200);
    assert_eq!(altered["settings"]["partitions"], 3);
    assert_eq!(second.get("/v1/topics/t").await.expect(200)["partitions"].as_array().unwrap().len(), 3);
    let registered = first.json(Method::POST, "/v1/producers", &json!({"name": "p"})).await.expect(200);
    let again = second.json(Method::POST, "/v1/producers", &json!({"name": "p"})).await.expect(200);
    assert_eq!((&registered["producer_id"], again["epoch"].as_u64()), (&again["producer_id"], Some(1)));
    let refused =
        second.json(Method::POST, "/v1/topics/t/partitions/7/records", &json!({"records": [{"text": "x"}]})).await;
    refused.error(404, "partition_not_found");
    first.json(Method::DELETE, "/v1/topics/t", &json!({})).await;
    second.get("/v1/topics/t").await.error(404, "topic_not_found");
    // What it is.
    let status = first.get("/v1/status").await.expect(200);
    assert_eq!((&status["roles"], &status["node_id"]), (&json!(["gateway"]), &json!(0)));
    assert_eq!(status["shards"][0]["members"].as_array().unwrap().len(), 3);
    cluster.converge().await;
    assert!(!cluster.wal(FIRST).exists(), "a gateway keeps no log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_may_be_there_before_the_nodes() {
    let mut cluster = Cluster::place_all(3, &[FIRST], busy()).await;
    cluster.spawn(FIRST);
    eventually("it waits for the nodes", || async { cluster.log(FIRST).contains("waiting for a node").then_some(()) })
        .await;
    for node in 1..=3 {
        cluster.spawn(node);
    }
    cluster.all_ready().await;
    let http = cluster.http_of(FIRST);
    http.create_topic("t", &json!({})).await;
    http.produce("t", &json!([{"text": "a"}])).await.expect(200);
    // One that waits for nodes which never come ends when it is told to.
    cluster.place_gateway(SECOND, "gateway");
    for node in 1..=3 {
        cluster.kill(node);
    }
    cluster.spawn(SECOND);
    eventually("it waits for the nodes", || async { cluster.log(SECOND).contains("waiting for a node").then_some(()) })
        .await;
    assert!(cluster.terminate(SECOND).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_is_killed_and_gateways_go_on_at_the_next() {
    let Busy { mut cluster, mut load, readers } = start_busy().await;
    let history = load.history();
    load.during(async {
        for _ in 0..3 {
            Busy::more(&history, 300).await;
            let leader = cluster.leader().await;
            cluster.kill(leader);
            Busy::more(&history, 300).await;
            cluster.restart(leader).await;
        }
    })
    .await;
    Busy { cluster, load, readers }.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_are_killed_in_mid_request() {
    let Busy { mut cluster, mut load, readers } = start_busy().await;
    let history = load.history();
    load.during(async {
        for round in 0..6 {
            let gateway = [FIRST, SECOND][round % 2];
            Busy::more(&history, 100).await;
            cluster.kill(gateway);
            Busy::more(&history, 100).await;
            cluster.restart(gateway).await;
        }
    })
    .await;
    Busy { cluster, load, readers }.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_asked_to_end_answers_what_it_has_taken() {
    let mut cluster = start(Settings::default().set("flush.interval", "3s")).await;
    let http = cluster.http_of(FIRST);
    http.create_topic("t", &json!({})).await;
    let request = http.request(Method::POST, "/v1/topics/t/records?acks=object&timeout_ms=30000");
    let request = request.header("content-type", "application/json").body(r#"{"records":[{"text":"taken"}]}"#);
    let (answer, ended) = tokio::join!(send(request), async {
        // It was taken once the nodes have it, and is answered once it was flushed.
        let second = cluster.http_of(SECOND);
        eventually("the record", || async { (second.fetch_all("t", 0, "").await.len() == 1).then_some(()) }).await;
        cluster.terminate(FIRST).await
    });
    answer.expect(200);
    assert!(ended.success(), "{ended}");
    assert_eq!(texts(&cluster.http_of(SECOND).fetch_all("t", 0, "").await), ["taken"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_between_gateways_and_nodes_are_cut() {
    let Busy { cluster, mut load, readers } = start_busy().await;
    let history = load.history();
    load.during(async {
        // From the leader alone, one way only, from everybody.
        let leader = cluster.leader().await;
        for cut in [vec![(FIRST, leader), (leader, FIRST)], vec![(leader, FIRST)], every(FIRST)] {
            Busy::more(&history, 200).await;
            cut.iter().for_each(|(from, to)| cluster.net().cut(*from, *to));
            lasting(Duration::from_millis(2 * MAX_ELECTION_MS)).await;
            Busy::more(&history, 200).await;
            let ready = cluster.http_of(FIRST).try_get("/readyz").await;
            assert!(ready.is_some_and(|answer| answer.status == 200), "it was ready once");
            cluster.net().heal();
        }
    })
    .await;
    Busy { cluster, load, readers }.check().await;
}

/// A leader that lost its majority goes on believing that it leads, and says so to whoever still reaches it. Nobody reads
/// meanwhile: a reader that is not answered would look elsewhere too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_finds_the_next_leader_though_the_last_one_still_answers_it() {
    let cluster = start(Settings::default()).await;
    let gateway = cluster.http_of(FIRST);
    gateway.create_topic("t", &json!({"partitions": super::PARTITIONS})).await;
    // It passes over a node for seconds that was not there when it started, and is to follow the leader.
    lasting(Duration::from_secs(6)).await;
    let last = cluster.leader().await;
    let voters: Vec<u64> = (1..=3).filter(|voter| *voter != last).collect();
    cluster.net().isolate(last, &voters);
    for partition in 0..super::PARTITIONS {
        let path = format!("/v1/topics/t/partitions/{partition}/records?timeout_ms=2000");
        let body = json!({"records": [{"text": "x"}]});
        eventually("a gateway to write at the next leader", || async {
            (gateway.json(Method::POST, &path, &body).await.status == 200).then_some(())
        })
        .await;
    }
    cluster.net().heal();
    cluster.converge().await;
}

fn every(gateway: u64) -> Vec<(u64, u64)> {
    (1..=3).flat_map(|node| [(gateway, node), (node, gateway)]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_bucket_is_away_a_gateway_takes_records_and_reads_the_tail_whoever_leads() {
    let settings = Settings::default().set("flush.interval", "300ms").set("fetch.bucket_deadline", "1s");
    let mut cluster = start(settings).await;
    let http = cluster.http_of(FIRST);
    http.create_topic("t", &json!({})).await;
    http.produce("t", &json!([{"text": "flushed"}])).await.expect(200);
    http.flush("t", false).await;
    let away = Away::take(cluster.bucket());
    let leader = cluster.leader().await;
    cluster.kill(leader);
    eventually("a record", || async {
        let request = http.request(Method::POST, "/v1/topics/t/records").header("content-type", "application/json");
        // Without a triple: what is not acknowledged may be there.
        let answer = try_send(request.body(json!({"records": [{"text": "away"}]}).to_string())).await?;
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(http.get("/readyz").await.status, 200);
    let page = http.get("/v1/topics/t/partitions/0/records?offset=1").await.expect(200);
    assert_eq!(texts(page["records"].as_array().unwrap()).last().map(String::as_str), Some("away"));
    // A gateway that starts now begins with a checkpoint off a node's disk.
    cluster.kill(SECOND);
    cluster.restart(SECOND).await;
    let page = cluster.http_of(SECOND).get("/v1/topics/t/partitions/0/records?offset=1").await.expect(200);
    assert_eq!(texts(page["records"].as_array().unwrap()).last().map(String::as_str), Some("away"));
    drop(away);
    cluster.restart(leader).await;
    http.flush("t", false).await;
    let first = texts(&cluster.http_of(SECOND).fetch_all("t", 0, "").await);
    assert_eq!(first.first().map(String::as_str), Some("flushed"));
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_flushed_is_read_without_the_nodes_until_the_view_is_too_old() {
    let mut cluster = start(busy().set("fetch.view_age", "6s")).await;
    let http = cluster.http_of(FIRST);
    http.create_topic("t", &json!({})).await;
    for number in 0..20 {
        http.produce("t", &json!([{"text": number.to_string()}])).await.expect(200);
    }
    http.flush("t", false).await;
    let path = "/v1/topics/t/partitions/0/records?offset=3&max_records=2";
    http.get(path).await.expect(200);
    // Nothing reaches it any more, and it cannot know what is garbage by now.
    for (from, to) in every(FIRST) {
        cluster.net().cut(from, to);
    }
    assert_eq!(texts(http.get(path).await.expect(200)["records"].as_array().unwrap()), ["3", "4"]);
    eventually("it reads no more", || async {
        let answer = http.try_get(path).await?;
        (answer.status == 503).then(|| answer.error(503, "unavailable"))
    })
    .await;
    cluster.net().heal();
    eventually("it reads again", || async { (http.try_get(path).await?.status == 200).then_some(()) }).await;
    // A process that was stopped for longer than that asks before it reads.
    cluster.pause(FIRST);
    let other = cluster.http_of(SECOND);
    other.json(Method::DELETE, "/v1/topics/t", &json!({})).await;
    lasting(Duration::from_secs(7)).await;
    cluster.resume(FIRST);
    eventually("the deletion is known", || async {
        let answer = http.try_get(path).await?;
        assert!(matches!(answer.status, 404 | 503), "{answer:?}");
        (answer.status == 404).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_converts_what_the_nodes_do_not() {
    let settings = busy().set("archive.interval", "300ms");
    let mut cluster = Cluster::place_all(3, &[], settings).await;
    cluster.place_gateway(FIRST, "gateway,compactor");
    cluster.place_gateway(SECOND, "gateway");
    for node in 1..=3 {
        cluster.set_roles(node, "gateway,wal");
    }
    for node in [1, 2, 3, FIRST, SECOND] {
        cluster.spawn(node);
    }
    cluster.all_ready().await;
    // Long after its time: only because it is asked for.
    let http = cluster.http_of(SECOND);
    http.create_topic("t", &json!({"partitions": 3, "archive_after_ms": 86_400_000})).await;
    for number in 0..30 {
        http.produce("t", &json!([{"text": number.to_string(), "partition": number % 3}])).await.expect(200);
    }
    http.flush("t", true).await;
    let files = http.get("/v1/topics/t/archive").await.expect(200);
    assert!(
        files["archived"].as_array().unwrap().iter().all(|partition| partition["archived_offset"] == 10),
        "{files}"
    );
    for node in [1, FIRST, SECOND] {
        let read = cluster.http_of(node).fetch_all("t", 2, "").await;
        assert_eq!(texts(&read), (0..10).map(|at| (3 * at + 2).to_string()).collect::<Vec<_>>());
    }
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_learns_of_members_that_come_and_go() {
    let mut cluster = start(busy()).await;
    let http = cluster.http_of(FIRST);
    http.create_topic("t", &json!({})).await;
    http.produce("t", &json!([{"text": "a"}])).await.expect(200);
    for (old, new) in [(1, 4), (2, 5), (3, 6)] {
        cluster.place(new).await;
        cluster.spawn(new);
        let body = json!({"node": old, "by": new, "address": cluster.address(new)});
        // By way of the gateway, which asks the leader.
        http.change("/v1/admin/nodes:replace", &body).await.expect(200);
        if cluster.running().contains(&old) {
            cluster.kill(old);
        }
        http.produce("t", &json!([{"text": new.to_string()}])).await.expect(200);
    }
    // None of the nodes that it was told of is left.
    assert_eq!(texts(&http.fetch_all("t", 0, "").await), ["a", "4", "5", "6"]);
    cluster.converge().await;
}
