//! The load generator against the real server: what it says it wrote is there, and a failure is one.

use serde_json::{Value, json};

use crate::support::binary::{run, text};
use crate::support::http::Http;
use crate::support::server::Server;

/// What a run printed as JSON.
fn bench(server: &str, args: &[&str]) -> Value {
    serde_json::from_str(&run(server, &[&["bench"], args, &["--json"]].concat()).ok()).unwrap()
}

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

#[test]
fn the_baseline_measures_the_handler_and_the_disk_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["baseline", "--data-dir", text(dir.path()), "--disk-duration", "50ms", "--records", "200"];
    let report = bench("", &args);
    let no_op = report["no_op"].as_array().unwrap();
    assert_eq!(no_op.iter().map(|run| run["connections"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 64]);
    assert!(no_op.iter().all(|run| run["requests"] == 200 && run["errors"] == json!({})), "{report}");
    let sizes: Vec<&Value> = report["disk"].as_array().unwrap().iter().map(|disk| &disk["size"]).collect();
    assert_eq!(sizes, [4096, 1 << 20]);
    assert!(report["disk"][0]["latency"]["p50_us"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
