//! Peers that are away, hang, break and come back.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::proxy::{Mode, Proxy};
use super::*;

async fn behind_proxy() -> (Node, Proxy, Target) {
    let node = Node::start(2, &settings()).await;
    let proxy = Proxy::start(node.target.address.clone()).await;
    let target = Target { address: proxy.address.to_string(), ..node.target.clone() };
    (node, proxy, target)
}

/// A call in a task of its own.
fn spawn(peers: &Peers, target: &Target, kind: u8, deadline: Duration) -> tokio::task::JoinHandle<Answer> {
    let (peers, target) = (peers.clone(), target.clone());
    tokio::spawn(async move { peers.call(&target, SHARD, kind, vec![Bytes::from_static(b"x")], deadline).await })
}

type Answer = Result<Bytes, CallError>;

#[tokio::test]
async fn a_connection_that_is_refused_sent_nothing_and_the_next_call_fails_at_once() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let target = Target { node: NodeId(2), directory: directory(2), address };
    let peers = peers(1);
    for _ in 0..3 {
        let error = not_sent(echo(&peers, &target).await, "peer_unreachable");
        assert_eq!(error.kind(), crate::error::ErrorKind::Unavailable);
        assert!(error.message().starts_with("node 2 cannot be reached at 127.0.0.1:"), "{error:?}");
    }
}

#[tokio::test]
async fn a_name_that_nobody_has_sent_nothing() {
    let target = Target { node: NodeId(2), directory: directory(2), address: "no-such-host.invalid:1".to_owned() };
    not_sent(echo(&peers(1), &target).await, "peer_unreachable");
}

#[tokio::test]
async fn a_peer_that_comes_back_is_reached_again() {
    let node = Node::start(2, &settings()).await;
    let peers = peers(1);
    echo(&peers, &node.target).await.unwrap();
    let again = config::Peer { listen: Some(node.target.address.parse().unwrap()), ..settings() };
    node.server.shutdown().await;
    not_sent(echo(&peers, &node.target).await, "peer_unreachable");
    let node = Node::start(2, &again).await;
    until_answered(&peers, &node.target).await;
}

#[tokio::test]
async fn a_listener_that_does_not_serve_yet_got_nothing() {
    let bound = PeerServer::bind(&settings()).await.unwrap();
    let target = Target { node: NodeId(2), directory: directory(2), address: bound.local_addr().to_string() };
    // Longer than the call's deadline by more than a slow machine takes to notice that.
    let settings = config::Peer { connect_timeout: Duration::from_secs(2), ..settings() };
    let peers = Peers::new(local(1), &settings).unwrap();
    let early = peers.call(&target, SHARD, ECHO, vec![], Duration::from_millis(20)).await;
    not_sent(early, "peer_timeout");
    not_sent(echo(&peers, &target).await, "peer_unreachable");
    let node = Node::serve(2, bound);
    until_answered(&peers, &target).await;
    assert_eq!(node.handled(), 1, "what was not sent is not handled later either");
}

#[tokio::test]
async fn a_call_past_its_deadline_may_have_happened_and_its_handler_is_dropped() {
    let node = Node::start(2, &settings()).await;
    let peers = peers(1);
    echo(&peers, &node.target).await.unwrap();
    let call = peers.call(&node.target, SHARD, HANG, vec![], Duration::from_secs(1));
    unknown(tokio::time::timeout(LONG, call).await.unwrap(), "peer_timeout");
    node.until_ended(2).await;
    // Many at once, as when a node hangs: the connection lives on.
    let late = (0..1_500).map(|_| spawn(&peers, &node.target, HANG, Duration::from_millis(300)));
    for call in futures::future::join_all(late).await {
        assert!(matches!(call.unwrap(), Err(CallError::Unknown(_) | CallError::NotSent(_))));
    }
    echo(&peers, &node.target).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_breaks_in_a_call_leaves_it_unknown() {
    let (node, proxy, target) = behind_proxy().await;
    let peers = peers(1);
    let call = spawn(&peers, &target, HANG, LONG);
    node.until_begun(1).await;
    proxy.cut();
    unknown(call.await.unwrap(), "peer_broken");
    node.until_ended(1).await;
    // It lived for less than a second, so there is a pause before the next one.
    until_answered(&peers, &target).await;
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn a_connection_that_broke_between_calls_is_replaced() {
    let (_node, proxy, target) = behind_proxy().await;
    let peers = peers(1);
    // From the second on it takes a pause: connections that break at once are not made in a loop.
    for _ in 0..3 {
        until_answered(&peers, &target).await;
        proxy.cut();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_peer_that_hangs_is_noticed_by_its_silence() {
    let (node, proxy, target) = behind_proxy().await;
    let peers = peers(1);
    echo(&peers, &target).await.unwrap();
    proxy.set(Mode::Stall);
    // At its deadline it would be a timeout.
    unknown(spawn(&peers, &target, HANG, LONG).await.unwrap(), "peer_broken");
    not_sent(echo(&peers, &target).await, "peer_unreachable");
    proxy.set(Mode::Pass);
    until_answered(&peers, &target).await;
    drop(node);
}

/// Whatever ends a call, what it is told is true: not sent is not handled, answered is, and nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_call_is_told_is_true() {
    let mut told = [0; 3];
    for round in 0..30_u64 {
        let (node, proxy, target) = behind_proxy().await;
        let peers = peers(1);
        echo(&peers, &target).await.unwrap();
        let handler = Arc::clone(&node.handler);
        let calls: Vec<_> = (0..60_u64)
            .map(|number| {
                let (peers, target) = (peers.clone(), target.clone());
                let deadline = if number % 3 == 0 { Duration::from_micros(number * 50) } else { LONG };
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_micros(number * 40)).await;
                    let body = vec![Bytes::from(number.to_le_bytes().to_vec()), Bytes::from(vec![0; 5_000])];
                    (number, peers.call(&target, SHARD, NOTE, body, deadline).await)
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_micros(round * 100)).await;
        match round % 3 {
            0 => proxy.cut(),
            1 => node.server.shutdown().await,
            _ => drop(node.server),
        }
        let results: Vec<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
        // Connections that were given up may still be at their last requests.
        let seen = loop {
            let seen = handler.noted.lock().unwrap().len();
            tokio::time::sleep(Duration::from_millis(20)).await;
            let noted = handler.noted.lock().unwrap();
            if noted.len() == seen {
                break noted.clone();
            }
        };
        for (number, result) in results {
            let times = seen.iter().filter(|body| body[..8] == number.to_le_bytes()).count();
            let (place, expected) = match &result {
                Ok(_) => (0, 1..=1),
                Err(CallError::NotSent(_)) => (1, 0..=0),
                Err(CallError::Unknown(_)) => (2, 0..=1),
                Err(CallError::Answered(error)) => panic!("{error:?}"),
            };
            told[place] += 1;
            assert!(expected.contains(&times), "{times} times, {result:?}");
        }
    }
    assert!(told.iter().all(|count| *count > 0), "not every verdict occurred: {told:?}");
}

#[tokio::test]
async fn something_else_that_listens_gets_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 1_024]).await;
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let target = Target { node: NodeId(2), directory: directory(2), address };
    not_sent(echo(&peers(1), &target).await, "peer_unreachable");
}

#[tokio::test]
async fn a_shutdown_lets_calls_finish_and_takes_no_more() {
    let node = Node::start(2, &settings()).await;
    let peers = peers(1);
    let large = vec![Bytes::from(vec![5; 10 << 20])];
    let target = node.target.clone();
    let call = peers.call(&target, SHARD, ECHO, large.clone(), LONG);
    let shutdown = async {
        node.until_begun(1).await;
        node.server.shutdown().await;
    };
    let (answer, ()) = tokio::join!(call, shutdown);
    assert!(answer.unwrap() == large[0]);
    not_sent(echo(&peers, &target).await, "peer_unreachable");
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_handler_that_hangs() {
    let node = Node::start(2, &settings()).await;
    let call = spawn(&peers(1), &node.target, HANG, LONG);
    node.until_begun(1).await;
    let handler = Arc::clone(&node.handler);
    tokio::time::timeout(LONG, node.server.shutdown()).await.unwrap();
    unknown(call.await.unwrap(), "peer_broken");
    handler.ended.subscribe().wait_for(|ended| *ended == 1).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_dropped_ends() {
    let node = Node::start(2, &settings()).await;
    let peers = peers(1);
    let call = spawn(&peers, &node.target, HANG, LONG);
    node.until_begun(1).await;
    let Node { server, target, .. } = node;
    drop(server);
    unknown(call.await.unwrap(), "peer_broken");
    while echo(&peers, &target).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn connections_that_say_nothing_end() {
    let node = Node::start(2, &settings()).await;
    let mut socket = tokio::net::TcpStream::connect(&node.target.address).await.unwrap();
    socket.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let mut rest = Vec::new();
    // It may end with a reset: bytes of ours were not read.
    let _ = tokio::time::timeout(LONG, socket.read_to_end(&mut rest)).await.unwrap();
}
