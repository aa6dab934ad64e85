//! The load generator against the real server: what it says it wrote is there, and a failure is one.

use serde_json::{Value, json};

use crate::support::binary::{bench, run, text};
use crate::support::http::Http;
use crate::support::server::{Server, Settings, files_under};

/// Records of a topic, by partition.
async fn counts(http: &Http, topic: &str) -> Vec<u64> {
    let topic = http.get(&format!("/v1/topics/{topic}")).await.expect(200);
    topic["partitions"].as_array().unwrap().iter().map(|p| p["high_watermark"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_produce_reports_is_in_the_topic_for_every_content_type() {
    let server = Server::start().await;
    let (url, http) = (server.url(), Http::new(server.url()));
    for (content_type, batch) in [("json", 1), ("json", 7), ("ndjson", 7), ("record-batches", 7), ("octet-stream", 1)] {
        let (topic, size) = (format!("{content_type}-{batch}"), batch.to_string());
        let args = ["produce", "--topic", &topic, "--content-type", content_type, "--batch-size", &size];
        let args = [&args[..], &["--records", "70", "--record-size", "100", "--connections", "3", "--threads", "2"]];
        let report = bench(url, &args.concat());
        assert_eq!(report["records"], 70, "{report}");
        assert_eq!(report["requests"], 70 / batch, "{report}");
        assert_eq!(report["value_bytes"], 7000, "{report}");
        assert_eq!(report["latency"]["count"], report["requests"]);
        assert_eq!(report["errors"], json!({}));
        assert_eq!(report["parameters"]["content_type"], content_type);
        let records = http.fetch_all(&topic, 0, "&values=base64").await;
        assert_eq!(records.len(), 70, "{content_type}");
        let lens = records.iter().map(|record| record["base64"].as_str().unwrap().trim_end_matches('=').len());
        assert!(lens.into_iter().all(|len| len == 134), "100 bytes in base64 without padding");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_loop_writes_every_request_that_was_due_over_all_partitions() {
    let server = Server::start().await;
    let (url, http) = (server.url(), Http::new(server.url()));
    let pid = server.id().to_string();
    let args = ["produce", "--topic", "many", "--topics", "3", "--partitions", "2", "--rate", "300", "--connections"];
    let args = [&args[..], &["4", "--duration", "1s", "--warm-up", "200ms", "--server-pid", &pid, "--metrics"]];
    let report = bench(url, &args.concat());
    assert_eq!(report["requests"], 300, "{report}");
    assert_eq!(report["warm_up_records"], 60, "{report}");
    assert_eq!(report["send_lag"]["count"], 300, "{report}");
    assert!(report["server"]["rss_mib"].as_f64().unwrap() > 1.0, "{report}");
    assert!(report["metrics"]["produce_records"].as_f64().unwrap() > 0.0, "{report}");
    for number in 0..3 {
        assert_eq!(counts(&http, &format!("many-{number:05}")).await, [60, 60]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_with_failures_exits_1_unless_they_are_allowed() {
    let server = Server::start().await;
    let url = server.url();
    // A record that is larger with its batch's header than an entry of the log may be is refused by the server.
    let args = ["bench", "produce", "--record-size", "500KiB", "--batch-size", "10", "--records", "20"];
    let failed = run(url, &args).failed(1);
    assert!(failed.contains("batch_too_large 2 times"), "{failed}");
    let allowed = [&args[..], &["--allow-errors", "--json"]].concat();
    let report: Value = serde_json::from_str(&run(url, &allowed).ok()).unwrap();
    assert_eq!(report["errors"], json!({"batch_too_large": 2}));
    assert_eq!((&report["requests"], &report["records"]), (&json!(0), &json!(0)));
    run("http://127.0.0.1:1", &["bench", "produce", "--records", "1"]).failed(1);
    run(url, &["bench", "produce", "--rate", "0"]).failed(2);
    run(url, &["bench", "produce", "--content-type", "octet-stream", "--batch-size", "2"]).failed(2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consume_reads_everything_from_every_tier_in_every_format() {
    let server = Server::start().await;
    let (url, http) = (server.url(), Http::new(server.url()));
    let args = ["produce", "--partitions", "2", "--records", "5000", "--batch-size", "100", "--record-size", "200"];
    bench(url, &args);
    for tier in ["tail", "segments", "archive"] {
        match tier {
            "tail" => {}
            tier => http.flush("bench", tier == "archive").await,
        }
        for format in ["batches", "ndjson", "json"] {
            let args = ["consume", "--format", format, "--connections", "3", "--repeat", "2", "--page-bytes", "64KiB"];
            let report = bench(url, &args);
            for run in report["runs"].as_array().unwrap() {
                assert_eq!(run["records"], 5000, "{tier} {format}: {report}");
                assert!(run["pages"].as_u64().unwrap() > 4, "{report}");
                assert!(run["body_bytes"].as_u64().unwrap() > 5000 * 100, "{report}");
            }
        }
    }
    run(url, &["bench", "consume", "--topic", "nosuch"]).failed(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latency_waits_for_every_record_at_its_consumer() {
    let server = Server::start().await;
    let url = server.url();
    for consumers in ["poll", "sse"] {
        let args = ["latency", "--partitions", "2", "--rate", "100", "--duration", "1s", "--warm-up", "100ms"];
        let report = bench(url, &[&args[..], &["--consumers", consumers, "--record-size", "100"]].concat());
        assert_eq!(report["requests"], 100, "{report}");
        assert_eq!(report["end_to_end"]["count"], 100, "{report}");
        let least = |latency: &Value| latency["min_us"].as_f64().unwrap();
        assert!(least(&report["end_to_end"]) > 0.0 && least(&report["latency"]) > 0.0, "{report}");
    }
    assert_eq!(counts(&Http::new(url), "bench").await, [110, 110]);
}

/// Fail point `wal.sync` stands for a slow disk: nobody is answered sooner than a sync takes, and all that waits shares one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_sync_delays_every_answer_and_is_shared_by_those_who_wait() {
    let server = Server::start_with(Settings::default().env("TIDELOG_FAILPOINTS", "wal.sync=sleep:20")).await;
    let fired = || server.log().lines().filter(|line| line.contains("fired") && line.contains("wal.sync")).count();
    bench(server.url(), &["produce", "--records", "1"]);
    let before = fired();
    let report = bench(server.url(), &["produce", "--records", "640", "--connections", "64"]);
    assert!(report["latency"]["min_us"].as_f64().unwrap() >= 20_000.0, "{report}");
    let syncs = fired() - before;
    assert!((10..320).contains(&syncs), "{syncs} syncs for 640 requests of 64 connections");
}

#[test]
fn the_baseline_measures_the_handler_the_disk_and_the_bucket_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = tempfile::tempdir().unwrap();
    let url = format!("file://{}", text(bucket.path()));
    let args = ["baseline", "--data-dir", text(dir.path()), "--disk-duration", "50ms", "--records", "200"];
    let report = bench("", &[&args[..], &["--bucket", &url]].concat());
    let no_op = report["no_op"].as_array().unwrap();
    assert_eq!(no_op.iter().map(|run| run["connections"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 64]);
    assert!(no_op.iter().all(|run| run["requests"] == 200 && run["errors"] == json!({})), "{report}");
    let sizes: Vec<&Value> = report["disk"].as_array().unwrap().iter().map(|disk| &disk["size"]).collect();
    assert_eq!(sizes, [4096, 1 << 20]);
    assert!(report["disk"][0]["latency"]["p50_us"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(report["bucket"]["latency"]["count"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(files_under(bucket.path()), Vec::<std::path::PathBuf>::new());
}
