//! Appends of a leader that sends the next before the last one is answered, put into their order.
//!
//! Calls of one connection may overtake each other. A leader numbers those of a stream, which is one after another of its
//! leadership; here each waits for the one before it to be handed to openraft, so that none is declined for want of entries that
//! are just arriving. What waits is bounded by what the peer listener takes in (`peer.memory`), and waits for a while only.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::node::RaftNode;
use super::types::{TypeConfig, Vote};
use super::wire::{self, Order};
use crate::error::{Error, Result};
use crate::model::NodeId;

/// How long an append waits for the one before it, which was sent before it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Appends of a stream that openraft has at a time; leaders send less.
const ROOM: usize = 64;

type Answer = StreamAppendResult<TypeConfig>;

/// The streams of the leaders that call.
#[derive(Default)]
pub(super) struct Streams {
    by_caller: Mutex<BTreeMap<NodeId, Stream>>,
    /// Changes with every append that was handed on.
    changed: watch::Sender<()>,
}

/// The newest stream of a caller.
struct Stream {
    vote: Vote,
    number: u64,
    /// The number of the append that comes next.
    next: u64,
    requests: mpsc::Sender<AppendEntriesRequest<TypeConfig>>,
    answers: mpsc::UnboundedSender<oneshot::Sender<Answer>>,
}

impl Streams {
    fn by_caller(&self) -> MutexGuard<'_, BTreeMap<NodeId, Stream>> {
        self.by_caller.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be done with an append.
enum Turn {
    Now(oneshot::Receiver<Answer>),
    Later(AppendEntriesRequest<TypeConfig>),
    Never(&'static str),
}

impl RaftNode {
    /// Handles an append of a stream in its turn.
    pub(super) async fn receive_ordered(
        &self,
        from: NodeId,
        order: Order,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<Bytes> {
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let mut changes = self.inner.streams.changed.subscribe();
        let deadline = Instant::now() + PATIENCE;
        let mut request = request;
        let answer = loop {
            changes.borrow_and_update();
            match self.turn(from, order, request) {
                Turn::Now(answer) => break answer,
                Turn::Never(why) => return Err(Error::unavailable(why)),
                Turn::Later(waiting) => request = waiting,
            }
            if timeout_at(deadline, changes.changed()).await.is_err() {
                return Err(Error::unavailable("the append before this one did not arrive"));
            }
        };
        let answer = answer.await.map_err(|_| Error::unavailable("an earlier append of the stream was declined"))?;
        wire::encode_append_answer(&match answer {
            Ok(upto) if upto == last => AppendEntriesResponse::Success,
            Ok(upto) => AppendEntriesResponse::PartialSuccess(upto),
            Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
            Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    /// Hands `request` to openraft if it is its turn.
    fn turn(&self, from: NodeId, order: Order, request: AppendEntriesRequest<TypeConfig>) -> Turn {
        let mut streams = self.inner.streams.by_caller();
        let is_newer =
            streams.get(&from).is_none_or(|stream| (request.vote, order.stream) > (stream.vote, stream.number));
        if is_newer {
            if order.sequence > 0 {
                return Turn::Later(request);
            }
            // Whatever waits in the stream before it will not come to its turn.
            streams.insert(from, self.begin(request.vote, order.stream));
        }
        let Some(stream) = streams.get_mut(&from).filter(|stream| {
            (stream.vote, stream.number) == (request.vote, order.stream) && stream.next <= order.sequence
        }) else {
            return Turn::Never("the append is of a stream that has ended");
        };
        if order.sequence > stream.next {
            return Turn::Later(request);
        }
        let (sender, receiver) = oneshot::channel();
        if stream.answers.send(sender).is_err() || stream.requests.try_send(request).is_err() {
            return Turn::Never("the stream has ended, or has too many appends under way");
        }
        stream.next += 1;
        self.inner.streams.changed.send_replace(());
        Turn::Now(receiver)
    }

    /// Begins a stream; it ends with the first append that openraft declines.
    fn begin(&self, vote: Vote, number: u64) -> Stream {
        let (requests, received) = mpsc::channel(ROOM);
        let (answers, mut waiting) = mpsc::unbounded_channel::<oneshot::Sender<Answer>>();
        let received = futures::stream::unfold(received, |mut received| async move {
            received.recv().await.map(|request| (request, received))
        });
        let answered = self.inner.raft.stream_append(received);
        let changed = self.inner.streams.changed.clone();
        tokio::spawn(async move {
            let mut answered = std::pin::pin!(answered);
            while let Some(Ok(answer)) = answered.next().await {
                let Some(caller) = waiting.recv().await else { break };
                // A caller that gave up needs no answer.
                let _ = caller.send(answer);
            }
            waiting.close();
            while waiting.try_recv().is_ok() {}
            changed.send_replace(());
        });
        Stream { vote, number, next: 0, requests, answers }
    }
}
