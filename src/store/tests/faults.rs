//! The retry: until a deadline, only what may succeed later, harmless after an unknown outcome.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

use crate::config;
use crate::store::http::Answer;
use crate::store::{Bucket, Created, StoreError};

/// A deadline that no test meets.
const LONG: Duration = Duration::from_secs(600);

/// Fails the first calls, or those after the first that are spared, before or after doing them.
#[derive(Debug)]
struct Flaky {
    inner: InMemory,
    spared: AtomicUsize,
    failures: AtomicUsize,
    calls: AtomicUsize,
    after: bool,
    error: fn() -> Error,
}

fn broken() -> Error {
    Error::Generic { store: "flaky", source: "broken pipe".into() }
}

fn denied() -> Error {
    Error::PermissionDenied { path: String::new(), source: "no".into() }
}

impl Flaky {
    fn fails(&self) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let one_less = |of: &AtomicUsize| {
            of.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        };
        !one_less(&self.spared) && one_less(&self.failures)
    }

    async fn run<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let fails = self.fails();
        if fails && !self.after {
            return Err((self.error)());
        }
        let result = call.await;
        if fails { Err((self.error)()) } else { result }
    }
}

impl fmt::Display for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flaky")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Flaky {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.run(self.inner.put_opts(location, payload, options)).await
    }
    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.run(self.inner.put_multipart_opts(location, options)).await
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.run(self.inner.get_opts(location, options)).await
    }
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.run(self.inner.get_ranges(location, ranges)).await
    }
    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if self.fails() {
            let error = (self.error)();
            return futures::stream::once(async { Err(error) }).boxed();
        }
        self.inner.delete_stream(locations)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.fails() {
            let error = (self.error)();
            return futures::stream::once(async { Err(error) }).boxed();
        }
        self.inner.list(prefix)
    }
    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

fn flaky(failures: usize, after: bool, error: fn() -> Error, deadline: Duration) -> (Bucket, Arc<Flaky>) {
    let store = Arc::new(Flaky {
        inner: InMemory::new(),
        spared: AtomicUsize::new(0),
        failures: AtomicUsize::new(failures),
        calls: AtomicUsize::new(0),
        after,
        error,
    });
    let settings = config::Store { deadline, ..config::Store::default() };
    (Bucket::decorated(Arc::clone(&store) as Arc<dyn ObjectStore>, "memory://", &settings), store)
}

#[tokio::test]
async fn a_call_is_tried_again_until_it_succeeds() {
    let (bucket, store) = flaky(3, false, broken, LONG);
    bucket.put("a", vec![Bytes::from_static(b"1")]).await.unwrap();
    assert_eq!(store.calls.load(Ordering::Relaxed), 4);
    store.failures.store(2, Ordering::Relaxed);
    assert_eq!(bucket.get("a", 9).await.unwrap(), "1");
    store.failures.store(2, Ordering::Relaxed);
    assert_eq!(bucket.list("").count().await, 1);
    store.failures.store(2, Ordering::Relaxed);
    assert_eq!(bucket.delete(vec!["a".to_owned(), "b".to_owned()]).await.unwrap(), 2);
    assert!(!bucket.exists("a").await.unwrap());
}

#[tokio::test]
async fn a_probe_that_fails_at_any_step_leaves_nothing() {
    for (spared, told) in [(1, "cannot be read"), (2, "cannot be listed")] {
        let (bucket, store) = flaky(1, false, denied, LONG);
        store.spared.store(spared, Ordering::Relaxed);
        let error = bucket.probe().await.unwrap_err();
        assert!(error.message.contains(told), "{error}");
        assert_eq!(bucket.list("").count().await, 0, "{told}");
    }
}

#[tokio::test]
async fn the_retry_ends_at_its_deadline() {
    let (bucket, store) = flaky(usize::MAX, false, broken, Duration::from_millis(200));
    assert!(matches!(bucket.get("a", 9).await, Err(StoreError::Unavailable { .. })));
    assert!(store.calls.load(Ordering::Relaxed) > 1);
    assert!(matches!(bucket.delete(vec!["a".to_owned()]).await, Err(StoreError::Unavailable { .. })));
    assert!(matches!(bucket.list("").next().await, Some(Err(StoreError::Unavailable { .. }))));
    let health = bucket.health();
    assert!(health.last_success.is_none() && health.failing.is_some_and(|(_, error)| error.contains("broken pipe")));
}

fn throttled() -> Error {
    let headers = [(http::header::RETRY_AFTER, http::HeaderValue::from_static("20"))].into_iter().collect();
    let answer = Answer::new(http::StatusCode::SERVICE_UNAVAILABLE, &headers, b"<Code>SlowDown</Code>");
    let kept = object_store::client::HttpError::new(object_store::client::HttpErrorKind::Unknown, answer);
    Error::Generic { store: "flaky", source: Box::new(kept) }
}

#[tokio::test(start_paused = true)]
async fn the_pause_is_the_one_that_the_store_asks_for_within_the_deadline() {
    let (bucket, store) = flaky(3, false, throttled, LONG);
    let begun = tokio::time::Instant::now();
    bucket.put("a", vec![Bytes::from_static(b"1")]).await.unwrap();
    assert_eq!(store.calls.load(Ordering::Relaxed), 4);
    // What is asked for, and a pause of our own below 0.5, 1 and 2 seconds.
    assert!(begun.elapsed() >= Duration::from_secs(60) && begun.elapsed() <= Duration::from_secs(64));
    assert!(bucket.health().slowed.is_some());

    let (bucket, store) = flaky(usize::MAX, false, throttled, Duration::from_secs(50));
    let begun = tokio::time::Instant::now();
    assert!(matches!(bucket.get("a", 9).await, Err(StoreError::Unavailable { .. })));
    assert_eq!(store.calls.load(Ordering::Relaxed), 3, "at 0, 20 and 40 seconds");
    assert!(begun.elapsed() < Duration::from_secs(50));
}

#[tokio::test]
async fn a_refusal_is_final() {
    let (bucket, store) = flaky(usize::MAX, false, denied, LONG);
    assert!(matches!(bucket.put("a", Vec::new()).await, Err(StoreError::Refused { .. })));
    assert_eq!(store.calls.load(Ordering::Relaxed), 1);
    assert!(matches!(bucket.delete(vec!["a".to_owned()]).await, Err(StoreError::Refused { .. })));
}

#[tokio::test]
async fn a_conditional_put_recognises_its_own_lost_answer() {
    let (bucket, _) = flaky(1, true, broken, LONG);
    assert_eq!(bucket.put_if_absent("a", Bytes::from_static(b"mine")).await.unwrap(), Created::New);
    assert_eq!(bucket.put_if_absent("a", Bytes::from_static(b"yours")).await.unwrap(), Created::Exists);
}
