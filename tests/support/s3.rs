//! A real S3 server in this process: s3s over TCP, its objects in a directory.

use std::path::PathBuf;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::server::Settings;

const BUCKET: &str = "tidelog";
const ACCESS_KEY: &str = "test-access-key";
const SECRET_KEY: &str = "test-secret-key";

/// The server; its objects are gone when it is dropped.
#[derive(Debug)]
pub(crate) struct S3 {
    dir: TempDir,
    endpoint: String,
    task: JoinHandle<()>,
}

impl S3 {
    /// Starts with an empty bucket.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let http = Builder::new(TokioExecutor::new());
            while let Ok((socket, _)) = listener.accept().await {
                let connection = http.serve_connection(TokioIo::new(socket), service.clone()).into_owned();
                // A client that goes away is no failure of the test.
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self { dir, endpoint, task }
    }

    /// Settings of a Tidelog server whose bucket this is.
    pub(crate) fn settings(&self) -> Settings {
        Settings::default()
            .arg("--bucket")
            .arg(&self.url())
            .env("AWS_ENDPOINT", &self.endpoint)
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    }

    /// `s3://bucket/prefix`
    pub(crate) fn url(&self) -> String {
        format!("s3://{BUCKET}/some/prefix")
    }

    /// Where its objects are.
    pub(crate) fn objects(&self) -> PathBuf {
        self.dir.path().join(BUCKET)
    }

    /// From now on nobody answers.
    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}
