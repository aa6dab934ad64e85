//! The network cut: a minority, one way only, one link only. The majority goes on, the rest refuses, and nothing is lost once it
//! heals.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Busy, busy, lasting};
use crate::support::cluster::MAX_ELECTION_MS;
use crate::support::eventually;
use crate::support::http::{Http, try_send};

/// Long enough for an election and for what is under way to be given up.
const CUT: Duration = Duration::from_millis(3 * MAX_ELECTION_MS);

/// One record to a node, without anything that would make a second attempt safe.
async fn write(http: &Http, text: &str) -> Option<(u16, Value)> {
    let request = http.request(Method::POST, "/v1/topics/once/records?timeout_ms=2000");
    let request = request.header("content-type", "application/json");
    let answer = try_send(request.body(json!({"records": [{"text": text}]}).to_string())).await?;
    Some((answer.status, answer.json()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_acknowledges_nothing_and_serves_no_stale_topics() {
    let Busy { cluster, mut load, readers } = Busy::start(busy()).await;
    cluster.http().create_topic("once", &json!({})).await;
    let history = load.history();
    let old = cluster.leader().await;
    let alone = cluster.http_of(old);
    load.during(async {
        Busy::more(&history, 300).await;
        cluster.net().isolate(old, &cluster.others(old));
        let mut refused = 0;
        for number in 0..4 {
            let answer = write(&alone, &format!("minority-{number}")).await;
            if let Some((status, body)) = answer {
                assert!(matches!(status, 503 | 504), "{status}: {body}");
                let outcome = body["error"]["outcome"].as_str().unwrap();
                assert!(matches!(outcome, "not_written" | "unknown"), "{body}");
                refused += 1;
            }
        }
        assert!(refused > 0, "a node that is cut off still answers");
        // What the majority does meanwhile the old leader cannot know, and it says so.
        let new = cluster.leader_but(old).await;
        let majority = cluster.http_of(new);
        eventually("a topic of the majority", || async {
            let answer = majority.json(Method::PUT, "/v1/topics/new", &json!({})).await;
            matches!(answer.status, 200 | 201).then_some(())
        })
        .await;
        if let Some(stale) = alone.try_get("/v1/topics/new").await {
            assert!(matches!(stale.status, 503 | 504), "{stale:?}");
        }
        assert!(alone.try_get("/healthz").await.is_some_and(|answer| answer.status == 200));
        Busy::more(&history, 300).await;
        cluster.net().heal();
    })
    .await;
    alone_again(&alone).await;
    // What was not acknowledged may be there or not, but everywhere alike, and each at most once.
    cluster.converge().await;
    let mut first: Option<Vec<Value>> = None;
    for node in 1..=3 {
        let records = cluster.http_of(node).fetch_all("once", 0, "").await;
        let texts: Vec<Value> = records.iter().map(|record| record["text"].clone()).collect();
        for text in &texts {
            assert_eq!(texts.iter().filter(|other| *other == text).count(), 1, "{texts:?}");
        }
        assert_eq!(first.get_or_insert_with(|| texts.clone()), &texts);
    }
    Busy { cluster, load, readers }.check().await;
}

/// Waits until a node that was cut off takes part again.
async fn alone_again(http: &Http) {
    eventually("the node to take part again", || async {
        let answer = http.try_get("/v1/topics/new").await?;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_cut_off_stops_nobody_and_does_not_depose_the_leader() {
    let Busy { cluster, mut load, readers } = Busy::start(busy()).await;
    let history = load.history();
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let term = cluster.shard(leader).await.unwrap()["term"].clone();
    load.during(async {
        cluster.net().isolate(follower, &cluster.others(follower));
        Busy::more(&history, 500).await;
        lasting(CUT).await;
        cluster.net().heal();
        Busy::more(&history, 100).await;
    })
    .await;
    eventually("the follower to follow", || async {
        let shard = cluster.shard(follower).await?;
        (shard["leader"] == leader).then_some(())
    })
    .await;
    // Without a vote beforehand it would have come back with a newer term.
    assert_eq!(cluster.shard(leader).await.unwrap()["term"], term);
    Busy { cluster, load, readers }.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_are_cut_one_way_or_one_by_one_lose_nothing() {
    let Busy { cluster, mut load, readers } = Busy::start(busy()).await;
    let history = load.history();
    for way in ["from the leader", "to the leader", "between the leader and one follower"] {
        load.during(async {
            Busy::more(&history, 200).await;
            let leader = cluster.leader().await;
            let others = cluster.others(leader);
            match way {
                "from the leader" => others.iter().for_each(|other| cluster.net().cut(leader, *other)),
                "to the leader" => others.iter().for_each(|other| cluster.net().cut(*other, leader)),
                _ => cluster.net().isolate(leader, &others[..1]),
            }
            // In each case two nodes hear each other: they have a leader, or get one.
            Busy::more(&history, 200).await;
            lasting(CUT).await;
            cluster.net().heal();
            Busy::more(&history, 100).await;
        })
        .await;
        load.repeat().await;
    }
    Busy { cluster, load, readers }.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_without_a_majority_refuses_and_goes_on_when_it_has_one() {
    let Busy { cluster, mut load, readers } = Busy::start(busy()).await;
    cluster.http().create_topic("once", &json!({})).await;
    let history = load.history();
    load.during(async {
        Busy::more(&history, 300).await;
        for node in 1..=3 {
            cluster.net().isolate(node, &cluster.others(node));
        }
        for node in 1..=3 {
            if let Some((status, body)) = write(&cluster.http_of(node), &format!("alone-{node}")).await {
                assert!(matches!(status, 503 | 504), "{status}: {body}");
            }
        }
        lasting(CUT).await;
        let before = history.count();
        lasting(CUT / 3).await;
        assert_eq!(history.count(), before, "nobody may acknowledge");
        cluster.net().heal();
        Busy::more(&history, 300).await;
    })
    .await;
    Busy { cluster, load, readers }.check().await;
}
