//! Clients that do not read, do not send, or do nothing at all: they hold little, and nobody else waits for them.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::eventually;
use crate::support::http::{Http, send};
use crate::support::process::Process;
use crate::support::server::{Server, Settings};

const MIB: u64 = 1 << 20;

/// A connection with a small window, so that the kernel does not read for a client that does not.
async fn connect(server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    socket.connect(server.address().parse().unwrap()).await.unwrap()
}

/// What the server says until it closes the connection.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end as well; what came before it counts.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn produce_bytes(http: &Http, bytes: usize) {
    let mut value = vec![0; bytes];
    rand::Rng::fill(&mut rand::rng(), value.as_mut_slice());
    let request = http.request(Method::POST, "/v1/topics/t/partitions/0/records");
    send(request.header("content-type", "application/octet-stream").body(value)).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_do_not_read_hold_the_budget_at_most_and_block_nobody() {
    const READERS: usize = 40;
    let settings = Settings::default()
        .set("flush.interval", "1h")
        .set("fetch.memory", "64MiB")
        .set("cache.memory", "8MiB")
        .set("tail.memory", "8MiB")
        .set("cache.disk", "0B");
    let server = Server::start_with(settings).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"compression": "none"})).await;
    for _ in 0..20 {
        produce_bytes(&http, 500 << 10).await;
    }
    http.flush("t", false).await;
    produce_bytes(&http, 100).await;
    let process = Process::of(server.id());
    let before = process.resident();

    // Each answer is of more than 10 MiB: all of them would be 400 MiB, and the pages below them 320 MiB more.
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = connect(&server).await;
        let path = "/v1/topics/t/partitions/0/records?offset=0&max_bytes=8388608&values=base64";
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        reader.write_all(head.as_bytes()).await.unwrap();
        readers.push(reader);
    }
    let watched = process.clone();
    let most = std::sync::atomic::AtomicU64::new(0);
    let sample = || most.fetch_max(watched.resident(), std::sync::atomic::Ordering::Relaxed);
    for _ in 0..20 {
        // The tail is read as ever.
        let page = http.get("/v1/topics/t/partitions/0/records?tail=1").await.expect(200);
        assert_eq!(page["records"].as_array().unwrap().len(), 1);
        sample();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // So is the bucket, once those who do not read were cut off.
    eventually("a page out of the bucket", || async {
        sample();
        let answer = http.get("/v1/topics/t/partitions/0/records?offset=0&max_records=1").await;
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        (answer.status == 200).then_some(())
    })
    .await;
    let most = most.into_inner();
    println!("resident: {} MiB, then {} MiB at most", before / MIB, most / MIB);
    assert!(most < before + 64 * MIB + 100 * MIB, "{before}, then {most}");
    drop(readers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_do_not_arrive_hold_little_and_are_ended() {
    let settings = Settings::default()
        .set("http.max_body", "4MiB")
        .set("http.body_memory", "8MiB")
        .set("produce.memory", "8MiB")
        .set("http.read_timeout", "2s");
    let server = Server::start_with(settings).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    // Ten times what all bodies may hold.
    let mut writers = Vec::new();
    for _ in 0..20 {
        let mut writer = connect(&server).await;
        let head = "POST /v1/topics/t/partitions/0/records HTTP/1.1\r\nhost: localhost\r\n\
                    content-type: application/octet-stream\r\ncontent-length: 4194304\r\n\r\n";
        writer.write_all(head.as_bytes()).await.unwrap();
        writer.write_all(&[b'x'; 1_000]).await.unwrap();
        writers.push(writer);
    }
    for _ in 0..20 {
        // Each is answered, and at once or after a moment: never refused for want of memory.
        produce_bytes(&http, 200 << 10).await;
    }
    for writer in writers {
        let answer = rest(writer).await;
        assert!(answer.contains(" 408 ") && answer.contains("request_timeout"), "{answer}");
        assert!(answer.contains("\"outcome\":\"not_written\""), "{answer}");
    }
    // One that always sends a little is not waited for either.
    let mut trickle = connect(&server).await;
    let head = "POST /v1/topics/t/partitions/0/records HTTP/1.1\r\nhost: localhost\r\n\
                content-type: application/octet-stream\r\ncontent-length: 4194304\r\n\r\n";
    trickle.write_all(head.as_bytes()).await.unwrap();
    eventually("the end of a trickle", || {
        let written = trickle.try_write(b"x").is_err();
        async move { written.then_some(()) }
    })
    .await;
    let description = http.get("/v1/topics/t").await.expect(200);
    assert_eq!(description["partitions"][0]["high_watermark"], 20, "nothing of them was written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_give_their_places_back() {
    let settings = Settings::default().set("http.max_connections", "16").set("http.read_timeout", "1s");
    let server = Server::start_with(settings).await;
    let mut idle = Vec::new();
    for said in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n",
        "GET / HTTP/1.1\r\nhost: loc",
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ] {
        // Four times as many as there are places.
        for _ in 0..13 {
            let mut stream = connect(&server).await;
            stream.write_all(said.as_bytes()).await.unwrap();
            idle.push(stream);
        }
    }
    // Whoever comes after all of them waits for a place, and gets one.
    let answer = tokio::time::timeout(crate::support::DEADLINE, Http::new(server.url()).get("/readyz")).await;
    answer.expect("a place").expect(200);
    for stream in idle {
        let end = tokio::time::timeout(crate::support::DEADLINE, rest(stream)).await;
        end.expect("each of them is closed");
    }
}
