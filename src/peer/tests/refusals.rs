//! Requests that do not reach the handler.

use bytes::BufMut as _;
use http::{Method, Request, Uri};

use super::*;
use crate::error::ErrorKind;
use crate::peer::dial::{Dialer, URI};
use crate::peer::frame::{Parts, Reader};
use crate::peer::head::{AnswerHead, BodyHead, End, MAX_ANSWER_HEAD, MAX_REQUEST_HEAD, RequestHead, encode};
use crate::peer::sent::Sent;

#[tokio::test]
async fn who_is_not_meant_refuses() {
    let node = Node::start(2, &settings()).await;
    let target = &node.target;
    let other = |local: Local| Peers::new(local, &settings()).unwrap();
    let refused = [
        (other(Local { cluster: "c2".to_owned(), ..local(1) }), target.clone(), "cluster_mismatch"),
        (other(Local { incarnation: Incarnation(5), ..local(1) }), target.clone(), "cluster_mismatch"),
        (peers(1), Target { node: NodeId(3), ..target.clone() }, "node_identity_mismatch"),
        (peers(1), Target { directory: directory(3), ..target.clone() }, "node_identity_mismatch"),
    ];
    for (peers, target, code) in refused {
        let error = not_sent(echo(&peers, &target).await, code);
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Conflict, Outcome::NotWritten));
    }
    assert_eq!(node.handled(), 0);
    echo(&peers(1), target).await.unwrap();
}

#[tokio::test]
async fn a_body_over_the_callers_bound_is_not_sent() {
    let node = Node::start(2, &settings()).await;
    let peers = Peers::new(local(1), &config::Peer { max_body: 10_000, ..settings() }).unwrap();
    let body = vec![Bytes::from(vec![1; 6_000]); 2];
    not_sent(peers.call(&node.target, SHARD, ECHO, body, LONG).await, "peer_body_too_large");
    assert_eq!(node.handled(), 0);
}

#[tokio::test]
async fn a_body_over_the_receivers_bound_is_refused_while_it_is_sent() {
    let node = Node::start(2, &config::Peer { max_body: 1 << 20, ..settings() }).await;
    let peers = peers(1);
    // Above what the connection holds unread, so that the caller is still sending when it is refused.
    let body = vec![Bytes::from(vec![1; 40 << 20])];
    for _ in 0..3 {
        not_sent(peers.call(&node.target, SHARD, ECHO, body.clone(), LONG).await, "peer_invalid_request");
        echo(&peers, &node.target).await.unwrap();
    }
    assert_eq!(node.handled(), 3);
}

#[tokio::test]
async fn an_answer_over_a_bound_is_an_error() {
    let node = Node::start(2, &config::Peer { max_body: 1 << 20, ..settings() }).await;
    let result = peers(1).call(&node.target, SHARD, MAKE, vec![Bytes::from_static(b"1048577")], LONG).await;
    let Err(CallError::Answered(error)) = result else { panic!("{result:?}") };
    assert_eq!((error.code(), error.outcome()), ("peer_answer_too_large", Outcome::Unknown));
    let small = Peers::new(local(1), &config::Peer { max_body: 1 << 10, ..settings() }).unwrap();
    let result = small.call(&node.target, SHARD, MAKE, vec![Bytes::from_static(b"1025")], LONG).await;
    unknown(result, "peer_answer_too_large");
}

#[tokio::test]
async fn bodies_beyond_the_memory_are_refused_and_small_ones_pass() {
    let node = Node::start(2, &config::Peer { max_body: 1 << 20, memory: 1 << 20, ..settings() }).await;
    let peers = peers(1);
    let call = |kind, bytes| {
        let (peers, target) = (peers.clone(), node.target.clone());
        async move { peers.call(&target, SHARD, kind, vec![Bytes::from(vec![1; bytes])], LONG).await }
    };
    let hanging = tokio::spawn(call(HANG, 800 << 10));
    node.until_begun(1).await;
    let error = not_sent(call(ECHO, 400 << 10).await, "overloaded");
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    call(ECHO, 200 << 10).await.unwrap();
    call(ECHO, 16 << 10).await.unwrap();
    hanging.abort();
    node.until_ended(3).await;
    call(ECHO, 400 << 10).await.unwrap();
}

fn head(body: BodyHead) -> RequestHead {
    RequestHead {
        cluster: "c1".to_owned(),
        incarnation: Incarnation(4),
        from: End { node: NodeId(1), directory: directory(1) },
        to: End { node: NodeId(2), directory: directory(2) },
        shard: SHARD,
        kind: ECHO,
        deadline_ms: 60_000,
        body,
    }
}

fn post(parts: Parts) -> Request<Parts> {
    let mut request = Request::new(parts);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(URI);
    request
}

/// What a node answers to bytes of our own making.
async fn raw(node: &Node, bytes: Bytes) -> (bool, Error) {
    let dialer = Dialer { timeout: LONG, tls: None };
    let mut sender = dialer.dial(NodeId(2), &node.target.address).await.unwrap().sender;
    let answer = sender.send_request(post(Parts::new(bytes, []))).await.unwrap();
    let mut reader = Reader::new(answer.into_body());
    let head: AnswerHead = reader.head(MAX_ANSWER_HEAD).await.unwrap();
    (head.refused, head.failure.unwrap().into())
}

#[tokio::test]
async fn a_request_that_was_given_up_before_it_was_sent_is_never_handled() {
    let node = Node::start(2, &settings()).await;
    let body = Bytes::from_static(b"x");
    let bytes = encode(&head(BodyHead::of(std::slice::from_ref(&body))), MAX_REQUEST_HEAD).unwrap();
    let sent = Arc::new(Sent::default());
    assert!(sent.abandon());
    let dialer = Dialer { timeout: LONG, tls: None };
    let mut sender = dialer.dial(NodeId(2), &node.target.address).await.unwrap().sender;
    sender.send_request(post(Parts::new(bytes.clone(), [body.clone()]).watched(sent))).await.unwrap_err();
    // The same bytes otherwise, on the same connection.
    let answer = sender.send_request(post(Parts::new(bytes, [body]))).await.unwrap();
    assert!(answer.status().is_success());
    node.until_ended(1).await;
    assert_eq!(node.handled(), 1);
}

#[tokio::test]
async fn what_is_damaged_or_of_another_version_is_refused() {
    let node = Node::start(2, &settings()).await;
    let body = Bytes::from(vec![3; 5_000]);
    let said = BodyHead::of(std::slice::from_ref(&body));
    let whole = |said: BodyHead, body: &[u8]| {
        let mut bytes = encode(&head(said), MAX_REQUEST_HEAD).unwrap().to_vec();
        bytes.put_slice(body);
        bytes
    };
    let good = whole(said, &body);
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let cases = [
        ("another version", changed(0, 2), "peer_version"),
        ("a head that is damaged", changed(20, good[20] ^ 1), "peer_damaged"),
        ("a body that is damaged", changed(good.len() - 1, 4), "peer_damaged"),
        ("a body that ends early", good[..good.len() - 1].to_vec(), "peer_damaged"),
        ("a body that goes on", [&good[..], b"x"].concat(), "peer_damaged"),
        ("no body", good[..good.len() - body.len()].to_vec(), "peer_damaged"),
        ("half a head", good[..20].to_vec(), "peer_damaged"),
        ("a length beyond all bounds", whole(BodyHead { bytes: u64::MAX, ..said }, &body), "peer_invalid_request"),
    ];
    for (what, bytes, code) in cases {
        let (refused, error) = raw(&node, bytes.into()).await;
        assert!(refused && error.code() == code, "{what}: {error:?}");
    }
    assert_eq!(node.handled(), 0);
}
