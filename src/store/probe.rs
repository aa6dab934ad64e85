//! Whether a bucket can be used, told in one sentence, and how fast it is.
//!
//! The probe writes, reads, lists and deletes one small object under `probe/`, which no other part of Tidelog looks at, so
//! that each right that a server needs is tried; for a process that needs fewer rights, fewer. It also reads an object that
//! is not there, since a store says "denied" instead of "not found" to whoever may not list. What an S3 store answers is
//! sorted by its error code; what it says itself goes to the log.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use super::Bucket;
use super::aws::NO_CREDENTIALS;
use super::error::{NO_BUCKET, is_transient, said_by};
use crate::error::{Error, Result};

/// Objects of the probe; the name says who may delete what a killed one left.
const PREFIX: &str = "probe";
/// A step of the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Write,
    /// Begins an upload in parts.
    Begin,
    Read,
    /// Reads what is not there.
    Miss,
    List,
    Delete,
    /// Gives an upload in parts up.
    Abort,
}

impl Step {
    const fn verb(self) -> &'static str {
        match self {
            Self::Write | Self::Begin | Self::Abort => "written",
            Self::Read | Self::Miss => "read",
            Self::List => "listed",
            Self::Delete => "deleted",
        }
    }

    /// What S3's policies call the right to do it.
    const fn right(self) -> &'static str {
        match self {
            Self::Write | Self::Begin => "s3:PutObject",
            Self::Read => "s3:GetObject",
            // Who may not list is told that what is not there is denied; a condition on the prefix has that effect too.
            Self::Miss => "s3:GetObject, or s3:ListBucket without a condition,",
            Self::List => "s3:ListBucket",
            Self::Delete => "s3:DeleteObject",
            Self::Abort => "s3:AbortMultipartUpload",
        }
    }
}

/// What a process does with the bucket, which decides what is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// All that there is: a node that keeps a log.
    Everything,
    /// Reads, and writes archive files: a compactor.
    Converts,
    /// Reads: a gateway.
    Reads,
}

/// Why a bucket cannot be used, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unusable {
    /// The sentence.
    pub message: String,
    /// Whether the store was reached and said so, and will say it again: somebody has to change something.
    pub refused: bool,
}

impl From<Unusable> for Error {
    fn from(unusable: Unusable) -> Self {
        Self::unavailable(unusable.message)
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
    /// One sentence that says what is wrong.
    pub async fn probe(&self) -> Result<(), Unusable> {
        self.probe_for(Usage::Everything).await
    }

    /// Tries what a process of that kind does. Nothing is left of it.
    ///
    /// # Errors
    /// As [`Bucket::probe`].
    pub async fn probe_for(&self, usage: Usage) -> Result<(), Unusable> {
        let (path, content) = object(64);
        match usage {
            Usage::Everything => {}
            Usage::Converts => {
                self.begins_and_aborts(&path).await?;
                return self.finds(&path).await;
            }
            Usage::Reads => return self.finds(&path).await,
        }
        let done = self.object_store().put(&path, content.clone().into()).await;
        self.told(Step::Write, done.map(|_| ()))?;
        let found = async {
            self.reads(&path, &content).await?;
            self.lists(&path).await?;
            self.finds(&Path::from(format!("{path}-none"))).await
        };
        let found = found.await;
        // Whatever was found: nothing is to be left of it.
        let deleted = self.told(Step::Delete, self.object_store().delete(&path).await);
        found.and(deleted)
    }

    /// The error of a step as a sentence.
    fn told<T>(&self, step: Step, done: object_store::Result<T>) -> Result<T, Unusable> {
        done.map_err(|error| {
            let Explained { what, refused } = explain(&error, step.right());
            // The sentence says it; the store's own words are several lines of XML.
            tracing::debug!(%error, "the bucket's answer to the probe");
            self.unusable(step, &what, refused)
        })
    }

    fn unusable(&self, step: Step, what: &str, refused: bool) -> Unusable {
        Unusable { message: format!("bucket {} cannot be {}: {what}", self.url(), step.verb()), refused }
    }

    async fn reads(&self, path: &Path, content: &Bytes) -> Result<(), Unusable> {
        let read = async { self.object_store().get(path).await?.bytes().await }.await;
        match self.told(Step::Read, read)? {
            read if read == *content => Ok(()),
            _ => Err(self.unusable(Step::Read, "it answers with other bytes than were written", true)),
        }
    }

    async fn lists(&self, path: &Path) -> Result<(), Unusable> {
        let mut listing = self.object_store().list(Some(&Path::from(PREFIX)));
        while let Some(listed) = listing.next().await {
            if self.told(Step::List, listed)?.location == *path {
                return Ok(());
            }
        }
        Err(self.unusable(Step::List, "it does not list what was just written", true))
    }

    /// Whether it is told that `path`, which is not there, is not there, and that there is a listing.
    async fn finds(&self, path: &Path) -> Result<(), Unusable> {
        match self.object_store().get(path).await {
            // A bucket that is not there is not found either.
            Err(error @ object_store::Error::NotFound { .. }) if said_by(&error).contains(NO_BUCKET) => {
                self.told(Step::Miss, Err(error))?;
            }
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => self.told(Step::Miss, Err(error))?,
            Ok(_) => return Err(self.unusable(Step::Miss, "it has an object that nobody wrote", true)),
        }
        let listed = self.object_store().list(Some(&Path::from(PREFIX))).next().await;
        self.told(Step::List, listed.transpose()).map(|_| ())
    }

    async fn begins_and_aborts(&self, path: &Path) -> Result<(), Unusable> {
        let mut upload = self.told(Step::Begin, self.object_store().put_multipart(path).await)?;
        self.told(Step::Abort, upload.abort().await)
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

/// What is wrong and what to do about it.
struct Explained {
    what: String,
    /// Whether the store said so itself, for good.
    refused: bool,
}

/// Explains the error of a step that needs `right`.
fn explain(error: &object_store::Error, right: &str) -> Explained {
    let said = said_by(error);
    if let Some(known) = KNOWN.iter().find(|known| known.signs.iter().any(|sign| said.contains(sign))) {
        return Explained { what: known.means.replace("{right}", right), refused: known.refuses };
    }
    let what = match error {
        object_store::Error::PermissionDenied { .. } => DENIED.replace("{right}", right),
        object_store::Error::Unauthenticated { .. } => UNKNOWN_KEY.to_owned(),
        _ => said,
    };
    Explained { what, refused: !is_transient(error) }
}

/// What is said by an error that has one of these in it.
struct Known {
    signs: &'static [&'static str],
    means: &'static str,
    /// Whether it is the store's own word, which will be the same the next time.
    refuses: bool,
}

const DENIED: &str = "access is denied: the credentials lack {right} on this bucket and prefix";
const UNKNOWN_KEY: &str = "the store does not know the access key: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

/// In this order: an answer about the clock also says that access is denied. The codes are those of S3's table of errors.
const KNOWN: [Known; 11] = [
    Known { signs: &[NO_BUCKET], means: "there is no such bucket: create it, or correct its name", refuses: true },
    Known {
        signs: &["RequestTimeTooSkewed", "RequestExpired"],
        means: "this machine's clock is off by more than the store allows: set it by NTP",
        refuses: true,
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
        refuses: true,
    },
    // Whoever has them may be away.
    Known {
        signs: &[NO_CREDENTIALS],
        means: "no credentials are found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile, or give the machine a role",
        refuses: false,
    },
    Known { signs: &["InvalidAccessKeyId", "InvalidClientTokenId", "NotSignedUp"], means: UNKNOWN_KEY, refuses: true },
    Known {
        signs: &["SignatureDoesNotMatch"],
        means: "the secret key does not belong to the access key: check AWS_SECRET_ACCESS_KEY",
        refuses: true,
    },
    // New ones may come by themselves, from a role or from whoever changes the file that they are in.
    Known {
        signs: &["ExpiredToken", "InvalidToken"],
        means: "the session token is expired or wrong: get new credentials",
        refuses: false,
    },
    Known {
        signs: &["SlowDown", "TooManyRequests", "429 Too Many"],
        means: "the store says that it is asked too much: try again later",
        refuses: false,
    },
    Known { signs: &["AccessDenied", "403 Forbidden"], means: DENIED, refuses: true },
    Known {
        signs: &["certificate", "CertificateUnknown", "UnknownIssuer", "HandshakeFailure", "corrupt message"],
        means: "TLS with the endpoint fails: its certificate is not trusted here, or it speaks no TLS",
        refuses: false,
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
        refuses: false,
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
            ("<Code>NoSuchBucket</Code>", "no such bucket", true),
            ("<Code>RequestTimeTooSkewed</Code> 403 Forbidden", "clock", true),
            ("<Code>PermanentRedirect</Code>", "another region", true),
            ("received redirect without LOCATION", "another region", true),
            ("<Code>InvalidAccessKeyId</Code> 403 Forbidden", "does not know the access key", true),
            ("<Code>SignatureDoesNotMatch</Code> 403 Forbidden", "secret key", true),
            ("<Code>ExpiredToken</Code>", "expired", false),
            ("no credentials are found: dispatch failure: Connection refused", "give the machine a role", false),
            ("403 Forbidden: <Code>AccessDenied</Code>", "lack s3:PutObject", true),
            ("invalid peer certificate: UnknownIssuer", "TLS", false),
            ("tcp connect error: Connection refused (os error 111)", "cannot be reached", false),
            ("the store answers 503 Service Unavailable: <Code>SlowDown</Code>", "asked too much", false),
            // What nobody knows is passed on as it is.
            ("<Code>Strange</Code>", "Strange", false),
        ];
        for (said, told, refused) in cases {
            let explained = explain(&generic(said), "s3:PutObject");
            assert!(explained.what.contains(told), "{said}: {}", explained.what);
            assert_eq!(explained.refused, refused, "{said}");
        }
    }

    #[tokio::test]
    async fn a_process_that_needs_fewer_rights_tries_fewer_and_leaves_nothing() {
        let bucket = Bucket::memory();
        for usage in [Usage::Everything, Usage::Converts, Usage::Reads] {
            bucket.probe_for(usage).await.unwrap();
            assert_eq!(bucket.list("").count().await, 0, "{usage:?}");
        }
    }
}
