//! Which buckets a compactor takes for the server's.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use tidelog::checkpoints::lives::{ClusterFile, IncarnationFile};
use tidelog::model::Incarnation;

use super::*;
use crate::stub::{self, Answer};

/// A bucket of `cluster` in life `incarnation`.
async fn bucket(cluster: &str, incarnation: u64) -> Bucket {
    let bucket = Bucket::memory();
    lives::create_cluster(&bucket, &ClusterFile::new(cluster.to_owned(), 1)).await.unwrap();
    for life in 1..=incarnation {
        let life = IncarnationFile::new(Incarnation(life), uuid::Uuid::from_u128(1), 1, false);
        lives::create_incarnation(&bucket, &life).await.unwrap();
    }
    bucket
}

/// What becomes of a start whose server is in life 2 of the cluster `c`.
async fn started(bucket: &Bucket) -> Result<()> {
    let status = json!({"version": "1", "cluster_id": "c", "incarnation": 2, "node_id": 1, "closed": false, "roles": [],
        "shards": [], "bucket": {"url": "memory:///", "healthy": true}, "budgets": [], "jobs": []});
    let (client, _) = stub::server([Answer::ok(&status)]).await;
    refuse_other_bucket(&client, bucket, true).await
}

#[tokio::test]
async fn a_bucket_that_is_not_the_servers_is_not_written_to() {
    started(&bucket("c", 2).await).await.unwrap();
    let cases = [
        (bucket("d", 2).await, "it is of cluster d, and the server of c"),
        (bucket("c", 1).await, "is incarnation 1, and the server's is 2"),
        (bucket("c", 3).await, "is incarnation 3, and the server's is 2"),
        (Bucket::memory(), "it has no cluster"),
    ];
    for (bucket, told) in cases {
        let error = format!("{:#}", started(&bucket).await.unwrap_err());
        assert!(error.contains("another bucket than the server's") && error.contains(told), "{error}");
    }
}
