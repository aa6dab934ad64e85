//! The end of the log as a power cut may leave it, in the real binary: cut or overwritten anywhere in the last group, which was
//! never acknowledged. What was acknowledged before it is there, and nothing of the garbage. The log's own tests do the same at
//! every byte.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::http::Http;
use crate::support::injected::Injected;
use crate::support::server::{Server, Settings, copy_tree};
use crate::support::wal;

const ACKNOWLEDGED: [&str; 4] = ["a", "b", "c", "d"];
/// Cuts of the last group.
const CUTS: usize = 9;

fn settings() -> Settings {
    Settings::default()
        .set("flush.interval", "1h")
        .set("flush.metadata_interval", "1h")
        .set("cache.disk", "0B")
        .set("wal.file_size", "1MiB")
}

async fn texts(http: &Http) -> Vec<String> {
    let records = http.fetch_all("t", 0, "").await;
    records.iter().map(|record| record["text"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_group_torn_anywhere_costs_nothing_that_was_acknowledged() {
    // In a file that grows, and in one that was filled with zeros.
    for settings in [settings().set("wal.spare", "0B"), settings()] {
        torn_anywhere(&settings).await;
    }
}

async fn torn_anywhere(settings: &Settings) {
    let injected = Injected::new();
    let server = Server::start_with(injected.followed_by(settings.clone())).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    for text in ACKNOWLEDGED {
        http.produce("t", &json!([{"text": text}])).await.expect(200);
    }
    let begins = wal::end(&server.data()).at;
    // Written and synced, and the process dies before it can say so.
    injected.arm(&server, "wal.sync", "crash").await;
    let request = http.request(reqwest::Method::POST, "/v1/topics/t/records");
    let body: Value = json!({"records": [{"text": "never acknowledged"}]});
    assert!(request.header("content-type", "application/json").body(body.to_string()).send().await.is_err());
    let (_, dir) = server.ended();
    let end = wal::end(&dir.path().join("data"));
    let ends = end.at;
    assert!(ends > begins + 50);

    for cut in 0..CUTS {
        let at = begins + (ends - begins) * cut / CUTS;
        let fill = [None, Some(0), Some(0xa5)][cut % 3];
        let copy = Arc::new(tempfile::tempdir().unwrap());
        copy_tree(dir.path(), copy.path());
        let path = wal::end(&copy.path().join("data")).path;
        let mut bytes = std::fs::read(&path).unwrap();
        match fill {
            None => bytes.truncate(at),
            Some(byte) => bytes[at..ends].fill(byte),
        }
        std::fs::write(path, bytes).unwrap();
        let server = Server::start_in(copy, settings.clone()).await;
        let http = Http::new(server.url());
        assert_eq!(texts(&http).await, ACKNOWLEDGED, "cut at {at} of {begins} to {ends}, then {fill:?}");
        if fill == Some(0xa5) {
            assert!(server.log().contains("cut a torn tail of the write-ahead log"), "it says so");
        }
        // What follows takes the place of what was cut, and stays.
        let answer = http.produce("t", &json!([{"text": "after"}])).await.expect(200);
        assert_eq!(answer["records"][0]["offset"], 4);
        let server = server.kill_and_restart().await;
        assert_eq!(texts(&Http::new(server.url())).await, ["a", "b", "c", "d", "after"]);
    }
    // Whole, it may be there: its producer does not know.
    let server = Server::start_in(dir, settings.clone()).await;
    assert_eq!(texts(&Http::new(server.url())).await[..4], ACKNOWLEDGED);
}
