//! Pages, cursors, readiness and the way down, through the router; and the server over TCP.

use tidelog::config::Role;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::Server;

#[tokio::test]
async fn raw_batches_and_lines_carry_their_bounds() {
    let gateway = Gateway::start().await;
    gateway.fill(1, 5).await;
    let ask = |accept: &str| {
        let sent = request(Method::GET, "/v1/topics/t/partitions/0/records?offset=2&max_records=2");
        sent.header("accept", accept).body(Body::empty()).unwrap()
    };
    let lines = gateway.send(ask("application/x-ndjson")).await;
    assert_eq!((lines.header("tidelog-next-offset"), lines.header("tidelog-high-watermark")), ("4", "5"));
    assert_eq!(lines.body.iter().filter(|byte| **byte == b'\n').count(), 2);
    let batches = gateway.send(ask("application/vnd.tidelog.batch")).await;
    // One request became one batch, which is whole, from its own first offset.
    assert_eq!((batches.header("tidelog-next-offset"), &batches.body[..8]), ("5", &[0; 8][..]));
    assert_eq!(batches.header("content-length"), batches.body.len().to_string());
}

#[tokio::test]
async fn cursors_go_through_all_partitions_and_take_up_new_ones() {
    let gateway = Gateway::start().await;
    gateway.fill(3, 4).await;
    let mut seen = 0;
    let mut path = "/v1/topics/t/records?max_records=5".to_owned();
    for _ in 0..3 {
        let page = gateway.get(&path).await.expect(200);
        seen += page["records"].as_array().unwrap().len();
        path = format!("/v1/topics/t/records?max_records=5&cursor={}", page["next_cursor"].as_str().unwrap());
    }
    assert_eq!(seen, 12);
    let grown = json!({"partitions": 4, "rekey": true});
    gateway.json(Method::PATCH, "/v1/topics/t", &grown).await.expect(200);
    let body = json!({"records": [{"text": "new", "partition": 3}]});
    gateway.json(Method::POST, "/v1/topics/t/records", &body).await.expect(200);
    let page = gateway.get(&path).await.expect(200);
    assert_eq!((&page["records"][0]["partition"], &page["records"][0]["text"]), (&json!(3), &json!("new")));
    assert_eq!(page["partitions"].as_array().unwrap().len(), 4);
    let chosen = gateway.get("/v1/topics/t/records?partitions=1-2").await.expect(200);
    assert_eq!(chosen["records"].as_array().unwrap().len(), 8);
    gateway.get("/v1/topics/t/records?partitions=9").await.error(404, "partition_not_found");
}

#[tokio::test]
async fn conditional_ranges_are_answered_without_a_body_once_held() {
    let gateway = Gateway::start().await;
    gateway.fill(1, 5).await;
    gateway.json(Method::POST, "/v1/topics/t:flush?wait_ms=60000", &json!({})).await.expect(200);
    let id = gateway.get("/v1/topics/t").await.expect(200)["topic_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/topics/t/partitions/0/records?topic_id={id}&offset=1&end=4");
    let first = gateway.get(&path).await;
    assert_eq!(first.expect(200)["records"].as_array().unwrap().len(), 3);
    assert!(first.header("vary").to_lowercase().contains("authorization"));
    let again = request(Method::GET, &path).header("if-none-match", first.header("etag")).body(Body::empty()).unwrap();
    let again = gateway.send(again).await;
    assert_eq!((again.head.status.as_u16(), again.body.len()), (304, 0));
    let other = request(Method::GET, &format!("{path}&values=base64")).header("if-none-match", first.header("etag"));
    assert_eq!(gateway.send(other.body(Body::empty()).unwrap()).await.head.status, 200);
}

#[tokio::test]
async fn what_was_used_and_its_price_are_told_by_task_and_topic() {
    let gateway = Gateway::start().await;
    gateway.fill(1, 5).await;
    gateway.json(Method::POST, "/v1/topics/t:flush?wait_ms=60000", &json!({})).await.expect(200);
    let cost = gateway.get("/v1/cost").await.expect(200);
    let stored = cost["stored"]["bytes"].as_u64().unwrap();
    let month = stored as f64 / 1024.0_f64.powi(3) * cost["prices"]["stored_per_gib_month"].as_f64().unwrap();
    assert!(stored > 0 && (cost["stored"]["price_per_month"].as_f64().unwrap() - month).abs() < 1e-12, "{cost}");
    assert_eq!(cost["currency"], "USD");
    let jobs: Vec<_> = cost["jobs"].as_array().unwrap().iter().map(|job| job["job"].as_str().unwrap()).collect();
    assert_eq!(jobs, ["flush", "archive", "fetch", "gc", "other"]);
    gateway.get("/v1/cost?since=1").await.error(400, "invalid_parameter");
}

#[tokio::test]
async fn a_drain_turns_not_ready_and_ends_long_polls() {
    let gateway = Gateway::start().await;
    gateway.fill(1, 1).await;
    gateway.get("/readyz").await.expect(200);
    gateway.lifecycle.begin_drain();
    gateway.get("/readyz").await.error(503, "unavailable");
    gateway.get("/healthz").await.expect(200);
    // Both are cut short by the end of waits, whichever comes first.
    let one = gateway.get("/v1/topics/t/partitions/0/records?offset=1&wait_ms=30000");
    let all = gateway.get("/v1/topics/t/records?from=latest&wait_ms=30000");
    let drain = async { gateway.lifecycle.end_waits() };
    let (one, all, ()) = tokio::join!(one, all, drain);
    assert_eq!(one.expect(200)["records"], json!([]));
    assert_eq!(all.expect(200)["records"], json!([]));
}

#[tokio::test]
async fn the_server_answers_a_refused_upload_and_shuts_down() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let options = tidelog::queue::Options { config: config.clone(), clock: Clock::system(), restore: false };
    let queue = Queue::open(options).await.unwrap();
    let server = Server::start(&config, queue.clone(), Arc::new(NoHooks)).await.unwrap();
    let mut stream = TcpStream::connect(server.local_addr().unwrap()).await.unwrap();
    let length = (16 << 20) + 1;
    let head = format!(
        "POST /v1/topics/t/records HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // A client that writes all before it reads gets its answer all the same.
    stream.write_all(&vec![b' '; length]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"), "{answer}");
    let address = server.local_addr().unwrap();
    assert!(server.shutdown(Duration::from_secs(30)).await);
    assert!(TcpStream::connect(address).await.is_err());
    queue.shutdown().await;
}

/// Says when the process was to end.
#[derive(Default)]
struct Ending(tokio::sync::Notify);

impl AdminHooks for Ending {
    fn set_log_filter(&self, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn render_metrics(&self) -> String {
        String::new()
    }

    fn stop(&self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn a_cluster_is_stopped_though_who_asked_is_gone() {
    let gateway = Gateway::start().await;
    let hooks = Arc::new(Ending::default());
    let config = gateway.queue.config().clone();
    let app = App::new(gateway.queue.clone(), config, hooks.clone(), 1, Lifecycle::default());
    let stop = request(Method::POST, "/v1/admin/stop").body(Body::empty()).unwrap();
    let asked = front::gateway(app.on(Listener::Admin)).answer(stop);
    assert!(futures::FutureExt::now_or_never(asked).is_none(), "it takes longer than its client listens");
    // Without an end of the process this would be for ever.
    tokio::time::timeout(Duration::from_secs(60), hooks.0.notified()).await.unwrap();
    assert!(gateway.queue.status().closed);
}

#[tokio::test]
async fn a_process_without_the_role_gateway_answers_operators_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.cluster.roles = vec![Role::Wal];
    config.admin.listen = Some(([127, 0, 0, 1], 0).into());
    let options = tidelog::queue::Options { config: config.clone(), clock: Clock::system(), restore: false };
    let queue = Queue::open(options).await.unwrap();
    let server = Server::start(&config, queue.clone(), Arc::new(NoHooks)).await.unwrap();
    assert_eq!(server.local_addr(), None);
    let get = async |path: &str| {
        let mut stream = TcpStream::connect(server.admin_addr().unwrap()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let ready = get("/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let topics = get("/v1/topics").await;
    assert!(topics.starts_with("HTTP/1.1 404") && topics.contains("http.listen"), "{topics}");
    assert!(server.shutdown(Duration::from_secs(30)).await);
    queue.shutdown().await;
}
