//! Where the objects of a line go: the S3 server of the tests or the one that the environment names, behind a proxy in any case.

use std::process::Command;
use std::time::Duration;

use super::support::binary::{Ran, command, ran};
use super::support::far::{Calls, Does, Far, Injected};
use super::support::s3::{BUCKET, S3};
use super::support::server::Settings;

const ENDPOINT: &str = "TIDELOG_TEST_S3_ENDPOINT";
const BUCKET_NAME: &str = "TIDELOG_TEST_S3_BUCKET";
/// What is added to each call by the lines that ask for it.
pub(crate) const DELAY: Duration = Duration::from_millis(50);
/// The share of the calls that fail then.
const ERRORS: f64 = 0.01;

/// A bucket.
#[derive(Debug)]
pub(crate) struct Place {
    far: Far,
    url: String,
    environment: Vec<(String, String)>,
    /// Its objects are gone with it.
    _own: Option<S3>,
}

impl Place {
    /// A prefix that nobody has written to.
    pub(crate) async fn open() -> Self {
        // Short: the S3 server of the tests keeps an upload in parts in a file whose name is the whole key in base64.
        let prefix = format!("s3-bench-{:06x}", rand::random::<u32>() >> 8);
        if let Ok(endpoint) = std::env::var(ENDPOINT) {
            let place = endpoint.strip_prefix("http://").expect("an endpoint of plain HTTP");
            let place = place.trim_end_matches('/');
            let address = if place.contains(':') { place.to_owned() } else { format!("{place}:80") };
            let address = tokio::net::lookup_host(address).await.unwrap().next().expect("an address of the endpoint");
            let bucket = std::env::var(BUCKET_NAME).unwrap_or_else(|_| BUCKET.to_owned());
            let given = std::env::vars().filter(|(name, _)| name.starts_with("AWS_"));
            return Self::behind(Far::before(address).await, &bucket, &prefix, (given.collect(), None));
        }
        let own = S3::start().await;
        let given = own.environment().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let given = given.into_iter().collect();
        Self::behind(Far::before(own.address()).await, BUCKET, &prefix, (given, Some(own)))
    }

    fn behind(far: Far, bucket: &str, prefix: &str, (given, own): (Vec<(String, String)>, Option<S3>)) -> Self {
        let mut environment: Vec<_> = given.into_iter().filter(|(name, _)| !name.contains("ENDPOINT")).collect();
        environment.push(("AWS_ENDPOINT_URL".to_owned(), far.url()));
        environment.push(("AWS_ALLOW_HTTP".to_owned(), "true".to_owned()));
        Self { far, url: format!("s3://{bucket}/{prefix}"), environment, _own: own }
    }

    /// `s3://bucket/prefix`
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Of a server whose bucket this is. Its connections are kept, as those of other benchmarks are.
    pub(crate) fn settings(&self) -> Settings {
        let settings = Settings::default().arg("--bucket").arg(&self.url).set("http.max_connection_age", "0s");
        self.environment.iter().fold(settings, |settings, (name, value)| settings.env(name, value))
    }

    /// Has a command reach the bucket.
    pub(crate) fn reach(&self, command: &mut Command) {
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
    }

    /// Calls `tidelog` without a server.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let mut command = command(args);
        self.reach(&mut command);
        ran(&tokio::task::block_in_place(|| command.output().unwrap()))
    }

    /// From now on it is far away and fails now and then, or not.
    pub(crate) fn set_far(&self, far: bool) {
        self.far.inject(if far { Injected { delay: DELAY, errors: ERRORS } } else { Injected::default() });
    }

    /// How many calls failed because they were to.
    pub(crate) fn failed(&self) -> u64 {
        self.far.calls().1
    }

    /// The calls that came so far.
    pub(crate) fn calls(&self) -> Calls {
        self.far.calls().0
    }
}

/// How many calls do this to one of these kinds of objects, of all those that came since `before`.
pub(crate) fn since(now: &Calls, before: &Calls, does: Does, kinds: &[&str]) -> u64 {
    let count = |calls: &Calls| -> u64 {
        calls.iter().filter(|((did, kind), _)| *did == does && kinds.contains(kind)).map(|(_, count)| count).sum()
    };
    count(now) - count(before)
}
