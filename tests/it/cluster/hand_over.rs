//! Planned changes of leaders under load: producers that send each request once, without anything that makes it repeatable, get
//! an answer 200 to every one of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use tokio::task::JoinHandle;

use super::{PARTITIONS, busy};
use crate::support::binary::run;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::http::Http;

/// When answers came, in order.
type Answered = Arc<Mutex<Vec<Instant>>>;

/// Producers that send to one node each.
struct Once {
    stop: Arc<AtomicBool>,
    answered: Answered,
    tasks: Vec<JoinHandle<Vec<(u64, u64, String)>>>,
}

impl Once {
    /// Two to each of `nodes`.
    fn start(nodes: &[(u64, Http)]) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Answered::default());
        let tasks = nodes.iter().flat_map(|(node, http)| [("a", *node, http), ("b", *node, http)]);
        let tasks = tasks.map(|(name, node, http)| {
            let (http, stop, answered) = (http.clone(), Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut written = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let value = format!("{name}-{node}-{}", written.len());
                    let answer = http.produce("t", &json!([{"key": value, "text": value}])).await.expect(200);
                    answered.lock().unwrap().push(Instant::now());
                    let place = |field: &str| answer["records"][0][field].as_u64().unwrap();
                    written.push((place("partition"), place("offset"), value));
                }
                written
            })
        });
        let tasks = tasks.collect();
        Self { stop, answered, tasks }
    }

    /// Once so many requests more are answered.
    async fn more(&self, count: usize) {
        let enough = self.answered.lock().unwrap().len() + count;
        eventually("the load", || async {
            assert!(self.tasks.iter().all(|task| !task.is_finished()), "a request failed");
            (self.answered.lock().unwrap().len() >= enough).then_some(())
        })
        .await;
    }

    /// Where everything is that was answered, and the longest time without an answer.
    async fn end(self) -> (Vec<(u64, u64, String)>, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let written = join_all(self.tasks).await.into_iter().flat_map(Result::unwrap).collect();
        let answered = self.answered.lock().unwrap();
        let pause = answered.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        (written, pause)
    }
}

/// Every record is where its answer said, and nothing else is anywhere.
async fn check(http: &Http, mut written: Vec<(u64, u64, String)>) {
    let mut found = Vec::new();
    for partition in 0..PARTITIONS {
        for record in http.fetch_all("t", u32::try_from(partition).unwrap(), "&values=text").await {
            found.push((partition, record["offset"].as_u64().unwrap(), record["text"].as_str().unwrap().to_owned()));
        }
    }
    written.sort();
    found.sort();
    assert!(written == found, "{} answered, {} found", written.len(), found.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_when_leadership_is_handed_over() {
    let cluster = Cluster::start_with(3, busy()).await;
    cluster.http().create_topic("t", &json!({"partitions": PARTITIONS})).await;
    let nodes: Vec<(u64, Http)> = (1..=3).map(|node| (node, cluster.http_of(node))).collect();
    let load = Once::start(&nodes);
    for round in 0..6 {
        load.more(200).await;
        let leader = cluster.leader().await;
        let to = cluster.others(leader)[round % 2];
        let path = "/v1/admin/leader:transfer";
        // Through a node that leads and one that does not.
        let asked = if round % 2 == 0 { leader } else { to };
        cluster.http_of(asked).change(path, &json!({ "to": to })).await.expect(200);
        load.more(100).await;
        assert_eq!(cluster.leader().await, to);
    }
    let (written, pause) = load.end().await;
    println!("{} requests, the longest pause took {pause:?}", written.len());
    check(&cluster.http(), written).await;
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_to_the_others_fails_when_the_leader_is_drained() {
    let mut cluster = Cluster::start_with(3, busy()).await;
    cluster.http().create_topic("t", &json!({"partitions": PARTITIONS})).await;
    for _ in 0..2 {
        let leader = cluster.leader().await;
        let nodes: Vec<(u64, Http)> =
            cluster.others(leader).into_iter().map(|node| (node, cluster.http_of(node))).collect();
        let before = cluster.http().get("/v1/topics/t").await.expect(200);
        let load = Once::start(&nodes);
        load.more(200).await;
        let url = cluster.url(leader);
        tokio::task::block_in_place(|| run(&url, &["admin", "drain"])).ok();
        let status = cluster.ended(leader).await;
        assert!(status.success(), "{status}\n{}", cluster.log(leader));
        load.more(200).await;
        let (written, pause) = load.end().await;
        println!("{} requests, the longest pause took {pause:?}", written.len());
        cluster.restart(leader).await;
        for (partition, begun) in before["partitions"].as_array().unwrap().iter().enumerate() {
            let begun = begun["high_watermark"].as_u64().unwrap();
            let here = |place: &&(u64, u64, String)| place.0 == partition as u64;
            let least = written.iter().filter(here).map(|place| place.1).min();
            assert!(least.is_none_or(|least| least >= begun), "an offset below {begun} was given away again");
        }
        cluster.converge().await;
    }
}
