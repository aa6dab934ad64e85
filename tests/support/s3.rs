//! A real S3 server in this process: s3s over TCP, its objects in a directory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::S3Result;
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::binary::{Ran, command, ran};
use super::faults::Faults;
use super::server::Settings;

/// The only one that there is.
pub(crate) const BUCKET: &str = "tidelog";
const ACCESS_KEY: &str = "test-access-key";
const SECRET_KEY: &str = "test-secret-key";
/// Of what fails at random.
const SEED: u64 = 4711;

/// Who may call, and the access keys by which somebody did; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    secrets: BTreeMap<String, String>,
    used: Vec<String>,
}

impl Keys {
    /// From now on these alone are known, each with its secret.
    pub(crate) fn set<'a>(&self, keys: impl IntoIterator<Item = (&'a str, &'a str)>) {
        self.0.lock().unwrap().secrets =
            keys.into_iter().map(|(key, secret)| (key.to_owned(), secret.to_owned())).collect();
    }

    /// Whether there was a call by this key, which is known.
    pub(crate) fn used(&self, key: &str) -> bool {
        self.0.lock().unwrap().used.iter().any(|used| used == key)
    }
}

#[async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let mut state = self.0.lock().unwrap();
        let Some(secret) = state.secrets.get(access_key).cloned() else {
            return Err(s3s::s3_error!(InvalidAccessKeyId));
        };
        if state.used.last().is_none_or(|last| last != access_key) {
            state.used.push(access_key.to_owned());
        }
        Ok(SecretKey::from(secret))
    }
}

/// The server; its objects are gone when it is dropped.
#[derive(Debug)]
pub(crate) struct S3 {
    dir: TempDir,
    endpoint: String,
    faults: Faults,
    keys: Keys,
    task: JoinHandle<()>,
}

impl S3 {
    /// Starts with an empty bucket.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir.path()).unwrap());
        let keys = Keys::default();
        keys.set([(ACCESS_KEY, SECRET_KEY)]);
        builder.set_auth(keys.clone());
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let faults = Faults::new(SEED);
        let between = faults.clone();
        let task = tokio::spawn(async move {
            let http = Builder::new(TokioExecutor::new());
            while let Ok((socket, _)) = listener.accept().await {
                // An answer in two writes would wait 40 ms for the client's acknowledgement otherwise.
                let _ = socket.set_nodelay(true);
                let (service, between) = (service.clone(), between.clone());
                let service = service_fn(move |request| between.clone().call(service.clone(), request));
                let connection = http.serve_connection(TokioIo::new(socket), service).into_owned();
                // A client that goes away is no failure of the test.
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self { dir, endpoint, faults, keys, task }
    }

    /// What its calls meet.
    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Who may call.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Settings of a Tidelog server whose bucket this is, and which has no keys in its environment.
    pub(crate) fn settings_without_keys(&self) -> Settings {
        let settings = Settings::default().arg("--bucket").arg(&self.url());
        let environment = self.environment().into_iter().take(3);
        environment.fold(settings, |settings, (name, value)| settings.env(name, value))
    }

    /// Settings of a Tidelog server whose bucket this is.
    pub(crate) fn settings(&self) -> Settings {
        let settings = Settings::default().arg("--bucket").arg(&self.url());
        self.environment().into_iter().fold(settings, |settings, (name, value)| settings.env(name, value))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.endpoint.trim_start_matches("http://").parse().unwrap()
    }

    /// What `tidelog` needs in its environment to reach it.
    pub(crate) fn environment(&self) -> [(&'static str, &str); 5] {
        [
            ("AWS_ENDPOINT", &self.endpoint),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ]
    }

    /// `tidelog verify` of this bucket.
    pub(crate) async fn verify(&self) -> Ran {
        self.run(&["verify", "--bucket", &self.url()], &[]).await
    }

    /// Calls `tidelog` in the environment that this bucket needs, but for these variables.
    pub(crate) async fn run(&self, args: &[&str], but: &[(&str, &str)]) -> Ran {
        let mut command = command(args);
        command.envs(self.environment()).envs(but.iter().copied());
        ran(&tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
    }

    /// The same without some variables and with others.
    pub(crate) async fn run_without(&self, args: &[&str], without: &[&str], with: &[(&str, &str)]) -> Ran {
        let mut command = command(args);
        command.envs(self.environment().into_iter().filter(|(name, _)| !without.contains(name)));
        command.envs(with.iter().copied());
        ran(&tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
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
