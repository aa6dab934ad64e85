//! One attempt of a call to the bucket: bounded in time, counted by kind and outcome, noted in the bucket's health.
//!
//! A body is read inside the attempt if its length is known and small; only then are its time and its errors this
//! attempt's, and only then can the retry above make it again. A listing is counted once, not bounded in time: it may
//! have any number of pages.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::metrics::{counter, gauge, histogram};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use super::http::{Answer, answer_in};
use crate::config;
use crate::metrics::cost::{self, BucketJob};
use crate::metrics::{BUCKET_CALL_SECONDS, BUCKET_CALLS, BUCKET_HEALTHY, BUCKET_READ_BYTES, BUCKET_WRITTEN_BYTES};

/// Bodies up to this are read within the attempt.
const BUFFERED_BODY: u64 = 64 << 20;
/// Bytes that an attempt moves in `store.attempt_timeout` at least; it may take a second more for each MiB beyond.
const PROMPT_BYTES: usize = 16 << 20;
/// How long nobody asks a second time after the store said that it is asked too much.
const SLOW_FOR: Duration = Duration::from_secs(10);

/// How long an attempt with a body of `bytes` may take.
pub(super) fn timeout_for(timeout: Duration, bytes: usize) -> Duration {
    timeout + Duration::from_secs((bytes.saturating_sub(PROMPT_BYTES) >> 20) as u64)
}

/// What is known of the bucket's reachability.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// When a call last reached the bucket.
    pub last_success: Option<Instant>,
    /// Since when no call reached it, and the last error; `None` while it answers.
    pub failing: Option<(Instant, String)>,
    /// Until when it is to be asked no more than has to be: it said that it is asked too much.
    pub slowed: Option<Instant>,
}

/// The decorator; see the module's head.
#[derive(Debug)]
pub(super) struct Attempts<S> {
    inner: S,
    limits: Limits,
}

#[derive(Debug, Clone)]
struct Limits {
    timeout: Duration,
    /// Of a call that is tried again below.
    deadline: Duration,
    job: BucketJob,
    health: Arc<Mutex<Health>>,
}

impl<S: ObjectStore> Attempts<S> {
    /// Attempts for `job`.
    pub(super) fn new(inner: S, settings: &config::Store, job: BucketJob, health: Arc<Mutex<Health>>) -> Self {
        let limits = Limits { timeout: settings.attempt_timeout, deadline: settings.deadline, job, health };
        Self { inner, limits }
    }
}

impl Limits {
    async fn run<T>(&self, kind: &'static str, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.run_within(self.timeout, kind, call).await
    }

    async fn run_within<T>(
        &self,
        timeout: Duration,
        kind: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let start = Instant::now();
        let result = match tokio::time::timeout(timeout, call).await {
            Ok(result) => result,
            Err(elapsed) => Err(Error::Generic { store: "bucket", source: Box::new(elapsed) }),
        };
        histogram!(BUCKET_CALL_SECONDS, "kind" => kind).record(start.elapsed().as_secs_f64());
        self.note(kind, result.as_ref().err());
        result
    }

    /// Counts the outcome; any answer of the bucket, a refusal too, means that it is reachable.
    fn note(&self, kind: &'static str, error: Option<&Error>) {
        let outcome = match error {
            None => "ok",
            Some(Error::NotFound { .. }) => "not_found",
            Some(Error::AlreadyExists { .. } | Error::Precondition { .. }) => "already_exists",
            Some(Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) => "denied",
            Some(Error::Generic { source, .. }) if source.is::<tokio::time::error::Elapsed>() => "timeout",
            Some(error) if answer_in(error).is_some_and(Answer::denies) => "denied",
            Some(_) => "error",
        };
        counter!(BUCKET_CALLS, "kind" => kind, "outcome" => outcome).increment(1);
        cost::bucket_call(self.job, kind);
        // Whom the bucket denies everything is as far from it as if it were away.
        let failed = matches!(outcome, "denied" | "timeout" | "error");
        gauge!(BUCKET_HEALTHY).set(if failed { 0.0 } else { 1.0 });
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if let (true, Some(error)) = (failed, error) {
            let since = health.failing.as_ref().map_or_else(Instant::now, |(since, _)| *since);
            health.failing = Some((since, error.to_string()));
        } else {
            health.last_success = Some(Instant::now());
            health.failing = None;
        }
        if let Some(answer) = error.and_then(|error| answer_in(error)).filter(|answer| answer.slows_down()) {
            health.slowed = Some(Instant::now() + answer.retry_after().unwrap_or_default().max(SLOW_FOR));
        }
    }

    fn wrote(&self, bytes: u64) {
        counter!(BUCKET_WRITTEN_BYTES).increment(bytes);
        cost::bucket_bytes(self.job, bytes, 0);
    }

    fn read(&self, bytes: u64) {
        counter!(BUCKET_READ_BYTES).increment(bytes);
        cost::bucket_bytes(self.job, 0, bytes);
    }
}

impl<S: fmt::Display> fmt::Display for Attempts<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attempts({})", self.inner)
    }
}

/// Reads a small body now, so that what the caller gets cannot fail any more.
async fn buffered(result: GetResult, limits: &Limits) -> Result<GetResult> {
    let len = result.range.end - result.range.start;
    if len > BUFFERED_BODY {
        return Ok(result);
    }
    let (meta, range, attributes) = (result.meta.clone(), result.range.clone(), result.attributes.clone());
    let bytes = result.bytes().await?;
    limits.read(bytes.len() as u64);
    let payload = GetResultPayload::Stream(futures::stream::once(async { Ok(bytes) }).boxed());
    Ok(GetResult { payload, meta, range, attributes })
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: ObjectStore> ObjectStore for Attempts<S> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let len = payload.content_length();
        let timeout = timeout_for(self.limits.timeout, len);
        let result = self.limits.run_within(timeout, "put", self.inner.put_opts(location, payload, options)).await?;
        self.limits.wrote(len as u64);
        Ok(result)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.limits.run("put", self.inner.put_multipart_opts(location, options)).await?;
        Ok(Box::new(CountedUpload { inner, limits: self.limits.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let call = async {
            let result = self.inner.get_opts(location, options).await?;
            if head { Ok(result) } else { buffered(result, &self.limits).await }
        };
        self.limits.run("get", call).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let parts = self.limits.run("get", self.inner.get_ranges(location, ranges)).await?;
        self.limits.read(parts.iter().map(|part| part.len() as u64).sum());
        Ok(parts)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let limits = self.limits.clone();
        self.inner.delete_stream(locations).inspect(move |result| limits.note("delete", result.as_ref().err())).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        noted_once(self.limits.clone(), self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        noted_once(self.limits.clone(), self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let result = self.inner.list_with_delimiter(prefix).await;
        self.limits.note("list", result.as_ref().err());
        result
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.limits.run("put", self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.limits.run("put", self.inner.rename_opts(from, to, options)).await
    }
}

/// Notes a listing's first answer (an end without items is one too), and an error whenever it comes.
fn noted_once<T: Send + 'static>(
    limits: Limits,
    listing: BoxStream<'static, Result<T>>,
) -> BoxStream<'static, Result<T>> {
    futures::stream::unfold((listing, limits, false), |(mut listing, limits, noted)| async move {
        let item = listing.next().await;
        let error = item.as_ref().and_then(|item| item.as_ref().err());
        if !noted || error.is_some() {
            limits.note("list", error);
        }
        item.map(|item| (item, (listing, limits, true)))
    })
    .boxed()
}

#[derive(Debug)]
struct CountedUpload {
    inner: Box<dyn MultipartUpload>,
    limits: Limits,
}

#[async_trait]
impl MultipartUpload for CountedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let len = data.content_length() as u64;
        let limits = self.limits.clone();
        let call = self.inner.put_part(data);
        async move {
            limits.run_within(limits.deadline, "put_part", call).await?;
            limits.wrote(len);
            Ok(())
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.limits.run_within(self.limits.deadline, "put", self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.limits.run_within(self.limits.deadline, "delete", self.inner.abort()).await
    }
}
