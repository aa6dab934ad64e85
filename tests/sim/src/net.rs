//! The network between nodes: messages take their time, overtake each other, get lost, and links are cut, one way or both.
//!
//! A call is two messages. One that is lost on its way there was not handled, one whose answer is lost was, and the caller
//! cannot tell: both end at the deadline. A call that breaks after it was sent is handled or not, whatever its caller does.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tidelog::error::Error;
use tidelog::peer::{CallError, Receiver, Wire, WireCall};
use tokio::time::{Instant, sleep, timeout_at};

use crate::random::Rng;
use crate::trace::Trace;

/// How the network behaves.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// From whom to whom nothing arrives.
    pub cut: BTreeSet<(u64, u64)>,
    /// Of a thousand messages, how many are lost.
    pub loss: u64,
    /// Of a thousand calls over a link that is cut, how many fail at once.
    pub refused: u64,
    /// Of a thousand calls, how many break after they were sent.
    pub breaks: u64,
    /// A message takes up to so many milliseconds.
    pub delay: u64,
    /// Of a thousand messages, how many take up to ten times as long.
    pub stragglers: u64,
}

/// See the module; clones share it.
#[derive(Clone)]
pub struct Net(Arc<Mutex<Inner>>);

struct Inner {
    rng: Rng,
    rules: Rules,
    trace: Trace,
    receivers: BTreeMap<String, (u64, Receiver)>,
    listeners: u64,
    calls: u64,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy)]
struct Fate {
    number: u64,
    there: Duration,
    back: Duration,
    is_lost_there: bool,
    is_lost_back: bool,
    breaks: bool,
    /// Nobody answers at once, as when there is no way at all.
    is_refused: bool,
}

impl Net {
    /// A network that loses nothing.
    #[must_use]
    pub fn new(rng: Rng, trace: Trace) -> Self {
        let (rules, receivers) = (Rules { delay: 2, ..Rules::default() }, BTreeMap::new());
        Self(Arc::new(Mutex::new(Inner { rng, rules, trace, receivers, listeners: 0, calls: 0 })))
    }

    /// Changes how it behaves.
    pub fn change(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.lock().rules);
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Whether anything may arrive now.
    fn is_open(&self, from: u64, to: u64) -> bool {
        !self.lock().rules.cut.contains(&(from, to))
    }

    fn fate(&self, call: &WireCall) -> Fate {
        let mut inner = self.lock();
        inner.calls += 1;
        let number = inner.calls;
        let rules = inner.rules.clone();
        let rng = &mut inner.rng;
        let mut time = || {
            let most = if rng.chance(rules.stragglers) { rules.delay * 10 } else { rules.delay };
            Duration::from_millis(rng.below(most + 1))
        };
        let (there, back) = (time(), time());
        let fate = Fate {
            number,
            there,
            back,
            is_lost_there: rng.chance(rules.loss),
            is_lost_back: rng.chance(rules.loss),
            breaks: rng.chance(rules.breaks),
            is_refused: rng.chance(rules.refused),
        };
        let (from, to, bytes) = (call.from.node.0, call.target.node.0, call.body.len());
        let hash = xxhash_rust::xxh3::xxh3_64(&call.body);
        inner.trace.note("call", format_args!("{number} {from}>{to} {}/{} {bytes} {hash:x}", call.shard, call.kind));
        fate
    }

    fn receiver(&self, address: &str) -> Option<Receiver> {
        self.lock().receivers.get(address).map(|(_, receiver)| receiver.clone())
    }

    async fn carry(&self, call: WireCall, fate: Fate) -> Result<Bytes, CallError> {
        let (from, to) = (call.from.node.0, call.target.node.0);
        sleep(fate.there).await;
        if !self.is_open(from, to) {
            if fate.is_refused {
                return Err(CallError::NotSent(Error::unavailable("there is no way to the peer")));
            }
            return std::future::pending().await;
        }
        if fate.is_lost_there {
            return std::future::pending().await;
        }
        let Some(receiver) = self.receiver(&call.target.address) else {
            return Err(CallError::NotSent(Error::unavailable("nobody listens at the peer's address")));
        };
        if fate.breaks {
            tokio::spawn(async move { drop(receiver.answer(call).await) });
            return Err(broken("the connection broke after the request was sent"));
        }
        let answer = receiver.answer(call).await;
        sleep(fate.back).await;
        let trace = self.lock().trace.clone();
        trace.note("answer", format_args!("{} {}", fate.number, answer.as_ref().map_or(-1, |body| body.len() as i64)));
        if fate.is_lost_back || !self.is_open(to, from) {
            return std::future::pending().await;
        }
        answer
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn broken(message: &str) -> CallError {
    CallError::Unknown(Error::unavailable(message).with_outcome(tidelog::error::Outcome::Unknown))
}

impl Wire for Net {
    fn listen(&self, address: &str, receiver: Receiver) -> Box<dyn Any + std::marker::Send + Sync> {
        let mut inner = self.lock();
        inner.listeners += 1;
        let number = inner.listeners;
        inner.receivers.insert(address.to_owned(), (number, receiver));
        Box::new(Listening { net: Arc::downgrade(&self.0), address: address.to_owned(), number })
    }

    fn call(&self, call: WireCall) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let net = self.clone();
        async move {
            let until = Instant::now() + call.deadline;
            let fate = net.fate(&call);
            match timeout_at(until, net.carry(call, fate)).await {
                Ok(answer) => answer,
                Err(_) => Err(broken("the peer did not answer in time")),
            }
        }
        .boxed()
    }
}

/// An address is taken as long as this is there.
struct Listening {
    net: Weak<Mutex<Inner>>,
    address: String,
    number: u64,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let Some(net) = self.net.upgrade() else { return };
        let mut inner = net.lock().unwrap_or_else(PoisonError::into_inner);
        // Another one may have taken it meanwhile.
        if inner.receivers.get(&self.address).is_some_and(|(number, _)| *number == self.number) {
            inner.receivers.remove(&self.address);
        }
    }
}
