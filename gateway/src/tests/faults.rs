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
