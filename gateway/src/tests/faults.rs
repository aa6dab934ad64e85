//! Errors whose fault one node does not have, or not within a lifetime: the engine's error, through all that lies between a
//! handler and the wire.

use axum::routing::{get, post};
use tidelog::error::{Error, ErrorKind};
use tidelog::model::Rejection;

use super::*;
use crate::error::ApiError;

#[tokio::test]
async fn errors_of_other_nodes_and_other_ages_are_answered_like_all_others() {
    let gateway = Gateway::start().await;
    let not_leader = || Error::new(ErrorKind::NotLeader, "not_leader", "this node does not lead the shard");
    let exhausted = || Error::from(Rejection::OffsetsExhausted);
    let app =
        App::new(gateway.queue.clone(), gateway.queue.config().clone(), Arc::new(NoHooks), 1, Lifecycle::default());
    let router = axum::Router::new()
        .route("/not-leader", get(move || async move { ApiError::from(not_leader()) }))
        .route("/exhausted", post(move || async move { ApiError::from(exhausted()) }));
    let front = front::over(app, router);
    let send = |method, path| {
        let request = request(method, path).body(Body::empty()).unwrap();
        let front = front.clone();
        async move { Answer::of(front.answer(request).await.map(Body::new)).await }
    };
    let elsewhere = send(Method::GET, "/not-leader").await.error(503, "not_leader");
    assert_eq!((&elsewhere["retryable"], elsewhere.get("outcome")), (&json!(true), None));
    let full = send(Method::POST, "/exhausted").await.error(422, "offsets_exhausted");
    assert_eq!((&full["retryable"], &full["outcome"]), (&json!(false), &json!("not_written")));
}

#[tokio::test]
async fn errors_about_nodes_keep_their_names_and_whether_to_try_again() {
    let gateway = Gateway::start().await;
    let app =
        App::new(gateway.queue.clone(), gateway.queue.config().clone(), Arc::new(NoHooks), 1, Lifecycle::default());
    let codes = [
        (ErrorKind::NotFound, "node_not_found", 404, false),
        (ErrorKind::Conflict, "node_identity_mismatch", 409, false),
        (ErrorKind::Conflict, "cluster_mismatch", 409, false),
        (ErrorKind::Conflict, "peer_version", 409, false),
        (ErrorKind::AlreadyExists, "node_exists", 409, false),
    ];
    let router = codes.into_iter().fold(axum::Router::new(), |router, (kind, code, ..)| {
        let answer = move || async move { ApiError::from(Error::new(kind, code, "as the engine says it")) };
        router.route(&format!("/{code}"), post(answer))
    });
    let front = front::over(app, router);
    for (_, code, status, retryable) in codes {
        let request = request(Method::POST, &format!("/{code}")).body(Body::empty()).unwrap();
        let answer = Answer::of(front.clone().answer(request).await.map(Body::new)).await;
        let error = answer.error(status, code);
        assert_eq!((&error["retryable"], &error["message"]), (&json!(retryable), &json!("as the engine says it")));
    }
}

#[tokio::test]
async fn a_node_alone_is_a_cluster_of_one() {
    let gateway = Gateway::start().await;
    let cluster = gateway.get("/v1/admin/cluster").await.expect(200);
    assert_eq!(
        (&cluster["node"], &cluster["leader"], &cluster["members"][0]["node"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!((&cluster["members"][0]["voter"], &cluster["members"][0]["lag"]), (&json!(true), &json!(0)));
    let transferred = gateway.json(Method::POST, "/v1/admin/leader:transfer", &json!({})).await.expect(200);
    assert_eq!(transferred["leader"], 1);
    gateway.json(Method::POST, "/v1/admin/drain", &json!({})).await.expect(200);
    let added = json!({"node": 2, "address": "127.0.0.1:9"});
    gateway.json(Method::POST, "/v1/admin/nodes:add", &added).await.error(409, "invalid_membership");
}
