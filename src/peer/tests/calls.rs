//! Calls that are answered.

use super::proxy::Proxy;
use super::*;

#[tokio::test]
async fn what_is_sent_arrives_and_comes_back() {
    let node = Node::start(2, &settings()).await;
    let peers = peers(1);
    let large: Bytes = (0..20 << 20).map(|at: u32| (at % 251) as u8).collect::<Vec<_>>().into();
    let bodies: [Vec<Bytes>; 6] = [
        vec![],
        vec![Bytes::new(), Bytes::new()],
        vec![Bytes::from_static(b"a")],
        vec![Bytes::from_static(b"head"), large.slice(..1 << 20), Bytes::from_static(b"b"), large.slice(..4_097)],
        // Larger than what a connection holds unread.
        vec![large.clone(), large.clone()],
        (0..5_000).map(|at| large.slice(at..at + 100)).collect(),
    ];
    for body in bodies {
        let expected = body.concat();
        let answer = peers.call(&node.target, SHARD, ECHO, body, LONG).await.unwrap();
        assert!(answer == expected, "{} bytes came back as {}", expected.len(), answer.len());
    }
}

#[tokio::test]
async fn a_handler_is_told_who_calls() {
    let node = Node::start(2, &settings()).await;
    let answer = peers(9).call(&node.target, SHARD, WHO, vec![], LONG).await.unwrap();
    assert_eq!(answer, format!("9 {}", directory(9)));
}

#[tokio::test]
async fn an_error_of_the_handler_arrives_whole() {
    let node = Node::start(2, &settings()).await;
    let result = peers(1).call(&node.target, SHARD, FAIL, vec![], LONG).await;
    let Err(CallError::Answered(error)) = result else { panic!("{result:?}") };
    assert_eq!(format!("{error:?}"), format!("{:?}", failure()));
    assert_eq!(error.details(), failure().details());
}

#[tokio::test]
async fn calls_share_one_connection_and_do_not_wait_for_each_other() {
    let node = Node::start(2, &settings()).await;
    let proxy = Proxy::start(node.target.address.clone()).await;
    let target = Target { address: proxy.address.to_string(), ..node.target.clone() };
    let peers = peers(1);
    let hanging = {
        let (peers, target) = (peers.clone(), target.clone());
        tokio::spawn(async move { peers.call(&target, SHARD, HANG, vec![], LONG).await })
    };
    node.until_begun(1).await;
    let calls = (0..200_u32).map(|number| {
        let (peers, target) = (&peers, &target);
        async move {
            let body = vec![Bytes::from(number.to_le_bytes().repeat(1_000))];
            peers.call(target, SHARD, ECHO, body.clone(), LONG).await.unwrap() == body[0]
        }
    });
    assert!(futures::future::join_all(calls).await.into_iter().all(|same| same));
    assert_eq!(proxy.connections(), 1);
    assert!(!hanging.is_finished());
}

#[tokio::test]
async fn a_target_at_a_new_address_is_called_there() {
    let old = Node::start(2, &settings()).await;
    let peers = peers(1);
    echo(&peers, &old.target).await.unwrap();
    old.server.shutdown().await;
    let new = Node::start(2, &settings()).await;
    echo(&peers, &new.target).await.unwrap();
    assert_eq!(new.handled(), 1);
}

#[tokio::test]
async fn a_directory_that_is_not_known_is_not_compared() {
    let node = Node::start(2, &settings()).await;
    let target = Target { directory: Uuid::nil(), ..node.target.clone() };
    echo(&peers(1), &target).await.unwrap();
}

#[tokio::test]
async fn the_advertised_address_wins() {
    let bound = PeerServer::bind(&settings()).await.unwrap();
    assert_eq!(bound.advertised(), bound.local_addr().to_string());
    let settings = config::Peer { advertise: Some("node-2.example:7072".to_owned()), ..settings() };
    assert_eq!(PeerServer::bind(&settings).await.unwrap().advertised(), "node-2.example:7072");
    let none = PeerServer::bind(&config::Peer::default()).await.unwrap_err();
    assert_eq!(none.kind(), std::io::ErrorKind::InvalidInput);
}
