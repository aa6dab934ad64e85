//! The bucket on a real S3 server: through every tier, restart without it, start from it alone.

use serde_json::{Value, json};

use crate::support::binary::command;
use crate::support::http::Http;
use crate::support::s3::S3;
use crate::support::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tier_and_a_second_life_on_s3() {
    let s3 = S3::start().await;
    let server = Server::start_with(s3.settings().set("flush.interval", "200ms")).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"value_format": "json"})).await;
    for n in 0..3 {
        http.produce("t", &json!([{"value": {"n": n}}])).await.expect(200);
        if n < 2 {
            http.flush("t", n == 0).await;
        }
    }
    assert!(s3.objects().join("some/prefix/cluster.json").exists(), "objects are below the prefix");
    let files = http.get("/v1/topics/t/archive").await.expect(200);
    assert!(files["files"][0]["url"].as_str().unwrap().starts_with(&s3.url()), "{files}");
    let server = server.kill_and_restart().await;
    assert_eq!(values(&Http::new(server.url())).await, [0, 1, 2]);
    let (status, _dir) = server.terminate();
    assert!(status.success());

    let server = Server::start_with(s3.settings()).await;
    let http = Http::new(server.url());
    assert_eq!(values(&http).await, [0, 1, 2]);
    http.produce("t", &json!([{"value": {"n": 3}}])).await.expect(200);
    let status = http.get("/v1/status").await.expect(200);
    assert_eq!(status["incarnation"], 2);
    assert!(!status.to_string().contains("test-secret-key"));
}

async fn values(http: &Http) -> Vec<u64> {
    http.fetch_all("t", 0, "").await.iter().map(|record: &Value| record["value"]["n"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_nobody_answers_for_is_an_error_that_says_so() {
    let s3 = S3::start().await;
    s3.stop();
    let dir = tempfile::tempdir().unwrap();
    let mut serve =
        command(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "none", "--bucket", &s3.url(), "--data-dir"]);
    serve.arg(dir.path().join("data"));
    serve.env("AWS_ENDPOINT", "http://127.0.0.1:1").env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "us-east-1");
    serve.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b").env("TIDELOG__STORE__DEADLINE", "2s");
    serve.env("TIDELOG__STORE__ATTEMPT_TIMEOUT", "1s");
    let output = tokio::task::spawn_blocking(move || serve.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("bucket"), "{message}");
}
