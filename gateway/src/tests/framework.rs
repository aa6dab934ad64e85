//! What every route has in common: error bodies, ids, caching, compression, CORS, limits.

use std::io::Read as _;

use super::*;

#[tokio::test]
async fn rejections_of_the_framework_have_the_one_body() {
    let gateway = Gateway::start().await;
    gateway.get("/nowhere").await.error(404, "route_not_found");
    gateway.get("/v1/topics/t/nowhere").await.error(404, "route_not_found");
    let wrong_method = gateway.json(Method::DELETE, "/v1/topics", &json!({})).await;
    wrong_method.error(405, "method_not_allowed");
    assert!(wrong_method.header("allow").contains("GET"));
    let no_verb = gateway.json(Method::POST, "/v1/topics/t", &json!({})).await;
    no_verb.error(405, "method_not_allowed");
    assert!(no_verb.header("allow").contains("PUT"));
    gateway.json(Method::POST, "/v1/topics/t:explode", &json!({})).await.error(404, "route_not_found");
    gateway.json(Method::POST, "/v1/admin/jobs/flush:explode", &json!({})).await.error(404, "route_not_found");
    gateway.get("/v1/topics/%ff").await.error(400, "invalid_parameter");
    gateway.get("/v1/topics?limit=x").await.error(400, "invalid_parameter");
    gateway.get("/v1/producers").await.error(400, "invalid_parameter");
    let path = "/v1/topics/t/partitions/99999999999/records";
    gateway.get(path).await.error(400, "invalid_parameter");
    let accept = request(Method::GET, "/v1/status").header("accept", "image/png").body(Body::empty()).unwrap();
    gateway.send(accept).await.error(406, "not_acceptable");
    gateway.json(Method::PUT, "/v1/admin/log-level", &json!({"filter": "?"})).await.error(422, "invalid_request");
    gateway.json(Method::PUT, "/v1/topics/t", &json!(["positional"])).await.error(422, "invalid_request");
}

#[tokio::test]
async fn outcomes_are_told_of_writes_and_not_of_reads() {
    let gateway = Gateway::start().await;
    let read = gateway.get("/v1/topics/none").await.error(404, "topic_not_found");
    assert!(read.get("outcome").is_none());
    let write = gateway.json(Method::POST, "/v1/topics/none/records", &json!({"records": [{"value": 1}]})).await;
    let write = write.error(404, "topic_not_found");
    assert_eq!(write["outcome"], "not_written");
    assert!(write["message"].as_str().unwrap().contains("tidelog topic create none"));
}

#[tokio::test]
async fn requests_are_named_and_answers_not_stored() {
    let gateway = Gateway::start().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let sent = request(Method::GET, "/healthz").header("x-request-id", "r-1").header("traceparent", trace);
    let answer = gateway.send(sent.body(Body::empty()).unwrap()).await;
    assert_eq!((answer.header("x-request-id"), answer.header("traceparent")), ("r-1", trace));
    assert_eq!(answer.header("cache-control"), "no-store");
    let made = gateway.get("/healthz").await;
    assert!(made.header("x-request-id").len() == 32 && made.header("traceparent").len() == 55);
}

#[tokio::test]
async fn foreign_hosts_origins_and_oversized_heads_are_refused() {
    let gateway = Gateway::start().await;
    let with = |name: &str, value: &str| {
        let mut sent = request(Method::GET, "/healthz").body(Body::empty()).unwrap();
        sent.headers_mut().insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        sent
    };
    gateway.send(with("host", "rebound.example:7070")).await.error(421, "misdirected_request");
    gateway.send(with("origin", "https://evil.example")).await.error(403, "forbidden_origin");
    gateway.send(with("cookie", &"x".repeat(40_000))).await.error(431, "headers_too_large");
    gateway.send(with("origin", "http://localhost:3000")).await.expect(200);
    // Reachable from elsewhere on purpose: names are not looked at.
    let open = Gateway::with(|config| config.http.listen = ([0, 0, 0, 0], 0).into()).await;
    open.send(with("host", "queue.example")).await.expect(200);
}

#[tokio::test]
async fn cross_origin_calls_are_off_unless_listed() {
    let listed = Gateway::with(|config| config.http.cors_origins = vec!["https://a.example".to_owned()]).await;
    let preflight = |origin: &str| {
        let sent = request(Method::OPTIONS, "/v1/topics").header("origin", origin);
        sent.header("access-control-request-method", "POST").body(Body::empty()).unwrap()
    };
    let answer = listed.send(preflight("https://a.example")).await;
    assert_eq!(answer.header("access-control-allow-origin"), "https://a.example");
    assert_eq!(listed.send(preflight("https://b.example")).await.header("access-control-allow-origin"), "");
    let sent = request(Method::GET, "/v1/topics").header("origin", "https://a.example").body(Body::empty()).unwrap();
    let answer = listed.send(sent).await;
    assert!(answer.header("access-control-expose-headers").contains("tidelog-next-offset"));
    let off = Gateway::start().await;
    assert_eq!(off.send(preflight("https://a.example")).await.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn large_answers_are_compressed_as_the_client_accepts() {
    let gateway = Gateway::start().await;
    gateway.fill(1, 500).await;
    let path = "/v1/topics/t/partitions/0/records";
    let plain = gateway.get(path).await;
    assert_eq!(plain.header("content-encoding"), "");
    let ask = |encoding: &str, accept: &str| {
        request(Method::GET, path)
            .header("accept-encoding", encoding)
            .header("accept", accept)
            .body(Body::empty())
            .unwrap()
    };
    let zipped = gateway.send(ask("gzip", "application/json")).await;
    assert_eq!(zipped.header("content-encoding"), "gzip");
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&zipped.body[..]).read_to_end(&mut text).unwrap();
    assert_eq!(text, plain.body);
    let packed = gateway.send(ask("zstd", "application/x-ndjson")).await;
    assert_eq!(packed.header("content-encoding"), "zstd");
    assert_eq!(zstd::decode_all(&packed.body[..]).unwrap().split(|byte| *byte == b'\n').count(), 501);
    let batches = gateway.send(ask("gzip", "application/vnd.tidelog.batch")).await;
    assert_eq!(batches.header("content-encoding"), "");
    let small = request(Method::GET, "/healthz").header("accept-encoding", "gzip").body(Body::empty()).unwrap();
    assert_eq!(gateway.send(small).await.header("content-encoding"), "");
}

#[tokio::test]
async fn the_description_is_served() {
    let gateway = Gateway::start().await;
    let document = gateway.get("/v1/openapi.json").await.expect(200);
    assert!(document["paths"]["/v1/topics/{topic}:flush"]["post"].is_object());
    assert_eq!(gateway.get("/metrics").await.body, "tidelog_up 1\n");
}
