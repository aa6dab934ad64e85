//! Credentials that are not in the environment: from a profile, and from a container's endpoint, renewed before they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::eventually;
use crate::support::http::Http;
use crate::support::s3::S3;
use crate::support::server::{Server, Settings};

/// What each set of credentials is good for; it is renewed when three quarters of it are over.
const LIFE: Duration = Duration::from_secs(8);

/// An endpoint such as a container has: the n-th answer is `key-n` with `secret-n`.
struct Container {
    url: String,
    asked: Arc<AtomicU64>,
}

impl Container {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/credentials", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                let service = service_fn(move |request: Request<Incoming>| {
                    let count = Arc::clone(&count);
                    async move { Ok::<_, std::convert::Infallible>(issue(&request, &count)) }
                });
                tokio::spawn(async move {
                    let http = Builder::new(TokioExecutor::new());
                    drop(http.serve_connection(TokioIo::new(socket), service).await);
                });
            }
        });
        Self { url, asked }
    }
}

fn issue(request: &Request<Incoming>, asked: &AtomicU64) -> Response<Full<Bytes>> {
    if request.uri().path() != "/credentials" || request.headers().get("authorization").is_none_or(|it| it != "token") {
        return Response::builder().status(403).body(Full::default()).unwrap();
    }
    let number = asked.fetch_add(1, Ordering::Relaxed) + 1;
    let end = humantime::format_rfc3339_seconds(SystemTime::now() + LIFE).to_string();
    let body = json!({
        "AccessKeyId": format!("key-{number}"),
        "SecretAccessKey": format!("secret-{number}"),
        "Token": "session",
        "Expiration": end,
    });
    Response::builder().header("content-type", "application/json").body(Full::from(body.to_string())).unwrap()
}

/// Settings of a process that finds nothing in its home.
fn homeless(s3: &S3, home: &std::path::Path) -> Settings {
    let home = home.to_str().unwrap();
    s3.settings_without_keys().env("HOME", home).env("AWS_EC2_METADATA_DISABLED", "true")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_of_a_container_are_renewed_before_they_end() {
    let (s3, container, home) = (S3::start().await, Container::start().await, tempfile::tempdir().unwrap());
    s3.keys().set([("key-1", "secret-1"), ("key-2", "secret-2")]);
    let settings = homeless(&s3, home.path())
        .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container.url)
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token");
    let server = Server::start_with(settings).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    let flush = async || {
        http.produce("t", &json!([{"text": "x"}])).await.expect(200);
        http.flush("t", false).await;
    };
    flush().await;
    assert!(s3.keys().used("key-1") && !s3.keys().used("key-2"));
    let metrics = String::from_utf8(http.get("/metrics").await.body).unwrap();
    let line = metrics.lines().find(|line| line.starts_with("tidelog_bucket_credentials_expiry_timestamp_seconds"));
    let expiry: f64 = line.and_then(|line| line.split(' ').next_back()).unwrap().parse().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!(expiry > now - LIFE.as_secs_f64() && expiry < now + LIFE.as_secs_f64() + 1.0, "{expiry} at {now}");

    eventually("a call under new credentials", || async {
        flush().await;
        s3.keys().used("key-2").then_some(())
    })
    .await;
    assert!(container.asked.load(Ordering::Relaxed) >= 2);
    assert!(!server.log().contains("could not be renewed"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_has_keys_and_a_region_and_nothing_is_told_in_one_sentence() {
    let (s3, home) = (S3::start().await, tempfile::tempdir().unwrap());
    s3.keys().set([("profile-key", "profile-secret")]);
    let (credentials, config) = (home.path().join("credentials"), home.path().join("config"));
    std::fs::write(&credentials, "[tide]\naws_access_key_id = profile-key\naws_secret_access_key = profile-secret\n")
        .unwrap();
    std::fs::write(&config, "[profile tide]\nregion = eu-central-1\n").unwrap();
    let (credentials, config) = (credentials.to_str().unwrap(), config.to_str().unwrap());
    let url = s3.url();
    let check = ["bucket", "check", "--quick", "--bucket", url.as_str()];
    let (home, none) = (home.path().to_str().unwrap(), ("AWS_EC2_METADATA_DISABLED", "true"));
    let files = [("AWS_SHARED_CREDENTIALS_FILE", credentials), ("AWS_CONFIG_FILE", config)];
    let environment = [&files[..], &[("AWS_PROFILE", "tide"), ("HOME", home), none]].concat();
    let said = s3.run_without(&check, &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"], &environment);
    said.await.ok();
    assert!(s3.keys().used("profile-key"));

    let said = s3.run_without(&check, &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], &[("HOME", home), none]).await;
    let said = said.failed(1);
    assert!(said.contains("no credentials are found"), "{said}");
}
