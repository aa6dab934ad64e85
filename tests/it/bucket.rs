//! Starts from the bucket alone: after a clean stop, refused after an unclean one, with `--restore`; `verify`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::binary::{run, text};
use crate::support::http::{Http, send};
use crate::support::server::{Server, Settings, copy_tree};

/// A new machine that finds this bucket and nothing else.
fn machine_with(bucket: &Path) -> (Arc<TempDir>, Settings) {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    copy_tree(bucket, &dir.path().join("data").join("bucket"));
    (dir, Settings::default())
}

async fn texts(http: &Http, topic: &str) -> Vec<Value> {
    http.fetch_all(topic, 0, "").await.into_iter().map(|record| record["text"].clone()).collect()
}

/// A topic with records in the archive, in a segment and in the tail.
async fn three_tiers(http: &Http) -> Value {
    let topic = http.create_topic("t", &json!({"archive_after_ms": 86_400_000})).await;
    http.produce("t", &json!([{"text": "archived"}])).await.expect(200);
    http.flush("t", true).await;
    http.produce("t", &json!([{"text": "segment"}])).await.expect(200);
    http.flush("t", false).await;
    http.produce("t", &json!([{"text": "tail"}])).await.expect(200);
    topic
}

/// The bucket of a cluster that was closed after that.
async fn closed_with_three_tiers() -> (PathBuf, Arc<TempDir>) {
    let server = Server::start().await;
    let http = Http::new(server.url());
    three_tiers(&http).await;
    send(http.request(Method::POST, "/v1/admin/stop")).await.expect(200);
    let bucket = server.bucket();
    let (status, dir) = server.ended();
    assert!(status.success());
    (bucket, dir)
}

#[tokio::test]
async fn an_empty_machine_and_the_bucket_are_the_cluster_again() {
    let server = Server::start().await;
    let http = Http::new(server.url());
    let topic = three_tiers(&http).await;
    let status = http.get("/v1/status").await.expect(200);
    let (bucket, (ended, _dir)) = (server.bucket(), server.terminate());
    assert!(ended.success(), "{ended}");

    let (dir, settings) = machine_with(&bucket);
    let server = Server::start_in(dir, settings).await;
    let http = Http::new(server.url());
    assert_eq!(texts(&http, "t").await, ["archived", "segment", "tail"]);
    assert_eq!(http.get("/v1/topics/t").await.expect(200)["topic_id"], topic["topic_id"]);
    let again = http.get("/v1/status").await.expect(200);
    assert_eq!(again["cluster_id"], status["cluster_id"]);
    assert_eq!(again["incarnation"].as_u64(), status["incarnation"].as_u64().map(|n| n + 1));
    let answer = http.produce("t", &json!([{"text": "of the second life"}])).await.expect(200);
    assert_eq!(answer["records"][0]["offset"], 3);
}

#[tokio::test]
async fn an_unclean_bucket_is_refused_unless_restore_is_asked_for() {
    let server = Server::start_with(Settings::default().set("flush.interval", "1h")).await;
    let http = Http::new(server.url());
    three_tiers(&http).await;
    let bucket = server.bucket();
    let _dir = server.kill();

    let (dir, settings) = machine_with(&bucket);
    let log = Server::try_start(dir, settings.clone()).await.unwrap_err();
    assert!(log.contains("--restore"), "{log}");
    let (dir, settings) = machine_with(&bucket);
    let server = Server::start_in(dir, settings.arg("--restore")).await;
    let http = Http::new(server.url());
    assert_eq!(texts(&http, "t").await, ["archived", "segment"], "the tail was in the log only");
    let answer = http.produce("t", &json!([{"text": "anew"}])).await.expect(200);
    assert_eq!(answer["records"][0]["offset"], 2);
}

#[tokio::test]
async fn a_stop_by_an_operator_is_clean_and_ends_the_process() {
    let server = Server::start().await;
    let http = Http::new(server.url());
    three_tiers(&http).await;
    let said = run(server.url(), &["admin", "stop"]).ok();
    assert!(said.contains("in the bucket"), "{said}");
    let bucket = server.bucket();
    let (status, dir) = server.ended();
    assert!(status.success(), "{status}");
    let verified = run("", &["verify", "--bucket", &format!("file://{}", text(&bucket))]).ok();
    assert!(!verified.is_empty());

    // On its own log it opens again.
    let server = Server::start_in(dir, Settings::default()).await;
    let http = Http::new(server.url());
    http.produce("t", &json!([{"text": "reopened"}])).await.expect(200);
    assert_eq!(texts(&http, "t").await, ["archived", "segment", "tail", "reopened"]);
}

#[tokio::test]
async fn a_cluster_that_was_replaced_stops() {
    let server = Server::start_with(Settings::default().set("flush.interval", "200ms")).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    http.produce("t", &json!([{"text": "x"}])).await.expect(200);
    http.flush("t", false).await;
    // Another machine takes the same bucket over.
    let url = format!("file://{}", text(&server.bucket()));
    let taker = Server::start_with(Settings::default().arg("--bucket").arg(&url).arg("--restore")).await;
    let produced = http.json(Method::POST, "/v1/topics/t/records", &json!({"records": [{"text": "too late"}]})).await;
    drop(produced);
    let (status, _dir) = server.ended();
    assert!(!status.success(), "{status}");
    let taken = Http::new(taker.url());
    assert_eq!(texts(&taken, "t").await, ["x"]);
}

#[tokio::test]
async fn verify_counts_orphans_and_finds_every_damaged_object() {
    let (bucket, _dir) = closed_with_three_tiers().await;
    let url = format!("file://{}", text(&bucket));
    let report: Value = serde_json::from_str(&run("", &["verify", "--json", "--bucket", &url]).ok()).unwrap();
    let [shard] = report["shards"].as_array().unwrap().as_slice() else { panic!("{report}") };
    let count = |name: &str| shard[name].as_u64().unwrap();
    let to_find = count("segments") + count("archive_files") + count("index_parts");

    let mut objects = Vec::new();
    find(&bucket, &mut objects);
    let is = |path: &Path, extensions: &[&str]| {
        path.extension().is_some_and(|extension| extensions.iter().any(|one| *one == extension))
    };
    let ours = objects.iter().filter(|path| is(path, &["seg", "parquet", "idx", "ckpt"])).count();
    assert_eq!(count("orphans"), ours as u64 - to_find - 1, "{report}");
    let named: Vec<_> = objects.iter().filter(|path| is(path, &["seg", "parquet", "idx"])).collect();
    let mut found = 0;
    for path in named {
        let whole = std::fs::read(path).unwrap();
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x10;
        std::fs::write(path, &damaged).unwrap();
        let ran = run("", &["verify", "--bucket", &url]);
        if ran.code == 1 {
            let name = path.file_stem().unwrap().to_str().unwrap().rsplit('-').next().unwrap();
            assert!(format!("{}{}", ran.stdout, ran.stderr).contains(name), "{}{}", ran.stdout, ran.stderr);
            found += 1;
        }
        std::fs::write(path, &whole).unwrap();
    }
    // What is not named is counted and not read.
    assert_eq!(found, to_find, "{report}");
    run("", &["verify", "--bucket", &url]).ok();
}

#[tokio::test]
async fn a_dry_run_of_the_garbage_collection_tells_and_deletes_nothing() {
    let server = Server::start().await;
    let http = Http::new(server.url());
    three_tiers(&http).await;
    for _ in 0..4 {
        http.produce("t", &json!([{"text": "more"}])).await.expect(200);
        http.flush("t", false).await;
    }
    send(http.request(Method::POST, "/v1/admin/stop")).await.expect(200);
    let bucket = server.bucket();
    let (status, _dir) = server.ended();
    assert!(status.success());
    let url = format!("file://{}", text(&bucket));
    let dry_run = |more: &[&str]| run("", &[&["gc", "--dry-run", "--bucket", &url][..], more].concat());
    let mut before = Vec::new();
    find(&bucket, &mut before);

    // Within the grace period nothing goes.
    let young: Value = serde_json::from_str(&dry_run(&["--json"]).ok()).unwrap();
    assert_eq!((&young["objects"], &young["bytes"]), (&json!(0), &json!(0)), "{young}");
    assert!(young["shards"][0]["checkpoint"].as_str().unwrap().ends_with(".ckpt"), "{young}");
    assert!(dry_run(&[]).ok().contains("0 objects with 0 bytes would be deleted"));

    let old: Value = serde_json::from_str(&dry_run(&["--json", "--grace", "0s"]).ok()).unwrap();
    let goes = old["objects"].as_u64().unwrap();
    assert!(goes > 0, "{old}");
    let told = dry_run(&["--grace", "0s"]).ok();
    assert!(told.contains("superseded by newer checkpoints") && told.contains("live"), "{told}");
    let keys = dry_run(&["--keys", "--grace", "0s"]).ok();
    assert_eq!(keys.lines().count() as u64, goes, "{keys}");
    for line in keys.lines() {
        let (key, _) = line.split_once('\t').unwrap();
        assert!(bucket.join(key).exists(), "{line}");
    }
    let mut after = Vec::new();
    find(&bucket, &mut after);
    before.sort();
    after.sort();
    assert_eq!(before, after);
    // There is no other form of it.
    assert!(run("", &["gc", "--bucket", &url]).failed(2).contains("--dry-run"));
    dry_run(&["--keys", "--json"]).failed(2);
}

#[tokio::test]
async fn verify_reads_many_objects_at_once_and_no_faster_than_it_is_told() {
    let (bucket, _dir) = closed_with_three_tiers().await;
    let url = format!("file://{}", text(&bucket));
    let verify = |more: &[&str]| run("", &[&["verify", "--bucket", &url][..], more].concat());
    let told = verify(&["--json", "--parallel", "16", "--rate", "50MB/s"]);
    assert_eq!(told.stderr, "", "no bar where there is no terminal");
    let report: Value = serde_json::from_str(&told.ok()).unwrap();
    let shard = &report["shards"][0];
    let bytes = shard["segment_bytes"].as_u64().unwrap() + shard["archive_bytes"].as_u64().unwrap();
    assert!(bytes > 0 && report["bytes_read"] == bytes, "{report}");
    for wrong in [&["--parallel", "0"], &["--parallel", "65"], &["--rate", "50MB"], &["--rate", "0B/s"]] {
        verify(wrong).failed(2);
    }
}

fn find(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            find(&entry.path(), files);
        } else {
            files.push(entry.path());
        }
    }
}
