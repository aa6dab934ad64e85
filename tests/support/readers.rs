//! Readers that go on whatever happens, each of one partition and through another server whenever one fails. What one has read
//! stays: offsets have no gap, and a final scan has the same records there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::http::Http;

/// How long a page is waited for: less than the client waits for an answer.
const WAIT_MS: u64 = 1_000;
/// Before a page is asked for again.
const PAUSE: Duration = Duration::from_millis(20);
/// After this many pages another server is asked, so that each reader sees all of them.
const PAGES: usize = 20;

/// Running readers.
#[derive(Debug)]
pub(crate) struct Readers {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<Vec<String>>>,
}

impl Readers {
    /// One reader for each partition of `topic`, which has this many.
    pub(crate) fn start(http: &Http, topic: &str, partitions: u64) -> Self {
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let tasks = (0..partitions)
            .map(|partition| {
                let http = http.beginning_with(usize::try_from(partition).unwrap());
                let path = format!("/v1/topics/{topic}/partitions/{partition}/records");
                tokio::spawn(read(http, path, Arc::clone(&stop), Arc::clone(&count)))
            })
            .collect();
        Self { stop, count, tasks }
    }

    /// Records that were read so far.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Ends them, and compares what they read with what is there.
    pub(crate) async fn check(self, http: &Http, topic: &str) {
        self.stop.store(true, Ordering::Relaxed);
        for (partition, task) in (0..).zip(self.tasks) {
            let read = task.await.unwrap();
            let there = http.fetch_all(topic, partition, "&values=text").await;
            assert!(
                there.len() >= read.len(),
                "partition {partition}: {} were read, {} are there",
                read.len(),
                there.len()
            );
            for (offset, (read, record)) in read.iter().zip(&there).enumerate() {
                assert_eq!(
                    record["text"].as_str(),
                    Some(read.as_str()),
                    "offset {offset} of partition {partition} changed"
                );
            }
        }
    }
}

/// The values of a partition from its first offset on.
async fn read(http: Http, path: String, stop: Arc<AtomicBool>, count: Arc<AtomicUsize>) -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    let mut pages = 0;
    while !stop.load(Ordering::Relaxed) {
        let next = values.len();
        let page = http.try_get(&format!("{path}?offset={next}&wait_ms={WAIT_MS}&values=text")).await;
        pages += 1;
        match page {
            Some(answer) if answer.status == 200 => {
                for record in answer.json()["records"].as_array().unwrap() {
                    assert_eq!(record["offset"].as_u64(), Some(values.len() as u64), "{path} has a gap");
                    values.push(record["text"].as_str().unwrap().to_owned());
                }
                count.fetch_add(values.len() - next, Ordering::Relaxed);
            }
            // One without a leader has no answer. One that is behind has to find out that it is: 416 would be wrong.
            Some(answer) if matches!(answer.status, 503 | 504) => pages = PAGES,
            Some(answer) => panic!("{path}: {answer:?}"),
            None => pages = PAGES,
        }
        if pages >= PAGES {
            pages = 0;
            http.turn();
            tokio::time::sleep(PAUSE).await;
        }
    }
    values
}
