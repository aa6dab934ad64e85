//! The end of the log as a power cut may leave it, in the real binary: cut or overwritten anywhere in the last group, which was
//! never acknowledged. What was acknowledged before it is there, and nothing of the garbage. The log's own tests do the same at
//! every byte.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::http::Http;
use crate::support::injected::Injected;
use crate::support::server::{Server, Settings, copy_tree, files_under};

const ACKNOWLEDGED: [&str; 4] = ["a", "b", "c", "d"];
/// Cuts of the last group.
const CUTS: usize = 9;

fn settings() -> Settings {
    Settings::default().set("flush.interval", "1h").set("flush.metadata_interval", "1h").set("cache.disk", "0B")
}

fn newest_chunk(data: &Path) -> PathBuf {
    let files = files_under(&data.join("wal/shard-00000/log"));
    files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "wal")).max().unwrap()
}

async fn texts(http: &Http) -> Vec<String> {
    let records = http.fetch_all("t", 0, "").await;
    records.iter().map(|record| record["text"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_group_torn_anywhere_costs_nothing_that_was_acknowledged() {
    let injected = Injected::new();
    let server = Server::start_with(injected.followed_by(settings())).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    for text in ACKNOWLEDGED {
        http.produce("t", &json!([{"text": text}])).await.expect(200);
    }
    let begins = std::fs::metadata(newest_chunk(&server.data())).unwrap().len();
    // Written and synced, and the process dies before it can say so.
    injected.arm(&server, "wal.sync", "crash").await;
    let request = http.request(reqwest::Method::POST, "/v1/topics/t/records");
    let body: Value = json!({"records": [{"text": "never acknowledged"}]});
    assert!(request.header("content-type", "application/json").body(body.to_string()).send().await.is_err());
    let (_, dir) = server.ended();
    let ends = std::fs::metadata(newest_chunk(&dir.path().join("data"))).unwrap().len();
    assert!(ends > begins + 50);

    for cut in 0..CUTS {
        let at = begins + (ends - begins) * cut as u64 / CUTS as u64;
        let fill = [None, Some(0), Some(0xa5)][cut % 3];
        let copy = Arc::new(tempfile::tempdir().unwrap());
        copy_tree(dir.path(), copy.path());
        let mut file = std::fs::File::options().append(true).open(newest_chunk(&copy.path().join("data"))).unwrap();
        file.set_len(at).unwrap();
        if let Some(byte) = fill {
            file.write_all(&vec![byte; usize::try_from(ends - at).unwrap()]).unwrap();
        }
        let server = Server::start_in(copy, settings()).await;
        let http = Http::new(server.url());
        assert_eq!(texts(&http).await, ACKNOWLEDGED, "cut at {at} of {begins} to {ends}, then {fill:?}");
        if fill.is_some() {
            assert!(server.log().contains("cut a torn tail of the write-ahead log"), "it says so");
        }
        // What follows takes the place of what was cut, and stays.
        let answer = http.produce("t", &json!([{"text": "after"}])).await.expect(200);
        assert_eq!(answer["records"][0]["offset"], 4);
        let server = server.kill_and_restart().await;
        assert_eq!(texts(&Http::new(server.url())).await, ["a", "b", "c", "d", "after"]);
    }
    // Whole, it may be there: its producer does not know.
    let server = Server::start_in(dir, settings()).await;
    assert_eq!(texts(&Http::new(server.url())).await[..4], ACKNOWLEDGED);
}
