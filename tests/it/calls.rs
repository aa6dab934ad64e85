//! How many calls of a bucket what is written and read costs: counted by a proxy before the S3 server, no clock in it.

use futures::future::join_all;
use serde_json::json;

use crate::support::binary::bench;
use crate::support::far::{Does, Far};
use crate::support::http::Http;
use crate::support::s3::S3;
use crate::support::server::{Server, Settings};

const PARTITIONS: u32 = 16;
const MIB: u64 = 1 << 20;
/// Of values, incompressible enough that stored bytes are as many.
const WRITTEN: u64 = 48;

/// A server whose calls to the bucket go through `far`.
fn settings(s3: &S3, far: &Far) -> Settings {
    s3.settings().env("AWS_ENDPOINT", &far.url()).set("flush.interval", "1h").set("archive.enabled", "false")
}

/// Writes [`WRITTEN`] MiB over all partitions, and flushes them.
async fn write(server: &Server) -> Http {
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"partitions": PARTITIONS, "compression": "none"})).await;
    let bytes = format!("{WRITTEN}MiB");
    let load = ["produce", "--topic", "t", "--record-size", "64KiB", "--request-bytes", "256KiB", "--bytes", &bytes];
    bench(server.url(), &[&load[..], &["--content-type", "record-batches", "--connections", "4"]].concat());
    http.flush("t", false).await;
    http
}

/// Reads a partition page by page; how many records it has.
async fn read(http: &Http, partition: u32) -> u64 {
    let (mut offset, mut end) = (0, 1);
    while offset < end {
        let path =
            format!("/v1/topics/t/partitions/{partition}/records?offset={offset}&max_bytes={MIB}&max_records=10000");
        let page = http.get(&path).await.expect(200);
        offset = page["next_offset"].as_u64().unwrap();
        end = page["high_watermark"].as_u64().unwrap();
    }
    offset
}

/// Segments of at least `flush.bytes`, whatever is in the tail when it is flushed, and a checkpoint for each flush.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_costs_a_call_for_each_sixteen_mebibytes_and_one_for_its_checkpoint() {
    let s3 = S3::start().await;
    let far = Far::before(s3.address()).await;
    let server = Server::start_with(settings(&s3, &far)).await;
    let http = write(&server).await;
    let put = |kind| far.calls().0.get(&(Does::Put, kind)).copied().unwrap_or_default();
    let flushes = http.metric("tidelog_flushes_total", &[("outcome", "ok")]).await as u64;
    let (segments, checkpoints) = (put("segment"), put("checkpoint"));
    // The last flush has what is left; headers and footers of 48 MiB do not make up for another segment.
    assert!((1..=WRITTEN / 16 + 1).contains(&segments), "{:?}", far.calls());
    assert_eq!((checkpoints, put("index")), (flushes, 0), "{:?}", far.calls());
    let counted = http.metric("tidelog_bucket_job_calls_total", &[("task", "flush"), ("kind", "put")]).await as u64;
    assert_eq!(counted, segments + checkpoints, "what the server counts is what was sent");
}

/// Sixteen readers side by side, and one that reads all partitions in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cold_readers_of_sixteen_partitions_cost_less_than_a_call_a_mebibyte() {
    let s3 = S3::start().await;
    let far = Far::before(s3.address()).await;
    let server = Server::start_with(settings(&s3, &far)).await;
    let _ = write(&server).await;
    let dir = server.kill();
    for side_by_side in [true, false] {
        std::fs::remove_dir_all(dir.path().join("data/cache")).unwrap();
        let server = Server::start_in(dir.clone(), settings(&s3, &far)).await;
        let http = Http::new(server.url());
        let got = || far.calls().0.get(&(Does::Get, "segment")).copied().unwrap_or_default();
        let before = got();
        let records: Vec<u64> = if side_by_side {
            join_all((0..PARTITIONS).map(|partition| read(&http, partition))).await
        } else {
            let mut records = Vec::new();
            for partition in 0..PARTITIONS {
                records.push(read(&http, partition).await);
            }
            records
        };
        assert_eq!(records.iter().sum::<u64>() * (64 << 10), WRITTEN * MIB, "{records:?}");
        let calls = got() - before;
        assert!(calls <= WRITTEN, "{calls} calls for {WRITTEN} MiB, side by side: {side_by_side}");
        let counted = http.metric("tidelog_bucket_job_calls_total", &[("task", "fetch"), ("kind", "get")]).await;
        assert_eq!(counted as u64, calls, "what the server counts is what was sent");
        drop(server);
    }
}
