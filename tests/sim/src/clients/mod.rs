//! Clients of the HTTP API that write down what they asked and what they were answered.
//!
//! | module | who |
//! |---|---|
//! | `produce` | producers under triples, under keys, with conditions, and with nothing |
//! | `read` | readers that follow a partition, look back, and ask for bounds |
//! | `operate` | whoever creates and deletes topics and asks for flushes |
//!
//! Each is one task; it ends at [`Desk::stop`].

mod operate;
mod produce;
mod read;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

pub use self::operate::{flush_all, operator};
pub use self::produce::{Kind, Producer};
pub use self::read::{reader, scan};

use crate::history::{History, Topic};
use crate::random::Rng;
use crate::store::Shared;
use crate::trace::Trace;
use crate::web::{Ask, Reply, Web};

/// Wall time at which simulations begin, milliseconds since 1970.
pub const EPOCH: u64 = 1_700_000_000_000;

/// What all clients have; clones share it.
#[derive(Clone)]
pub struct Desk {
    /// The way to the nodes.
    pub web: Web,
    /// What is written down.
    pub history: Arc<Mutex<History>>,
    /// What happened.
    pub trace: Trace,
    /// The bucket, to see whether an answer was true.
    pub store: Shared,
    stopped: Arc<AtomicBool>,
}

impl Desk {
    /// An empty history.
    #[must_use]
    pub fn new(web: Web, store: Shared, trace: Trace) -> Self {
        Self { web, history: Arc::default(), trace, store, stopped: Arc::default() }
    }

    /// Clients end once they have what they are waiting for.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether they should.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The history.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node that serves, or one that may some day.
    fn any(&self, rng: &mut Rng) -> u64 {
        let nodes = self.web.nodes();
        if nodes.is_empty() { 1 } else { *rng.pick(&nodes) }
    }

    /// Sends the request to one node after the other until one answers with anything below 500; `None` once `tries` are over.
    pub async fn insist(&self, rng: &mut Rng, ask: &Ask, tries: usize) -> Option<(u16, Value)> {
        for _ in 0..tries {
            let node = self.any(rng);
            match self.web.send(node, ask).await {
                Reply::Answer(status, body) if status < 500 => return Some((status, body)),
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
        None
    }

    /// Creates a topic, and says whether an answer was there in time. A topic that is not confirmed may be there.
    pub async fn create(&self, rng: &mut Rng, topic: &str, settings: Value, tries: usize) -> bool {
        let (retention, archive) = (settings["retention_ms"].as_u64(), settings["archive_retention_ms"].as_u64());
        let unknown = Topic { created: None, deleting: None, deleted: None, retention, archive };
        self.history().topics.entry(topic.to_owned()).or_insert(unknown);
        let ask = Ask::with(Method::PUT, format!("/v1/topics/{topic}"), settings, 5_000);
        let answer = self.insist(rng, &ask, tries).await;
        let is_created = matches!(answer, Some((200 | 201, _)));
        let mut history = self.history();
        let now = history.stamp();
        if is_created && let Some(topic) = history.topics.get_mut(topic) {
            topic.created = Some(now);
        }
        is_created
    }
}

/// The body of a create request. How long the log keeps records, and how long the archive does.
#[must_use]
pub fn settings(partitions: u32, (retention, archive): (Option<u64>, Option<u64>)) -> Value {
    json!({ "partitions": partitions, "retention_ms": retention, "archive_retention_ms": archive, "archive_after_ms": 2_000 })
}

async fn pause(rng: &mut Rng, most: u64) {
    sleep(Duration::from_millis(rng.below(most) + 1)).await;
}
