//! Bytes on the peer network for each byte that is acknowledged, of values that cannot be compressed.

use std::time::Duration;

use rand::Rng as _;
use reqwest::Method;
use serde_json::json;

use super::support::cluster::{Cluster, GATEWAY};
use super::support::http::{Http, send};
use super::support::server::Settings;
use super::support::table::{Table, Target};

/// Bytes of a value.
const VALUE: usize = 256 << 10;
/// Values of each way.
const VALUES: u64 = 400;
/// Until the last acknowledgements have reached the followers.
const AFTER: Duration = Duration::from_secs(1);
const TOPIC: &str = "bench";

/// By way of the leader, of another node, and of a process that is only a gateway.
pub(crate) async fn traffic(table: &mut Table) {
    let mut cluster = Cluster::start_direct(3, Settings::default()).await;
    cluster.http().create_topic(TOPIC, &json!({"compression": "none"})).await;
    let ways = [
        (cluster.leader().await, "replication", 2.1),
        (cluster.follower().await, "replication and the way to the leader", 3.2),
        (GATEWAY, "replication and the gateway's hop", 3.2),
    ];
    for (node, way, most) in ways {
        // So that it costs nothing before.
        if node == GATEWAY {
            cluster.start_gateway().await;
        }
        let values = table.scaled(VALUES);
        let before = sent(&cluster).await;
        write(&cluster.http_of(node), values).await;
        tokio::time::sleep(AFTER).await;
        let bytes = sent(&cluster).await - before;
        let acknowledged = (values * VALUE as u64) as f64;
        let measured = format!("{way}: {:.1} MB between the nodes", bytes / 1e6);
        let beside = format!("{:.1} MB acknowledged", acknowledged / 1e6);
        table.line("traffic", &measured, &beside, (bytes / acknowledged, Target::AtMost(most)));
    }
}

async fn write(http: &Http, values: u64) {
    for _ in 0..values {
        let mut value = vec![0; VALUE];
        rand::rng().fill(value.as_mut_slice());
        let request = http.request(Method::POST, &format!("/v1/topics/{TOPIC}/partitions/0/records"));
        send(request.header("content-type", "application/octet-stream").body(value)).await.expect(200);
    }
}

/// Bytes that the nodes have sent to each other.
async fn sent(cluster: &Cluster) -> f64 {
    let mut sum = 0.0;
    for node in cluster.running() {
        sum += cluster.http_of(node).metric("tidelog_peer_sent_bytes_total", &[]).await;
    }
    sum
}
