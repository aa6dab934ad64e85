//! Whether a bucket can be used, told in one sentence, and how fast it is.
//!
//! The probe writes, reads, lists and deletes one small object under `probe/`, which no other part of Tidelog looks at, so
//! that each right that a server needs is tried. What an S3 store answers is sorted by its error code; what it says itself
//! goes to the log.

use std::error::Error as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use super::Bucket;
use crate::error::{Error, Result};

/// Objects of the probe; the name says who may delete what a killed one left.
const PREFIX: &str = "probe";
/// A step of the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Write,
    Read,
    List,
    Delete,
}

impl Step {
    const fn verb(self) -> &'static str {
        match self {
            Self::Write => "written",
            Self::Read => "read",
            Self::List => "listed",
            Self::Delete => "deleted",
        }
    }

    /// What S3's policies call the right to do it.
    const fn right(self) -> &'static str {
        match self {
            Self::Write => "s3:PutObject",
            Self::Read => "s3:GetObject",
            Self::List => "s3:ListBucket",
            Self::Delete => "s3:DeleteObject",
        }
    }
}

/// How long calls took for one size of object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Bytes of each object.
    pub bytes: usize,
    /// Each PUT, ascending.
    pub put: Vec<Duration>,
    /// Each GET, ascending.
    pub get: Vec<Duration>,
}

impl Bucket {
    /// Writes, reads, lists and deletes an object.
    ///
    /// # Errors
    /// `unavailable`, with one sentence that says what is wrong.
    pub async fn probe(&self) -> Result<()> {
        let (path, content) = object(64);
        self.step(Step::Write, &path, &content).await?;
        let found = async {
            self.step(Step::Read, &path, &content).await?;
            self.step(Step::List, &path, &content).await
        };
        let found = found.await;
        // Whatever was found: nothing is to be left of it.
        let deleted = self.step(Step::Delete, &path, &content).await;
        found.and(deleted)
    }

    async fn step(&self, step: Step, path: &Path, content: &Bytes) -> Result<()> {
        let store = self.object_store();
        let done = match step {
            Step::Write => store.put(path, content.clone().into()).await.map(|_| ()),
            Step::Read => self.reads(path, content).await?,
            Step::List => self.lists(path).await?,
            Step::Delete => store.delete(path).await,
        };
        done.map_err(|error| {
            let what = explain(&error, step.right());
            // The sentence says it; the store's own words are several lines of XML.
            tracing::debug!(%error, "the bucket's answer to the probe");
            Error::unavailable(format!("bucket {} cannot be {}: {what}", self.url(), step.verb()))
        })
    }

    async fn reads(&self, path: &Path, content: &Bytes) -> Result<object_store::Result<()>> {
        let read = async { self.object_store().get(path).await?.bytes().await }.await;
        match read {
            Ok(read) if read != *content => {
                Err(Error::unavailable(format!("bucket {} answers with other bytes than were written", self.url())))
            }
            read => Ok(read.map(|_| ())),
        }
    }

    async fn lists(&self, path: &Path) -> Result<object_store::Result<()>> {
        let mut listing = self.object_store().list(Some(&Path::from(PREFIX)));
        while let Some(listed) = listing.next().await {
            match listed {
                Ok(listed) if listed.location == *path => return Ok(Ok(())),
                Ok(_) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        Err(Error::unavailable(format!("bucket {} does not list what was just written", self.url())))
    }

    /// Times `rounds` PUTs and GETs, one after another, of objects of `bytes`, and deletes them.
    ///
    /// # Errors
    /// The first call that failed.
    pub async fn time(&self, bytes: usize, rounds: usize) -> Result<Timing> {
        let store = self.object_store();
        let mut timing = Timing { bytes, put: Vec::with_capacity(rounds), get: Vec::with_capacity(rounds) };
        for _ in 0..rounds {
            let (path, content) = object(bytes);
            let timed = async {
                let begun = Instant::now();
                store.put(&path, content.into()).await?;
                timing.put.push(begun.elapsed());
                let begun = Instant::now();
                store.get(&path).await?.bytes().await?;
                timing.get.push(begun.elapsed());
                object_store::Result::Ok(())
            };
            let timed = timed.await;
            let deleted = store.delete(&path).await;
            let failed =
                |error| Error::unavailable(format!("bucket {} failed while timed", self.url())).with_source(error);
            timed.and(deleted).map_err(failed)?;
        }
        timing.put.sort_unstable();
        timing.get.sort_unstable();
        Ok(timing)
    }
}

/// A name that nobody else has, and bytes that do not compress.
fn object(bytes: usize) -> (Path, Bytes) {
    let name = Uuid::new_v4();
    // xorshift: 16 MiB of it take milliseconds.
    let mut seed = u64::from_le_bytes(name.as_bytes()[..8].try_into().unwrap_or([1; 8])) | 1;
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        content.extend_from_slice(&seed.to_le_bytes());
    }
    content.truncate(bytes);
    (Path::from(format!("{PREFIX}/{name}")), content.into())
}

/// What is wrong and what to do about it; `right` is what the step needs.
fn explain(error: &object_store::Error, right: &str) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        said.push_str(": ");
        said.push_str(&cause.to_string());
        source = cause.source();
    }
    if let Some(known) = KNOWN.iter().find(|known| known.signs.iter().any(|sign| said.contains(sign))) {
        return known.means.replace("{right}", right);
    }
    match error {
        object_store::Error::PermissionDenied { .. } => DENIED.replace("{right}", right),
        object_store::Error::Unauthenticated { .. } => UNKNOWN_KEY.to_owned(),
        _ => said,
    }
}

/// What is said by an error that has one of these in it.
struct Known {
    signs: &'static [&'static str],
    means: &'static str,
}

const DENIED: &str = "access is denied: the credentials lack {right} on this bucket and prefix";
const UNKNOWN_KEY: &str = "the store does not know the access key: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

/// In this order: an answer about the clock also says that access is denied. The codes are those of S3's table of errors.
const KNOWN: [Known; 9] = [
    Known { signs: &["NoSuchBucket"], means: "there is no such bucket: create it, or correct its name" },
    Known {
        signs: &["RequestTimeTooSkewed", "RequestExpired"],
        means: "this machine's clock is off by more than the store allows: set it by NTP",
    },
    Known {
        signs: &[
            "PermanentRedirect",
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraint",
            "without LOCATION",
            "301 Moved Permanently",
        ],
        means: "the bucket is in another region: set AWS_REGION to it",
    },
    Known { signs: &["InvalidAccessKeyId", "InvalidClientTokenId", "NotSignedUp"], means: UNKNOWN_KEY },
    Known {
        signs: &["SignatureDoesNotMatch"],
        means: "the secret key does not belong to the access key: check AWS_SECRET_ACCESS_KEY",
    },
    Known {
        signs: &["ExpiredToken", "InvalidToken"],
        means: "the session token is expired or wrong: get new credentials",
    },
    Known { signs: &["AccessDenied", "403 Forbidden"], means: DENIED },
    Known {
        signs: &["certificate", "CertificateUnknown", "UnknownIssuer", "HandshakeFailure", "corrupt message"],
        means: "TLS with the endpoint fails: its certificate is not trusted here, or it speaks no TLS",
    },
    Known {
        signs: &[
            "Connection refused",
            "dns error",
            "ConnectError",
            "error trying to connect",
            "tcp connect",
            "deadline has elapsed",
        ],
        means: "the endpoint cannot be reached: check AWS_ENDPOINT_URL, the network and its firewall",
    },
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn generic(said: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: said.to_owned().into() }
    }

    #[tokio::test]
    async fn a_bucket_that_works_is_left_as_it_was() {
        let bucket = Bucket::memory();
        bucket.probe().await.unwrap();
        let timing = bucket.time(4_096, 3).await.unwrap();
        assert_eq!((timing.bytes, timing.put.len(), timing.get.len()), (4_096, 3, 3));
        assert!(timing.put.is_sorted() && timing.get.is_sorted());
        assert_eq!(bucket.list("").count().await, 0);
    }

    #[test]
    fn each_answer_of_a_store_is_told_in_one_sentence() {
        let cases = [
            ("<Code>NoSuchBucket</Code>", "no such bucket"),
            ("<Code>RequestTimeTooSkewed</Code> 403 Forbidden", "clock"),
            ("<Code>PermanentRedirect</Code>", "another region"),
            ("received redirect without LOCATION", "another region"),
            ("<Code>InvalidAccessKeyId</Code> 403 Forbidden", "does not know the access key"),
            ("<Code>SignatureDoesNotMatch</Code> 403 Forbidden", "secret key"),
            ("<Code>ExpiredToken</Code>", "expired"),
            ("403 Forbidden: <Code>AccessDenied</Code>", "lack s3:PutObject"),
            ("invalid peer certificate: UnknownIssuer", "TLS"),
            ("tcp connect error: Connection refused (os error 111)", "cannot be reached"),
        ];
        for (said, told) in cases {
            let explained = explain(&generic(said), "s3:PutObject");
            assert!(explained.contains(told), "{said}: {explained}");
        }
        // What nobody knows is passed on as it is.
        assert!(explain(&generic("<Code>Strange</Code>"), "s3:PutObject").contains("Strange"));
    }
}
