//! Batches to the server: for each partition one request at a time, in order; partitions beside each other.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tidelog_api::produce::ProduceResponse;
use tidelog_client::{Acks, Producer, Topic};
use tokio::sync::mpsc;

use super::cut::{Cut, Last, Step};
use super::progress::Progress;

/// Bytes of batches that wait or are under way.
const MAX_QUEUED: usize = 32 << 20;
/// Requests under way at once.
const MAX_IN_FLIGHT: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(30);

/// How batches are sent.
pub(super) enum Sender {
    /// Under a producer triple.
    Idempotent { producer: Box<Producer>, acks: Acks },
    /// Without a promise.
    Plain(Topic),
}

impl Sender {
    pub(super) fn idempotent(producer: Producer, acks: Acks) -> Self {
        Self::Idempotent { producer: Box::new(producer), acks }
    }

    pub(super) fn plain(topic: Topic) -> Self {
        Self::Plain(topic)
    }

    /// Records that each partition has of this producer.
    pub(super) fn written(&self) -> HashMap<u32, u64> {
        match self {
            Self::Idempotent { producer, .. } => producer.written(),
            Self::Plain(_) => HashMap::new(),
        }
    }

    /// The last record that each partition had when an earlier run was taken up; without those that were trimmed.
    pub(super) async fn resumed_after(&self) -> Result<HashMap<u32, Last>> {
        let Self::Idempotent { producer, .. } = self else { return Ok(HashMap::new()) };
        let decode = |text: &str| STANDARD.decode(text).context("a record of the answer is no base64");
        let mut last = HashMap::new();
        for (partition, record) in producer.resumed_after().await? {
            let key = match (record.key, record.key_base64) {
                (Some(key), _) => Some(key.into_bytes()),
                (None, key) => key.as_deref().map(decode).transpose()?,
            };
            let value = record.base64.as_deref().map(decode).transpose()?;
            last.insert(partition, Last { key, value });
        }
        Ok(last)
    }

    /// Id and epoch, for programs.
    pub(super) fn producer(&self) -> Option<(u64, u16)> {
        match self {
            Self::Idempotent { producer, .. } => Some((producer.id(), producer.epoch())),
            Self::Plain(_) => None,
        }
    }

    async fn send(&self, cut: &Cut) -> tidelog_client::Result<ProduceResponse> {
        match self {
            Self::Idempotent { producer, acks } => producer.send(cut.partition, &cut.batch, *acks, TIMEOUT).await,
            Self::Plain(topic) => topic.produce(Some(cut.partition), &cut.batch, Acks::None, TIMEOUT, None).await,
        }
    }
}

type Exchange<'a> = BoxFuture<'a, (Cut, tidelog_client::Result<ProduceResponse>)>;

/// What waits and what is under way.
struct Lanes<'a> {
    sender: &'a Sender,
    in_flight: FuturesUnordered<Exchange<'a>>,
    /// For each partition that is busy, what comes after.
    waiting: HashMap<u32, VecDeque<Cut>>,
    /// Partitions that could go on but for [`MAX_IN_FLIGHT`].
    idle: VecDeque<Cut>,
    bytes: usize,
}

/// Sends until the input is over and everything is acknowledged, or something fails; then what is under way is still
/// waited for, so that what is counted as written is.
pub(super) async fn drive(sender: &Sender, mut steps: mpsc::Receiver<Result<Step>>, progress: &Progress) -> Result<()> {
    let mut lanes =
        Lanes { sender, in_flight: FuturesUnordered::new(), waiting: HashMap::new(), idle: VecDeque::new(), bytes: 0 };
    let mut open = true;
    let mut failure = None;
    while open || !lanes.in_flight.is_empty() {
        tokio::select! {
            step = steps.recv(), if open && lanes.bytes < MAX_QUEUED => match step {
                None => open = false,
                Some(Ok(Step::Skipped(count))) => progress.skipped(count),
                Some(Ok(Step::Batch(cut))) => lanes.push(cut),
                Some(Err(error)) => failure = Some(error),
            },
            Some((cut, answer)) = lanes.in_flight.next() => match answer {
                Ok(answer) => {
                    progress.acknowledged(&cut, &answer);
                    lanes.done(&cut, failure.is_none());
                }
                Err(error) => failure = failure.or(Some(place(error, &cut))),
            },
            else => break,
        }
        if failure.is_some() {
            open = false;
            steps.close();
        }
    }
    failure.map_or(Ok(()), Err)
}

impl Lanes<'_> {
    fn push(&mut self, cut: Cut) {
        self.bytes += cut.batch.lines.len();
        match self.waiting.get_mut(&cut.partition) {
            Some(waiting) => waiting.push_back(cut),
            None => {
                self.waiting.insert(cut.partition, VecDeque::new());
                self.idle.push_back(cut);
            }
        }
        self.start();
    }

    fn start(&mut self) {
        while self.in_flight.len() < MAX_IN_FLIGHT {
            let Some(cut) = self.idle.pop_front() else { break };
            let sender = self.sender;
            let exchange = async move {
                let answer = sender.send(&cut).await;
                (cut, answer)
            };
            self.in_flight.push(exchange.boxed());
        }
    }

    fn done(&mut self, cut: &Cut, go_on: bool) {
        self.bytes -= cut.batch.lines.len();
        if !go_on {
            return;
        }
        if let Some(waiting) = self.waiting.get_mut(&cut.partition) {
            match waiting.pop_front() {
                Some(next) => self.idle.push_back(next),
                None => {
                    self.waiting.remove(&cut.partition);
                }
            }
        }
        self.start();
    }
}

/// Says which row of the input was declined, if the server names a record.
fn place(error: tidelog_client::Error, cut: &Cut) -> anyhow::Error {
    let index = error.details().and_then(|details| details.get("index")?.as_u64());
    let row = index.and_then(|index| cut.rows.get(usize::try_from(index).ok()?));
    let place = match row {
        Some(row) => format!("record {} of the input, for partition {}", row + 1, cut.partition),
        None => format!("partition {}", cut.partition),
    };
    anyhow::Error::from(error).context(place)
}
