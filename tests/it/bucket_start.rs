//! What a process finds out about its bucket when it starts: a refusal ends it with one sentence, a bucket that is away does not.

use std::sync::Arc;

use serde_json::json;

use crate::support::faults::Fault;
use crate::support::http::Http;
use crate::support::s3::S3;
use crate::support::server::{Server, Settings, files_under};

/// The log of a start in a new directory, which has to fail.
async fn refused(settings: Settings) -> String {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    match Server::try_start(dir, settings).await {
        Ok(server) => panic!("it started:\n{}", server.log()),
        Err(log) => log,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_refuses_ends_the_start_with_one_sentence() {
    let s3 = S3::start().await;
    for (fault, told) in [
        (Fault::NoBucket, "there is no such bucket"),
        (Fault::Deny("PUT"), "lack s3:PutObject"),
        (Fault::Deny("GET"), "lack s3:GetObject"),
        // Many objects are deleted by a POST.
        (Fault::Deny("POST"), "lack s3:DeleteObject"),
    ] {
        s3.faults().set(fault);
        let log = refused(s3.settings()).await;
        assert!(log.contains(told) && log.contains(&s3.url()), "{fault:?}: {log}");
    }
    s3.faults().set(Fault::None);
    for (variable, value, told) in [
        ("AWS_SECRET_ACCESS_KEY", "another", "the secret key does not belong to the access key"),
        ("AWS_ACCESS_KEY_ID", "nobody", "does not know the access key"),
    ] {
        let log = refused(s3.settings().env(variable, value)).await;
        assert!(log.contains(told), "{variable}: {log}");
    }
    // Nobody listens at the discard port; a node without a log has nothing else to start from.
    let away = s3.settings().env("AWS_ENDPOINT", "http://127.0.0.1:9").set("store.deadline", "2s");
    let log = refused(away.set("store.attempt_timeout", "1s")).await;
    assert!(log.contains("the endpoint cannot be reached"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_log_starts_while_the_bucket_is_away_and_not_while_it_refuses() {
    let s3 = S3::start().await;
    let settings = s3.settings().set("flush.interval", "1h");
    let server = Server::start_with(settings.clone()).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    http.produce("t", &json!([{"text": "kept"}])).await.expect(200);
    let mut dir = tokio::task::block_in_place(|| server.kill());

    for (fault, told) in [(Fault::Hang, "starting without it"), (Fault::Fail, "starting")] {
        s3.faults().set(fault);
        let server = Server::start_in(dir, settings.clone()).await;
        let found = Http::new(server.url()).fetch_all("t", 0, "").await;
        assert_eq!(found.len(), 1, "{fault:?}");
        assert!(server.log().contains(told), "{fault:?}: {}", server.log());
        dir = tokio::task::block_in_place(|| server.kill());
    }

    s3.faults().set(Fault::NoBucket);
    let log = Server::try_start(Arc::clone(&dir), settings.clone()).await.map(|_| ()).unwrap_err();
    assert!(log.contains("there is no such bucket"), "{log}");
    let server = Server::start_in(dir, settings.clone().set("store.probe", "warn")).await;
    assert_eq!(Http::new(server.url()).fetch_all("t", 0, "").await.len(), 1);
    assert!(server.log().contains("there is no such bucket"), "{}", server.log());
    let dir = tokio::task::block_in_place(|| server.kill());

    s3.faults().set(Fault::None);
    let server = Server::start_in(dir, settings).await;
    assert!(server.log().contains("the bucket can be used"), "{}", server.log());
    let left = files_under(&s3.objects().join("some/prefix/probe"));
    assert!(left.is_empty(), "{left:?}");
}
