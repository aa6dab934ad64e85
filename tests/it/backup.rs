//! `tidelog backup` and `tidelog restore` with real processes: beside a server that goes on, killed at each step, and a server that
//! starts from what was restored.

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::binary::{Ran, command, ran, run, text};
use crate::support::http::{Answer, Http, send};
use crate::support::s3::S3;
use crate::support::server::{Server, Settings, files_under};

const PARTITIONS: u32 = 3;

fn url(path: &Path) -> String {
    format!("file://{}", text(path))
}

/// A call of the binary with a fail point armed.
fn broken(args: &[&str], point: &str) -> Ran {
    ran(&command(args).env("TIDELOG_FAILPOINTS", point).output().unwrap())
}

fn parsed(said: &str) -> Value {
    serde_json::from_str(said).unwrap()
}

/// Every record of both topics with its offset, by topic and partition.
async fn everything(http: &Http) -> BTreeMap<String, Vec<Value>> {
    let mut all = BTreeMap::new();
    for partition in 0..PARTITIONS {
        all.insert(format!("t/{partition}"), http.fetch_all("t", partition, "").await);
    }
    all.insert("other/0".to_owned(), http.fetch_all("other", 0, "").await);
    all
}

/// Produces some records to every partition, with keys, headers and timestamps.
async fn produce(http: &Http, round: u64) {
    for partition in 0..PARTITIONS {
        let records: Vec<Value> = (0..40)
            .map(|number| {
                json!({"text": format!("record {number} of round {round} {}", "x".repeat(200)), "key": format!("k{number}"),
                    "timestamp": 1_700_000_000_000_u64 + round * 1_000 + number, "headers": [["round", round.to_string()]]})
            })
            .collect();
        let path = format!("/v1/topics/t/partitions/{partition}/records");
        http.json(Method::POST, &path, &json!({ "records": records })).await.expect(200);
    }
    http.produce("other", &json!([{"text": format!("round {round}")}])).await.expect(200);
}

/// Topics with records in the archive and in segments.
async fn filled(http: &Http) {
    http.create_topic("t", &json!({"partitions": PARTITIONS, "archive_after_ms": 86_400_000})).await;
    http.create_topic("other", &json!({"archive_after_ms": 86_400_000})).await;
    for round in 0..2 {
        produce(http, round).await;
        http.flush("t", true).await;
    }
    produce(http, 2).await;
    http.flush("t", false).await;
    http.flush("other", false).await;
}

async fn as_producer(http: &Http, (id, epoch): (u64, u64), sequence: u64) -> Answer {
    let request = http
        .request(Method::POST, "/v1/topics/t/partitions/0/records")
        .header("content-type", "application/json")
        .header("producer-id", id)
        .header("producer-epoch", epoch)
        .header("producer-sequence", sequence)
        .body(json!({"records": [{"text": format!("number {sequence}")}]}).to_string());
    send(request).await
}

async fn register(http: &Http, body: Value) -> (u64, u64) {
    let answer = http.json(Method::POST, "/v1/producers", &body).await.expect(200);
    (answer["producer_id"].as_u64().unwrap(), answer["epoch"].as_u64().unwrap())
}

#[tokio::test]
async fn a_cluster_is_backed_up_while_it_runs_and_restored_as_another() {
    let server = Server::start_with(Settings::default().set("flush.interval", "1h")).await;
    let http = Http::new(server.url());
    filled(&http).await;
    let named = register(&http, json!({"name": "loader"})).await;
    let nameless = register(&http, json!({})).await;
    for producer in [named, nameless] {
        as_producer(&http, producer, 0).await.expect(200);
    }
    http.flush("t", false).await;
    let dir = tempfile::tempdir().unwrap();
    let (bucket, place) = (url(&server.bucket()), url(&dir.path().join("backups")));
    let backup = ["backup", "--bucket", &bucket, "--to", &place, "--json"];
    let first = parsed(&run("", &backup).ok());
    assert_eq!(first["copied"], first["total"]);

    produce(&http, 3).await;
    http.flush("t", false).await;
    let second = parsed(&run("", &backup).ok());
    let (copied, total) = (second["copied"]["objects"].as_u64().unwrap(), second["total"]["objects"].as_u64().unwrap());
    assert!(copied >= 2 && copied < total, "a segment, the checkpoint, a part perhaps: {second}");
    let backed_up = everything(&http).await;
    // Not in the backup: it is in the log only.
    produce(&http, 4).await;
    run("", &["verify", "--bucket", &place]).ok();
    let listed = run("", &["backup", "--to", &place, "--list"]).ok();
    assert!(listed.contains(first["backup"].as_str().unwrap()) && listed.contains(second["backup"].as_str().unwrap()));

    let restored = url(&dir.path().join("restored"));
    let restore = ["restore", "--from", &place, "--bucket", &restored];
    let said = run("", &restore).ok();
    assert!(said.contains("start it with: tidelog serve --bucket"), "{said}");
    let again = parsed(&run("", &[&restore[..], &["--json"]].concat()).ok());
    assert_eq!(again["was_done"], true);
    run("", &["verify", "--bucket", &restored]).ok();

    // Beside the old one, without --restore.
    let other = Server::start_with(Settings::default().arg("--bucket").arg(&restored)).await;
    let at_other = Http::new(other.url());
    assert_eq!(everything(&at_other).await, backed_up);
    let (old, new) = (http.get("/v1/status").await.expect(200), at_other.get("/v1/status").await.expect(200));
    assert_ne!(old["cluster_id"], new["cluster_id"]);
    let of = |topic: &Value| topic["topic_id"].clone();
    let (old, new) = (http.get("/v1/topics/t").await.expect(200), at_other.get("/v1/topics/t").await.expect(200));
    assert_ne!(of(&old), of(&new));
    for producer in [named, nameless] {
        as_producer(&at_other, producer, 1).await.error(403, "producer_fenced");
        as_producer(&http, producer, 1).await.expect(200);
    }
    let fresh = register(&at_other, json!({"name": "loader"})).await;
    assert!(fresh.1 > named.1, "{fresh:?}");
    let at = as_producer(&at_other, fresh, 0).await.expect(200)["records"][0]["offset"].as_u64().unwrap();
    assert_eq!(at, backed_up["t/0"].len() as u64, "offsets go on where the backup ends");
    produce(&at_other, 5).await;
    at_other.flush("t", true).await;
    let (status, _dir) = other.terminate();
    assert!(status.success(), "{status}");
    run("", &["verify", "--bucket", &restored]).ok();
}

#[tokio::test]
async fn a_backup_or_restore_that_is_killed_anywhere_is_finished_by_the_next() {
    let server = Server::start().await;
    let http = Http::new(server.url());
    filled(&http).await;
    let expected = everything(&http).await;
    let dir = tempfile::tempdir().unwrap();
    let (bucket, place) = (url(&server.bucket()), url(&dir.path().join("backups")));
    // One object after the other, so that the second one is not there already when the process dies at the first.
    let backup = ["backup", "--bucket", &bucket, "--to", &place, "--quiet", "--parallel", "1"];
    for point in ["backup.object=crash@1", "backup.object=crash@2", "backup.checkpoint=crash", "backup.manifest=crash"]
    {
        let ended = broken(&backup, point);
        assert_eq!(ended.code, -1, "{point}: {}", ended.stderr);
        assert!(!run("", &["backup", "--to", &place, "--list", "--json"]).ok().contains("cluster_id"), "{point}");
        let early = run("", &["restore", "--from", &place, "--bucket", &url(&dir.path().join("early"))]).failed(1);
        assert!(early.contains("no backup") && early.contains("finished"), "{early}");
    }
    run("", &backup).ok();
    let log =
        Server::try_start(tempfile::tempdir().unwrap().into(), Settings::default().arg("--bucket").arg(&place)).await;
    let log = log.unwrap_err();
    assert!(log.contains("holds backups"), "{log}");

    let restored = url(&dir.path().join("restored"));
    let restore = ["restore", "--from", &place, "--bucket", &restored, "--quiet", "--parallel", "1"];
    let points =
        ["restore.planned=crash", "restore.object=crash@2", "restore.checkpoint=crash", "restore.incarnation=crash"];
    for point in points {
        let ended = broken(&restore, point);
        assert_eq!(ended.code, -1, "{point}: {}", ended.stderr);
        let settings = Settings::default().arg("--bucket").arg(&restored).arg("--restore");
        let log = Server::try_start(tempfile::tempdir().unwrap().into(), settings).await.unwrap_err();
        assert!(log.contains("was not finished") && log.contains("tidelog restore"), "{point}: {log}");
    }
    run("", &restore).ok();
    run("", &["verify", "--bucket", &restored]).ok();
    let other = Server::start_with(Settings::default().arg("--bucket").arg(&restored)).await;
    assert_eq!(everything(&Http::new(other.url())).await, expected);
}

#[tokio::test]
async fn several_shards_go_to_s3_and_back() {
    let settings = Settings::default().set("cluster.shards", "3").set("flush.metadata_interval", "100ms");
    let server = Server::start_with(settings.clone()).await;
    let http = Http::new(server.url());
    filled(&http).await;
    let expected = everything(&http).await;
    let s3 = S3::start().await;
    let (bucket, place) = (url(&server.bucket()), s3.url());
    let taken = parsed(&s3.run(&["backup", "--bucket", &bucket, "--to", &place, "--json"], &[]).await.ok());
    assert_eq!(taken["shards"].as_array().unwrap().len(), 3, "{taken}");
    let dir = tempfile::tempdir().unwrap();
    let restored = url(&dir.path().join("restored"));
    let args = ["restore", "--from", &place, "--bucket", &restored, "--rate", "500MB/s", "--parallel", "2"];
    s3.run(&args, &[]).await.ok();
    let other = Server::start_with(settings.arg("--bucket").arg(&restored)).await;
    let at_other = Http::new(other.url());
    assert_eq!(everything(&at_other).await, expected);
    produce(&at_other, 9).await;
    let (status, _dir) = other.terminate();
    assert!(status.success(), "{status}");
    run("", &["verify", "--bucket", &restored]).ok();
}

#[test]
fn what_does_not_go_together_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (nothing, empty) = (url(&dir.path().join("nothing")), url(dir.path()));
    let cases: &[(&[&str], &str)] = &[
        (&["backup", "--bucket", &nothing, "--to", &empty], "there is no directory"),
        (&["backup", "--bucket", &empty, "--to", &nothing], "there is no cluster on it"),
        (&["restore", "--from", &empty, "--bucket", &nothing], "does not hold backups"),
        (&["restore", "--from", &empty, "--bucket", &nothing, "--backup", "x"], "not the id of a backup"),
    ];
    for (args, told) in cases {
        let said = run("", args).failed(1);
        assert!(said.contains(told), "{args:?}: {said}");
    }
    run("", &["backup", "--to", &empty, "--rate", "fast"]).failed(2);
}

#[tokio::test]
async fn a_bucket_without_checkpoints_is_rebuilt_and_served() {
    let settings = Settings::default().set("cluster.shards", "3").set("flush.metadata_interval", "100ms");
    let server = Server::start_with(settings.clone()).await;
    let http = Http::new(server.url());
    filled(&http).await;
    let producer = register(&http, json!({})).await;
    as_producer(&http, producer, 0).await.expect(200);
    http.flush("t", false).await;
    let expected = everything(&http).await;
    let (bucket, dir) = (server.bucket(), server.kill());
    let bucket_url = url(&bucket);
    let rebuild = ["rebuild", "--bucket", &bucket_url, "--quiet"];
    assert!(run("", &rebuild).failed(1).contains("start a node with --restore"));
    for path in files_under(&bucket) {
        if path.extension().is_some_and(|extension| extension == "ckpt" || extension == "idx") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let before = files_under(&bucket);
    let described = run("", &rebuild);
    assert!(
        described.stdout.contains("what is lost:") && described.stdout.contains("deletions"),
        "{}",
        described.stdout
    );
    assert!(described.failed(1).contains("--yes"));
    assert_eq!(files_under(&bucket), before, "nothing was written");

    let yes = [&rebuild[..], &["--yes", "--ignore-checkpoints"]].concat();
    for point in ["rebuild.incarnation=crash", "rebuild.checkpoint=crash@1", "rebuild.checkpoint=crash@3"] {
        let ended = broken(&yes, point);
        assert_eq!(ended.code, -1, "{point}: {}", ended.stderr);
    }
    let said = run("", &yes).ok();
    assert!(said.contains("done; start it with"), "{said}");
    run("", &["verify", "--bucket", &bucket_url]).ok();
    let another = Server::start_with(settings.arg("--bucket").arg(&bucket_url)).await;
    let http = Http::new(another.url());
    assert_eq!(everything(&http).await, expected);
    as_producer(&http, producer, 1).await.error(409, "unknown_producer");
    produce(&http, 7).await;
    http.flush("t", true).await;
    let (status, _data) = another.terminate();
    assert!(status.success(), "{status}");
    run("", &["verify", "--bucket", &bucket_url]).ok();
    drop(dir);
}
