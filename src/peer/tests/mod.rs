#![allow(clippy::unwrap_used)]

mod calls;
mod faults;
mod frames;
mod proxy;
mod refusals;
mod tls;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::watch;
use uuid::Uuid;

use super::{Bound, CallError, Caller, Local, PeerHandler, PeerServer, Peers, Target};
use crate::config;
use crate::error::{Error, Outcome, Result};
use crate::model::{Incarnation, NodeId, ShardId};

const SHARD: ShardId = ShardId(7);
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);

/// What the handler of these tests does.
const ECHO: u8 = 1;
const FAIL: u8 = 2;
/// Never answers.
const HANG: u8 = 3;
/// Answers with as many bytes as the body's number says.
const MAKE: u8 = 4;
/// Says who called.
const WHO: u8 = 5;
/// Notes the body.
const NOTE: u8 = 6;

/// A handler that counts what it began and what was dropped before its end.
#[derive(Default)]
struct Handler {
    begun: watch::Sender<u64>,
    ended: watch::Sender<u64>,
    handled: AtomicU64,
    noted: Mutex<Vec<Bytes>>,
}

/// Counts a call's end, whatever it was.
struct Ending(Arc<Handler>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended.send_modify(|ended| *ended += 1);
    }
}

struct Shared(Arc<Handler>);

impl PeerHandler for Shared {
    fn handle(&self, caller: Caller, shard: ShardId, kind: u8, body: Bytes) -> BoxFuture<'static, Result<Vec<Bytes>>> {
        let handler = Arc::clone(&self.0);
        async move {
            let _ending = Ending(Arc::clone(&handler));
            handler.begun.send_modify(|begun| *begun += 1);
            handler.handled.fetch_add(1, Ordering::Relaxed);
            assert_eq!(shard, SHARD);
            match kind {
                ECHO => Ok(vec![body.slice(..body.len() / 2), body.slice(body.len() / 2..)]),
                FAIL => Err(failure()),
                HANG => std::future::pending().await,
                MAKE => Ok(vec![Bytes::from(vec![7; std::str::from_utf8(&body).unwrap().parse().unwrap()])]),
                NOTE => {
                    handler.noted.lock().unwrap().push(body);
                    Ok(Vec::new())
                }
                _ => Ok(vec![Bytes::from(format!("{} {}", caller.node, caller.directory))]),
            }
        }
        .boxed()
    }
}

fn failure() -> Error {
    Error::overloaded("the log is full")
        .with_outcome(Outcome::Partial)
        .with_number("budget", 10)
        .with_text("cause", "a disk")
        .with_source("no space left")
}

fn directory(node: u64) -> Uuid {
    Uuid::from_u128(u128::from(node) << 64 | 0xd)
}

fn local(node: u64) -> Local {
    Local { cluster: "c1".to_owned(), incarnation: Incarnation(4), node: NodeId(node), directory: directory(node) }
}

fn settings() -> config::Peer {
    config::Peer { listen: Some("127.0.0.1:0".parse().unwrap()), ..config::Peer::default() }
}

/// A serving node.
struct Node {
    server: PeerServer,
    handler: Arc<Handler>,
    target: Target,
}

impl Node {
    async fn start(node: u64, settings: &config::Peer) -> Self {
        Self::serve(node, PeerServer::bind(settings).await.unwrap())
    }

    fn serve(node: u64, bound: Bound) -> Self {
        let handler = Arc::new(Handler::default());
        let target = Target { node: NodeId(node), directory: directory(node), address: bound.local_addr().to_string() };
        let server = bound.serve(local(node), Arc::new(Shared(Arc::clone(&handler))));
        Self { server, handler, target }
    }

    fn handled(&self) -> u64 {
        self.handler.handled.load(Ordering::Relaxed)
    }

    async fn until_begun(&self, count: u64) {
        self.handler.begun.subscribe().wait_for(|begun| *begun >= count).await.unwrap();
    }

    async fn until_ended(&self, count: u64) {
        self.handler.ended.subscribe().wait_for(|ended| *ended >= count).await.unwrap();
    }
}

fn peers(node: u64) -> Peers {
    Peers::new(local(node), &settings()).unwrap()
}

async fn echo(peers: &Peers, target: &Target) -> Result<Bytes, CallError> {
    peers.call(target, SHARD, ECHO, vec![Bytes::from_static(b"hello")], LONG).await
}

/// Calls until there is an answer; whatever failed before did nothing.
async fn until_answered(peers: &Peers, target: &Target) {
    while let Err(error) = echo(peers, target).await {
        assert!(matches!(error, CallError::NotSent(_)), "{error:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[track_caller]
fn not_sent(result: Result<Bytes, CallError>, code: &str) -> Error {
    match result {
        Err(CallError::NotSent(error)) => {
            assert_eq!(error.code(), code, "{error:?}");
            error
        }
        other => panic!("{other:?} is not NotSent({code})"),
    }
}

#[track_caller]
fn unknown(result: Result<Bytes, CallError>, code: &str) {
    match result {
        Err(CallError::Unknown(error)) => {
            assert_eq!((error.code(), error.outcome()), (code, Outcome::Unknown), "{error:?}");
        }
        other => panic!("{other:?} is not Unknown({code})"),
    }
}
