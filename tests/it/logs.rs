//! Log lines: whatever is written while a request is answered names it, in both formats.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::binary::run;
use crate::support::eventually;
use crate::support::http::{Http, send};
use crate::support::server::{Server, Settings};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The line about a request that failed as a defect would.
async fn line_of_a_failure(format: &str) -> String {
    let settings = Settings::default().env("TIDELOG_FAILPOINTS", "produce.assigned=error@1").arg("--log-format");
    let server = Server::start_with(settings.arg(format)).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    let request = http.request(Method::POST, "/v1/topics/t/records").header("content-type", "application/json");
    let request = request.header("x-request-id", "r\"7").header("traceparent", TRACE);
    send(request.body(json!({"records": [{"value": "secret"}]}).to_string())).await.error(500, "internal");
    let line = eventually("the line", || async {
        server.log().lines().find(|line| line.contains("request failed")).map(str::to_owned)
    })
    .await;
    assert!(!server.log().contains("secret"), "{}", server.log());
    line
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_name_the_request_that_was_being_answered() {
    let line = line_of_a_failure("text").await;
    assert!(line.contains("ERROR") && line.contains("produce.assigned"), "{line}");
    assert!(line.ends_with(&format!(" request_id=r\"7 traceparent={TRACE}")), "{line}");

    let line = line_of_a_failure("json").await;
    let parsed: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!((&parsed["request_id"], &parsed["traceparent"]), (&json!("r\"7"), &json!(TRACE)));
    assert_eq!((&parsed["level"], &parsed["message"]), (&json!("ERROR"), &json!("request failed")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_access_log_has_routes_and_codes_and_neither_keys_nor_values() {
    let server = Server::start_with(Settings::default().set("log.sample", "1.0")).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    run(server.url(), &["admin", "log-level", "trace"]).ok();
    let produce = |path: &str, name: &'static str| {
        let request = http.request(Method::POST, path).header("content-type", "application/octet-stream");
        request.header("x-request-id", name).header("idempotency-key", "secret-once").body("secret-value")
    };
    send(produce("/v1/topics/t/records?key=secret-key", "taken")).await.expect(200);
    send(produce("/v1/topics/t/records?key=secret-key&acks=object&timeout_ms=0", "late")).await.expect(504);
    let access = async |name: &str| {
        eventually("the line", || async {
            let mut lines = server.log().lines().map(str::to_owned).collect::<Vec<_>>();
            lines.retain(|line| line.contains("access") && line.contains(&format!("request_id={name}")));
            lines.pop()
        })
        .await
    };
    let (taken, late) = (access("taken").await, access("late").await);
    assert!(taken.contains("route=/v1/topics/{topic}/records") && taken.contains("status=200"), "{taken}");
    assert!(!taken.contains("code="), "{taken}");
    assert!(late.contains("status=504") && late.contains("code=\""), "{late}");
    assert!(!server.log().contains("secret"), "{}", server.log());
}
