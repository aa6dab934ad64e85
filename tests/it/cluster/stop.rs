//! Closing a cluster: one command closes all of it, however leadership moves while its nodes end; the bucket alone has everything
//! then, and starting its nodes opens it again.

use std::sync::Arc;

use serde_json::json;

use super::{Busy, busy};
use crate::support::binary::run;
use crate::support::eventually;
use crate::support::http::Http;
use crate::support::server::{Server, copy_tree};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_closed_stays_so_and_the_bucket_alone_has_everything() {
    let Busy { mut cluster, mut load, readers } = Busy::start(busy()).await;
    let history = load.history();
    load.during(Busy::more(&history, 500)).await;
    // By way of a node that does not lead; that one ends.
    let asked = cluster.follower().await;
    let url = cluster.url(asked);
    let said = tokio::task::block_in_place(|| run(&url, &["admin", "stop"])).ok();
    assert!(said.contains("everything is in the bucket"), "{said}");
    assert!(cluster.ended(asked).await.success());
    // The leader goes next: the last one leads, and does not open what was closed.
    let leader = cluster.leader().await;
    let last = cluster.others(leader).into_iter().find(|node| *node != asked).unwrap();
    cluster.http_of(last).produce("t", &json!([{"text": "too late"}])).await.error(503, "closed");
    let moved =
        tokio::task::block_in_place(|| run(&cluster.url(last), &["admin", "transfer-leader", &last.to_string()]));
    assert!(moved.ok().contains(&format!("node {last} leads")));
    cluster.http_of(last).produce("t", &json!([{"text": "too late"}])).await.error(503, "closed");
    for node in [leader, last] {
        let status = cluster.terminate(node).await;
        assert!(status.success(), "{status}\n{}", cluster.log(node));
    }

    // Another machine with nothing but the bucket, without being told that something may be missing.
    let dir = Arc::new(tempfile::tempdir().unwrap());
    copy_tree(&cluster.bucket(), &dir.path().join("data").join("bucket"));
    let alone = Server::start_in(dir, busy()).await;
    let http = Http::new(alone.url());
    history.check(&http, "t").await;
    http.produce("t", &json!([{"text": "of the second life", "partition": 0}])).await.expect(200);
    drop(alone);

    // Its own nodes, on the bucket as it was, open it again.
    (1..=3).for_each(|node| cluster.spawn(node));
    cluster.all_ready().await;
    eventually("the cluster to be open", || async {
        let status = cluster.http_of(last).try_get("/v1/status").await?.json();
        (status["closed"] == false).then_some(())
    })
    .await;
    load.during(Busy::more(&history, 100)).await;
    Busy { cluster, load, readers }.check().await;
}
