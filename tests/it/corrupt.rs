//! A flipped bit in every kind of file: the start is refused naming the file, or the reads that touch it fail as `corrupt`
//! naming the object; all others are right, and no wrong byte is ever served.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::eventually;
use crate::support::http::Http;
use crate::support::server::{Server, Settings, copy_tree, files_under};
use crate::support::wal;

/// Records of each tier.
const EACH: usize = 8;
/// In Parquet, in a segment that an index part has, in one that is newer, in the log only.
const TIERS: usize = 4;

/// Nothing moves by itself. The disk cache has a test of its own.
fn settings() -> Settings {
    Settings::default()
        .set("flush.interval", "1h")
        .set("flush.metadata_interval", "1h")
        .set("gc.enabled", "false")
        .set("cache.disk", "0B")
        .set("wal.file_size", "1MiB")
}

fn value(offset: usize) -> String {
    format!("the value at offset {offset}, long enough to be worth a few bytes in every file")
}

/// The directory of a killed server whose topic has records in all tiers.
async fn three_tiers() -> Arc<TempDir> {
    let server = Server::start_with(settings()).await;
    let http = Http::new(server.url());
    // As they are, so that the last one can be found in the log.
    http.create_topic("t", &json!({"archive_after_ms": 86_400_000, "compression": "none"})).await;
    for tier in 0..TIERS {
        let records: Vec<Value> = (tier * EACH..(tier + 1) * EACH).map(|at| json!({"text": value(at)})).collect();
        http.produce("t", &json!(records)).await.expect(200);
        if tier < TIERS - 1 {
            http.flush("t", tier == 0).await;
        }
    }
    // The mark that says that the last group was synced follows it by a moment.
    eventually("the mark", || async { wal::end(&server.data()).is_marked.then_some(()) }).await;
    server.kill()
}

/// Files of a kind.
fn kind(data: &Path, part: &str, ending: &str) -> Vec<PathBuf> {
    let files = files_under(&data.join(part));
    files.into_iter().filter(|path| path.file_name().unwrap().to_str().unwrap().ends_with(ending)).collect()
}

fn flip(path: &Path, bit: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[bit / 8] ^= 1 << (bit % 8);
    std::fs::write(path, bytes).unwrap();
}

/// `count` bits all over a file, the first and the last byte among them.
fn bits(path: &Path, count: usize) -> Vec<usize> {
    let len = usize::try_from(std::fs::metadata(path).unwrap().len()).unwrap();
    (0..count).map(|nth| (len - 1) * nth / (count - 1) * 8 + nth % 8).collect()
}

/// What became of a start with a damaged file.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Refused, naming the file.
    Refused,
    /// Some reads failed as `corrupt`, naming the object.
    Reads(usize),
    /// Nothing that counts was damaged.
    Harmless,
}

/// Flips a bit of a copy of `dir`, starts there, and reads every record on its own.
async fn with_flipped(dir: &TempDir, path: &Path, bit: usize) -> Found {
    let copy = Arc::new(tempfile::tempdir().unwrap());
    copy_tree(dir.path(), copy.path());
    let damaged = copy.path().join(path.strip_prefix(dir.path()).unwrap());
    flip(&damaged, bit);
    let name = damaged.file_name().unwrap().to_str().unwrap();
    let server = match Server::try_start(copy, settings()).await {
        Ok(server) => server,
        Err(log) => {
            let error = log.lines().rfind(|line| line.contains("error: ")).unwrap_or_else(|| panic!("{log}"));
            assert!(error.contains(name), "{name}, bit {bit}: {error}\n{log}");
            return Found::Refused;
        }
    };
    let http = Http::new(server.url());
    // The object's id is in every name that it has.
    let id = damaged.file_stem().unwrap().to_str().unwrap().rsplit('-').next().unwrap().to_owned();
    let mut corrupt = 0;
    for offset in 0..TIERS * EACH {
        let path = format!("/v1/topics/t/partitions/0/records?offset={offset}&max_records=1&values=text");
        let answer = http.get(&path).await;
        if answer.status == 200 {
            let page = answer.json();
            assert_eq!(page["records"][0]["offset"], offset, "{name}, bit {bit}");
            assert_eq!(page["records"][0]["text"], value(offset), "{name}, bit {bit}");
        } else {
            let error = answer.error(500, "corrupt");
            assert!(error["message"].as_str().unwrap().contains(&id), "{name}, bit {bit}: {error}");
            corrupt += 1;
        }
    }
    if corrupt == 0 { Found::Harmless } else { Found::Reads(corrupt) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_an_object_fails_the_reads_that_touch_it_and_no_other() {
    let dir = three_tiers().await;
    let data = dir.path().join("data");
    let parquet = kind(&data, "bucket/archive", ".parquet");
    let segments = kind(&data, "bucket/shards", ".seg");
    assert_eq!((parquet.len(), segments.len()), (1, 3), "one of the segments was archived");
    for bit in bits(&parquet[0], 6) {
        assert_eq!(with_flipped(&dir, &parquet[0], bit).await, Found::Reads(EACH), "bit {bit}");
    }
    let live = segments.iter().max().unwrap();
    for bit in bits(live, 6) {
        assert_eq!(with_flipped(&dir, live, bit).await, Found::Reads(EACH), "bit {bit}");
    }
    assert_eq!(with_flipped(&dir, &segments[0], 999).await, Found::Harmless, "nothing reads an archived segment");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_a_file_beside_the_log_refuses_the_start_and_names_the_file() {
    let dir = three_tiers().await;
    let data = dir.path().join("data");
    for (part, ending, count) in [
        ("wal/shard-00000/meta", "pointer", 5),
        ("wal/shard-00000/meta", ".ckpt", 5),
        ("wal/shard-00000/meta", ".idx", 4),
        ("wal/shard-00000/meta", ".ranges", 4),
    ] {
        let files = kind(&data, part, ending);
        assert!(!files.is_empty(), "{ending}");
        for path in &files {
            for bit in bits(path, count) {
                assert_eq!(with_flipped(&dir, path, bit).await, Found::Refused, "{}, bit {bit}", path.display());
            }
        }
    }
    let node = data.join("wal/node.json");
    let text = std::fs::read_to_string(&node).unwrap();
    // A digit of each number, of the cluster and of the directory: still valid JSON.
    for member in ["version\": ", "cluster\": \"", "incarnation\": ", "node\": ", "directory\": \"", "opened\": "] {
        let at = text.find(member).unwrap() + member.len();
        assert_eq!(with_flipped(&dir, &node, at * 8).await, Found::Refused, "{member}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_log_refuses_the_start_if_it_was_acknowledged() {
    let dir = three_tiers().await;
    let end = wal::end(&dir.path().join("data"));
    let chunk = &end.path;
    // Zeros behind the end are no part of the log.
    assert_eq!(with_flipped(&dir, chunk, (end.at + 1_000) * 8).await, Found::Harmless);
    let mut refused = 0;
    let all_over = (0..8).map(|nth| (end.at - 1) * nth / 7 * 8 + nth);
    for bit in all_over {
        match with_flipped(&dir, chunk, bit).await {
            Found::Refused => refused += 1,
            // What came after the newest acknowledged entry is cut.
            Found::Harmless => assert!(bit / 8 + 200 > end.at, "bit {bit} of {}", end.at * 8),
            Found::Reads(count) => panic!("bit {bit}: {count} reads failed"),
        }
    }
    assert!(refused >= 6, "{refused}");

    // The documented way forward: without the log, from the bucket, with what was flushed.
    std::fs::rename(dir.path().join("data/wal"), dir.path().join("data/wal-damaged")).unwrap();
    let server = Server::start_in(dir, settings().arg("--restore")).await;
    let records = Http::new(server.url()).fetch_all("t", 0, "&values=text").await;
    let texts: Vec<_> = records.iter().map(|record| record["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(texts, (0..(TIERS - 1) * EACH).map(value).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_a_checkpoint_refuses_a_start_from_the_bucket_and_names_the_object() {
    let server = Server::start_with(settings()).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    http.produce("t", &json!([{"text": "x"}])).await.expect(200);
    let bucket = server.bucket();
    let (status, _dir) = server.terminate();
    assert!(status.success());
    let newest = |ending: &str| files_under(&bucket).into_iter().rfind(|path| path.to_str().unwrap().ends_with(ending));
    let checkpoint = newest(".ckpt").unwrap();
    for path in [Some(checkpoint), newest(".idx"), newest(".seg")].into_iter().flatten() {
        let whole = std::fs::read(&path).unwrap();
        // The last bytes are those that a start reads of a segment: its footer.
        flip(&path, whole.len() * 8 - 20 * 8);
        let url = format!("file://{}", bucket.display());
        let fresh = Arc::new(tempfile::tempdir().unwrap());
        let refused = Server::try_start(fresh, settings().arg("--bucket").arg(&url)).await;
        let log = refused.err().unwrap_or_else(|| panic!("{} was not missed", path.display()));
        let id = path.file_stem().unwrap().to_str().unwrap().rsplit('-').next().unwrap();
        // All checkpoints name the segment: without one that is usable nothing begins over what is there.
        let why =
            if path.extension().is_some_and(|kind| kind == "seg") { "tidelog rebuild" } else { "not closed cleanly" };
        assert!(log.contains(id) && log.contains(why), "{}:\n{log}", path.display());
        std::fs::write(&path, whole).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_block_cache_is_fetched_anew() {
    // More blocks than the memory of the cache holds, so that most go to its disk.
    let settings = Settings::default()
        .set("flush.interval", "1h")
        .set("archive.enabled", "false")
        .set("gc.enabled", "false")
        .set("cache.memory", "8MiB")
        .set("cache.disk", "64MiB");
    let server = Server::start_with(settings.clone()).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"compression": "none"})).await;
    let values: Vec<String> = (0..24).map(|at| format!("{at:03}").repeat(900 * 1_000 / 3)).collect();
    for value in &values {
        http.produce("t", &json!([{"text": value}])).await.expect(200);
    }
    http.flush("t", false).await;
    read_all(&http, &values).await;
    let blocks = server.data().join("cache/blocks");
    eventually("the disk part", || async { (places_in_text(&blocks).len() >= 16).then_some(()) }).await;
    let dir = server.kill();
    let copy = Arc::new(tempfile::tempdir().unwrap());
    copy_tree(dir.path(), copy.path());
    let whole = lookups_of_a_restart(copy, &settings, &values).await;
    assert!(whole.1 > 0, "the disk part is used");
    for (path, at) in places_in_text(&blocks) {
        flip(&path, at * 8 + 3);
    }
    // foyer has checksums besides ours: whichever notices, the block is fetched from the bucket.
    let damaged = lookups_of_a_restart(dir, &settings, &values).await;
    assert!(damaged.0 > whole.0, "misses with damage {}, without {}", damaged.0, whole.0);
}

/// Places inside the text of values, several in each block.
fn places_in_text(directory: &Path) -> Vec<(PathBuf, usize)> {
    let mut places = Vec::new();
    for path in files_under(directory) {
        let bytes = std::fs::read(&path).unwrap();
        for at in (0..bytes.len().saturating_sub(64)).step_by(128 << 10) {
            let text = &bytes[at..at + 64];
            if text[0].is_ascii_digit() && text[..61] == text[3..] {
                places.push((path.clone(), at));
            }
        }
    }
    places
}

/// Reads everything, which has to be right, with a server that has just started; its cache's misses and hits on disk.
async fn lookups_of_a_restart(dir: Arc<TempDir>, settings: &Settings, values: &[String]) -> (u64, u64) {
    let server = Server::start_in(dir, settings.clone()).await;
    let http = Http::new(server.url());
    read_all(&http, values).await;
    let metrics = String::from_utf8(http.get("/metrics").await.body).unwrap();
    let lookups = |outcome: &str| -> u64 {
        let name = format!("tidelog_cache_lookups_total{{outcome=\"{outcome}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
    };
    (lookups("miss"), lookups("disk"))
}

async fn read_all(http: &Http, values: &[String]) {
    for (offset, value) in values.iter().enumerate() {
        let path = format!("/v1/topics/t/partitions/0/records?offset={offset}&max_records=1");
        let page = http.get(&path).await.expect(200);
        assert_eq!(page["records"][0]["text"].as_str().unwrap(), value, "offset {offset}");
    }
}
