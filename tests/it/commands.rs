//! The command line: exit codes, tables and JSON, producing from every format, resuming.

use std::io::Write;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tidelog_client::{Batch, Producer};

use crate::support::binary::{command, run, run_with, text};
use crate::support::eventually;
use crate::support::http::Http;
use crate::support::server::{Server, Settings};

#[test]
fn usage_errors_exit_2_and_failures_1() {
    for wrong in [
        &["nosuch"][..],
        &["produce"],
        &["consume", "t", "--from", "17"],
        &["consume", "t", "--from", "yesterday"],
        &["produce", "t", "--key-field", "a", "--format", "lines"],
        &["produce", "t", "--resume"],
        &["topic", "create", "t", "--set", "colour=red"],
        &["topic", "list", "--server", "ftp://x"],
        &["serve", "--listen", "nowhere"],
    ] {
        run("", wrong).failed(2);
    }
    let refused = run("http://127.0.0.1:1", &["topic", "list"]).failed(1);
    assert!(refused.starts_with("error: ") && refused.contains("127.0.0.1:1"), "{refused}");
    run("http://127.0.0.1:1", &["ready"]).failed(1);
    assert!(run("", &["--version"]).ok().starts_with("tidelog "));
}

#[test]
fn settings_are_checked_and_printed_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.toml");
    std::fs::write(&file, "[flush]\ninterval = \"3s\"\n").unwrap();
    let printed = run("", &["serve", "--config", text(&file), "--listen", "127.0.0.1:9", "--print-config"]).ok();
    assert!(printed.contains("interval = \"3s\"") && printed.contains("127.0.0.1:9"), "{printed}");
    run("", &["serve", "--config", text(&file), "--check-config"]).ok();
    std::fs::write(&file, "[flush]\ninterval = \"soon\"\nspeed = 1\n").unwrap();
    let problems = run("", &["serve", "--config", text(&file), "--check-config"]).failed(1);
    assert!(problems.contains("flush.interval") && problems.contains("flush.speed"), "{problems}");
    assert!(!dir.path().join("tidelog-data").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_by_command() {
    let server = Server::start().await;
    let url = server.url();
    assert_eq!(run(url, &["ready"]).ok(), "ready\n");
    run(url, &["topic", "create", "orders", "--partitions", "2", "--set", "value_format=json"]).ok();
    run(url, &["topic", "create", "orders", "--partitions", "2"]).ok();
    let other = run(url, &["topic", "create", "orders", "--partitions", "3"]).failed(1);
    assert!(other.contains("topic_exists"), "{other}");
    let list = run(url, &["topic", "list"]).ok();
    assert!(list.starts_with("TOPIC") && list.contains("orders"), "{list}");
    let description: Value = serde_json::from_str(&run(url, &["topic", "describe", "orders", "--json"]).ok()).unwrap();
    assert_eq!(description["settings"]["value_format"], "json");
    run(url, &["topic", "alter", "orders", "--set", "retention_ms=1000"]).ok();
    run(url, &["topic", "alter", "orders", "--partitions", "4"]).failed(1);
    run(url, &["topic", "alter", "orders", "--partitions", "4", "--rekey"]).ok();
    run_with(url, &["produce", "orders"], b"").ok();
    run(url, &["topic", "flush", "orders", "--archive"]).ok();
    run(url, &["topic", "delete", "orders"]).ok();
    let missing = run(url, &["topic", "describe", "orders"]).failed(1);
    assert!(missing.contains("topic_not_found") && missing.contains("create"), "{missing}");
    run(url, &["topic", "undelete", "orders"]).ok();
    run(url, &["topic", "describe", "orders"]).ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_format_of_input_is_produced() {
    let server = Server::start().await;
    let (url, http) = (server.url(), Http::new(server.url()));
    let dir = tempfile::tempdir().unwrap();
    for (name, content, expected) in [
        ("a.txt", "one\ntwo\n", r#"["one","two"]"#),
        ("a.ndjson", "{\"k\":\"a\",\"n\":1.50}\n\n2\n", r#"[{"k":"a","n":1.50},2]"#),
        ("a.json", "[{\"k\":\"a\"},\n null]", r#"[{"k":"a"},null]"#),
        ("a.csv", "k,n\na,1\nb,\n", r#"[{"k":"a","n":"1"},{"k":"b","n":""}]"#),
    ] {
        let file = dir.path().join(name);
        std::fs::write(&file, content).unwrap();
        let topic = name.replace('.', "-");
        let said = run(url, &["produce", &topic, "--create", "--file", text(&file)]).ok();
        assert!(said.contains("2 records") || said.contains("records"), "{said}");
        let records = http.fetch_all(&topic, 0, "").await;
        let values: Vec<Value> =
            records.iter().map(|record| record.get("value").or(record.get("text")).unwrap().clone()).collect();
        assert_eq!(json!(values), serde_json::from_str::<Value>(expected).unwrap(), "{name}");
        let settings = &http.get(&format!("/v1/topics/{topic}")).await.expect(200)["settings"];
        assert_eq!(settings["value_format"], if name == "a.txt" { "bytes" } else { "json" }, "{name}");
    }
    // What nobody asked for is not asked of a topic that exists; what was asked for has to be so.
    run(url, &["topic", "create", "raw"]).ok();
    run_with(url, &["produce", "raw", "--create", "--format", "ndjson"], b"1\n").ok();
    let set = ["produce", "set", "--create", "--format", "ndjson", "--set", "value_format=bytes", "--set"];
    run_with(url, &[&set[..], &["retention_ms=60000"]].concat(), b"1\n").ok();
    let settings = http.get("/v1/topics/set").await.expect(200)["settings"].clone();
    assert_eq!((&settings["value_format"], &settings["retention_ms"]), (&json!("bytes"), &json!(60_000)));
    run_with(url, &[&set[..], &["retention_ms=70000"]].concat(), b"1\n").failed(1);
    run_with(url, &["produce", "raw", "--set", "retention_ms=1"], b"1\n").failed(2);
    run_with(url, &["produce", "a-csv", "--format", "csv", "--key-field", "k"], b"k,n\nx,1\n").ok();
    assert_eq!(http.fetch_all("a-csv", 0, "").await[2]["key"], "x");
    let wrong = run_with(url, &["produce", "a-ndjson", "--format", "ndjson"], b"1\n{\"a\":\n").failed(1);
    assert!(wrong.contains("line 2"), "{wrong}");
    run_with(url, &["produce", "nosuch"], b"x\n").failed(1);
}

/// The n-th record of a partition is the same in every run, so a resumed run sends exactly the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_file_is_resumed_again_and_again() {
    let server = Server::start().await;
    let (url, http) = (server.url(), Http::new(server.url()));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rows.ndjson");
    let mut writer = std::fs::File::create(&file).unwrap();
    for n in 0..30_000 {
        writeln!(writer, "{{\"k\":\"k{}\",\"n\":{n}}}", n % 50).unwrap();
    }
    let produce = |more: &[&str]| {
        let args = [&["produce", "t", "--file", text(&file), "--key-field", "k"], more].concat();
        run(url, &args)
    };
    run(url, &["topic", "create", "t", "--partitions", "3"]).ok();
    let nothing = produce(&["--resume"]).failed(1);
    assert!(nothing.contains("nothing to resume"), "{nothing}");
    // A limit stands for the interruption: the producer stops in the middle of the file, three times.
    produce(&["--limit", "7001"]).ok();
    produce(&["--resume", "--limit", "15000"]).ok();
    let said = produce(&["--resume", "--limit", "15000"]).ok();
    assert!(said.contains("produced 0 records"), "{said}");
    let said = produce(&["--resume"]).ok();
    assert!(said.contains("after 15,000"), "{said}");
    check_rows(&http, 30_000, 1).await;

    // A row left out, another at the end: as many rows, but others in their places.
    let rows = std::fs::read_to_string(&file).unwrap();
    let (_, rest) = rows.split_once('\n').unwrap();
    std::fs::write(&file, format!("{rest}{{\"k\":\"k0\",\"n\":30000}}\n")).unwrap();
    let changed = produce(&["--resume"]).failed(1);
    assert!(changed.contains("has changed"), "{changed}");
    std::fs::write(&file, rows).unwrap();

    // Without --resume it is appended again, and says so.
    let again = produce(&["--limit", "10"]);
    assert!(again.stderr.contains("appended again"), "{}", again.stderr);
    again.ok();
    // More partitions: the rows would be elsewhere, so there is nothing to resume.
    run(url, &["topic", "alter", "t", "--partitions", "4", "--rekey"]).ok();
    produce(&["--resume"]).failed(1);
}

/// Every row `copies` times, and for each key in the order of the file.
async fn check_rows(http: &Http, count: u64, copies: usize) {
    let mut seen = vec![0; usize::try_from(count).unwrap()];
    for partition in 0..3 {
        let mut last = std::collections::HashMap::new();
        for record in http.fetch_all("t", partition, "").await {
            let n = record["value"]["n"].as_u64().unwrap();
            seen[usize::try_from(n).unwrap()] += 1;
            let before = last.insert(record["key"].as_str().unwrap().to_owned(), n);
            assert!(before.is_none_or(|before| before < n), "{before:?} before {n}");
        }
    }
    assert!(seen.iter().all(|times| *times == copies), "{:?}", seen.iter().position(|times| *times != copies));
}

/// The server is killed in the middle of a file; the command goes on by itself once it is back, and nothing is there twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_meanwhile_duplicates_nothing() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = Settings::default().listen(&format!("127.0.0.1:{port}"));
    let server = Server::start_with(settings.clone()).await;
    let url = server.url().to_owned();
    run(&url, &["topic", "create", "t", "--partitions", "3"]).ok();
    let input: Vec<u8> =
        (0..60_000).flat_map(|n| format!("{{\"k\":\"k{}\",\"n\":{n}}}\n", n % 50).into_bytes()).collect();
    let producing = tokio::task::spawn_blocking({
        let url = url.clone();
        move || run_with(&url, &["produce", "t", "--format", "ndjson", "--key-field", "k"], &input)
    });
    let http = Http::new(&url);
    crate::support::eventually("the first records", || async {
        let topic = http.get("/v1/topics/t").await.expect(200);
        topic["partitions"].as_array().unwrap().iter().any(|p| p["high_watermark"] != 0).then_some(())
    })
    .await;
    let server = Server::start_in(server.kill(), settings).await;
    producing.await.unwrap().ok();
    check_rows(&Http::new(server.url()), 60_000, 1).await;
}

/// A connection that breaks after the server has written: the same batch again is a duplicate, not a second copy.
#[tokio::test]
async fn the_clients_producer_counts_by_partition() {
    let server = Server::start().await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"partitions": 2})).await;
    let (topic, _) = server.client().topic("t").await.unwrap();
    let batch = |text: &str| Batch { lines: format!("{{\"text\":\"{text}\"}}\n").into(), count: 1 };
    let first = Producer::register(topic.clone(), Some("p")).await.unwrap();
    let (acks, timeout) = (tidelog_client::Acks::Quorum, std::time::Duration::from_secs(10));
    first.send(0, &batch("a"), acks, timeout).await.unwrap();
    first.send(1, &batch("b"), acks, timeout).await.unwrap();
    let resumed = Producer::resume(topic, "p").await.unwrap();
    assert_eq!(resumed.epoch(), first.epoch());
    // Both believe to be next: whoever is second collides.
    resumed.send(0, &batch("c"), acks, timeout).await.unwrap();
    let collided = first.send(0, &batch("d"), acks, timeout).await.unwrap_err();
    assert_eq!(collided.code(), Some("sequence_reused"));
    assert_eq!(http.fetch_all("t", 0, "").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_pause_log_and_collect() {
    let server = Server::start_with(Settings::default().env("AWS_SECRET_ACCESS_KEY", "hunter2-secret")).await;
    let url = server.url();
    run(url, &["topic", "create", "t"]).ok();
    run_with(url, &["produce", "t"], b"a-value-nobody-may-see\n").ok();
    run(url, &["admin", "pause", "flush"]).ok();
    let status: Value = serde_json::from_str(&run(url, &["admin", "status", "--json"]).ok()).unwrap();
    let flush = status["jobs"].as_array().unwrap().iter().find(|job| job["name"] == "flush").unwrap();
    assert_eq!(flush["paused"], true);
    let held = run(url, &["topic", "flush", "t", "--timeout", "300ms"]).failed(1);
    assert!(held.contains("`tidelog admin resume flush`"), "{held}");
    run(url, &["admin", "resume", "flush"]).ok();
    run(url, &["topic", "flush", "t"]).ok();
    assert!(run(url, &["admin", "status"]).ok().contains("SHARD"));
    run(url, &["admin", "log-level", "debug"]).ok();
    run(url, &["admin", "log-level", "tidelog=loud"]).failed(1);
    run(url, &["admin", "pause", "everything"]).failed(2);
    let bundle = run(url, &["admin", "support-bundle"]).ok();
    let parsed: Value = serde_json::from_str(&bundle).unwrap();
    assert_eq!(parsed["topics"]["count"], 1);
    assert_eq!(parsed["settings"]["http"]["cors_origins"], json!([]));
    assert!(parsed["metrics"].as_str().unwrap().contains("tidelog_"));
    assert!(!bundle.contains("hunter2-secret") && !bundle.contains("a-value-nobody-may-see"));
}

/// A compactor in a process of its own does what the one inside `serve` would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compactor_of_its_own_archives_over_http() {
    let server = Server::start_with(Settings::default().set("archive.enabled", "false")).await;
    let (url, http) = (server.url(), Http::new(server.url()));
    http.create_topic("t", &json!({"archive_after_ms": 0})).await;
    run_with(url, &["produce", "t"], b"one\ntwo\nthree\n").ok();
    http.flush("t", false).await;
    run(url, &["admin", "pause", "archive"]).ok();
    assert!(run(url, &["compact", "--once"]).ok().starts_with("0 "), "archiving is paused");
    run(url, &["admin", "resume", "archive"]).ok();
    assert!(run(url, &["compact", "--once"]).ok().starts_with("1 "));
    let topic = http.get("/v1/topics/t").await.expect(200);
    assert_eq!(topic["partitions"][0]["archived_offset"], 3);
    assert_eq!(http.fetch_all("t", 0, "").await.len(), 3);
}

/// It claims at a server that takes the request and never answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compacting_once_ends_with_a_signal() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let bucket = format!("file://{}", text(dir.path()));
    let mut compact = command(&["compact", "--once", "--bucket", &bucket, "--server", &url]);
    let mut child = compact.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let connected = tokio::task::block_in_place(|| silent.accept()).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    eventually("its end", || {
        let ended = child.try_wait().unwrap();
        async move { ended }
    })
    .await;
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("ended by SIGTERM"), "{}: {said}", output.status);
    drop(connected);
}
