//! The bucket: immutable objects under the keys of [`keys`], in S3, a local directory or memory.
//!
//! A [`Bucket`] is a cheap handle over an `object_store` with decorators, outermost first: retry with a deadline, a
//! limit on calls in flight, one attempt (bounded in time, counted), and for a local directory durable writes. A PUT
//! that returned survives a power cut. There is no overwrite that matters: every object but the two kinds created with
//! [`Bucket::put_if_absent`] has a name of its own, so writing one again writes the same bytes.
//!
//! This module knows no format; what an object holds is `format`'s.

mod attempt;
mod aws;
mod clouds;
mod credentials;
mod error;
mod hedge;
mod http;
pub mod keys;
mod local;
mod open;
mod probe;
mod retry;
#[cfg(test)]
mod tests;
mod upload;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::limit::LimitStore;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

pub use attempt::Health;
pub use error::{OBJECT_MISSING, StoreError};
pub use probe::{Timing, Unusable, Usage};
pub use upload::Upload;

use crate::config;
use crate::error::Result;
use crate::metrics::cost::BucketJob;

/// Bytes of an [`Upload`] above which it is sent in parts of this size. Each part is a call that is paid for, and so are the
/// begin and the end: an archive file of 128 MiB takes four calls.
pub const PART_BYTES: usize = 64 << 20;

/// The storage class of an object whose class nobody names.
const DEFAULT_CLASS: &str = "STANDARD";

/// An object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub bytes: u64,
}

/// What became of [`Bucket::put_if_absent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object is now there with our bytes.
    New,
    /// Somebody else's was there before.
    Exists,
}

/// The decorators of a store: retry over limit over attempt.
fn decorate(
    store: &Arc<dyn ObjectStore>,
    settings: &config::Store,
    job: BucketJob,
    health: &Arc<Mutex<Health>>,
) -> Arc<dyn ObjectStore> {
    let attempts = attempt::Attempts::new(Arc::clone(store), settings, job, Arc::clone(health));
    let limited = LimitStore::new(attempts, settings.concurrency.max(1) as usize);
    Arc::new(retry::Retry::new(limited, settings.deadline))
}

/// A handle of the bucket; clones share it.
#[derive(Debug, Clone)]
pub struct Bucket {
    inner: Arc<Inner>,
    job: BucketJob,
}

#[derive(Debug)]
struct Inner {
    /// With decorators, by job: each has a limit of its own.
    stores: [Arc<dyn ObjectStore>; BucketJob::ALL.len()],
    local: Option<Arc<local::LocalDurable>>,
    /// Of a bucket in S3.
    hedge: Option<hedge::Hedge>,
    /// Storage class of archive files, if it is not that of all.
    archive_class: Option<String>,
    url: String,
    health: Arc<Mutex<Health>>,
}

impl Bucket {
    /// Opens the bucket at `url`; see the module `open` for what it may be. Nothing is read yet.
    ///
    /// # Errors
    /// `invalid_bucket` if the URL makes no sense, `unavailable` if a local directory cannot be created.
    pub fn open(url: &str, settings: &config::Store) -> Result<Self> {
        Ok(Self::opened(open::open(url, settings, true)?, settings))
    }

    /// Opens the bucket at `url` without creating a local directory.
    ///
    /// # Errors
    /// As [`Bucket::open`], and `bucket_not_found` if the local directory does not exist.
    pub fn open_existing(url: &str, settings: &config::Store) -> Result<Self> {
        Ok(Self::opened(open::open(url, settings, false)?, settings))
    }

    fn opened(opened: open::Opened, settings: &config::Store) -> Self {
        let mut bucket = Self::decorated(opened.store, &opened.url, settings);
        if let Some(inner) = Arc::get_mut(&mut bucket.inner) {
            inner.local = opened.local;
            inner.hedge =
                opened.is_remote.then(|| hedge::Hedge::new(settings.hedge_percent, Arc::clone(&inner.health)));
        }
        bucket
    }

    /// A bucket over `store` with the usual decorators, for tests that bring a store that fails.
    #[must_use]
    pub fn decorated(store: Arc<dyn ObjectStore>, url: &str, settings: &config::Store) -> Self {
        let health = Arc::default();
        let stores = BucketJob::ALL.map(|job| decorate(&store, settings, job, &health));
        let archive_class = Some(settings.archive_class.clone()).filter(|class| class != DEFAULT_CLASS);
        let inner = Arc::new(Inner { stores, local: None, hedge: None, archive_class, url: url.to_owned(), health });
        Self { inner, job: BucketJob::Other }
    }

    /// The same bucket for one kind of work: its calls are counted as such, and have a limit of their own, so that reads and
    /// conversions never keep a flush from the bucket.
    #[must_use]
    pub fn on_behalf_of(&self, job: BucketJob) -> Self {
        Self { inner: Arc::clone(&self.inner), job }
    }

    fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.inner.stores[self.job as usize]
    }

    /// A fresh bucket in memory.
    #[must_use]
    pub fn memory() -> Self {
        Self::decorated(Arc::new(object_store::memory::InMemory::new()), "memory://", &config::Store::default())
    }

    /// The store with its decorators, for readers that bring their own calls.
    #[must_use]
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(self.store())
    }

    /// The bucket's URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// Whether it is a directory of this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.inner.local.is_some()
    }

    /// A URL of the object that an external reader can open.
    #[must_use]
    pub fn url_of(&self, key: &str) -> String {
        format!("{}/{}", self.inner.url, open::encode(key))
    }

    /// Whether the bucket answers.
    #[must_use]
    pub fn health(&self) -> Health {
        self.inner.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes an object, durable when this returns. Dropped, or failed as [`StoreError::Unavailable`], it may
    /// nevertheless appear, whole.
    ///
    /// # Errors
    /// If it could not be written within the deadline.
    pub async fn put(&self, key: &str, parts: Vec<Bytes>) -> Result<(), StoreError> {
        self.put_with("put", key, parts.into_iter().collect(), PutMode::Overwrite).await
    }

    /// Writes an object if there is none of that key. `bytes` have to be different for each writer (a random id in
    /// them), so that a retry recognises its own earlier attempt.
    ///
    /// # Errors
    /// If it could not be told within the deadline.
    pub async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        match self.put_with("put", key, bytes.clone().into(), PutMode::Create).await {
            Ok(()) => Ok(Created::New),
            // An attempt whose answer was lost may have been ours.
            Err(StoreError::AlreadyExists { .. }) => {
                let there = self.get(key, u64::MAX).await?;
                Ok(if there == bytes { Created::New } else { Created::Exists })
            }
            Err(error) => Err(error),
        }
    }

    async fn put_with(
        &self,
        operation: &'static str,
        key: &str,
        payload: PutPayload,
        mode: PutMode,
    ) -> Result<(), StoreError> {
        let path = path(operation, key)?;
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.store().put_opts(&path, payload, options).await {
            Ok(_) => Ok(()),
            Err(error) => Err(StoreError::new(operation, key, error)),
        }
    }

    /// Begins an object of unknown length; it appears when [`Upload::finish`] returns. No call is made yet.
    ///
    /// # Errors
    /// If it cannot be named so.
    pub async fn upload(&self, key: &str) -> Result<Upload, StoreError> {
        self.upload_in(key, PART_BYTES)
    }

    fn upload_in(&self, key: &str, part_bytes: usize) -> Result<Upload, StoreError> {
        let class = self.inner.archive_class.as_deref().filter(|_| self.job == BucketJob::Archive);
        Ok(Upload::new(key, path("upload", key)?, Arc::clone(self.store()), part_bytes).of_class(class))
    }

    /// Reads a whole object of at most `limit` bytes.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unexpected`] if it is longer, or what the bucket says.
    pub async fn get(&self, key: &str, limit: u64) -> Result<Bytes, StoreError> {
        let result = self.store().get_opts(&path("get", key)?, GetOptions::default()).await;
        let result = result.map_err(|error| StoreError::new("get", key, error))?;
        if result.meta.size > limit {
            let what = format!("has {} bytes, at most {limit} were expected", result.meta.size);
            return Err(StoreError::Unexpected { key: key.to_owned(), what });
        }
        result.bytes().await.map_err(|error| StoreError::new("get", key, error))
    }

    /// Reads exactly the bytes of `range`, which is not empty.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unexpected`] if the object ends before the range does, or what the
    /// bucket says.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let wanted = range.end.saturating_sub(range.start);
        let path = path("get", key)?;
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let read = || async { self.store().get_opts(&path, options.clone()).await?.bytes().await };
        let read = match &self.inner.hedge {
            Some(hedge) if self.job == BucketJob::Fetch => hedge.read(wanted, read).await,
            _ => read().await,
        };
        let bytes = read.map_err(|error| StoreError::new("get", key, error))?;
        if bytes.len() as u64 != wanted {
            let what = format!("ends before byte {}", range.end);
            return Err(StoreError::Unexpected { key: key.to_owned(), what });
        }
        Ok(bytes)
    }

    /// Reads the last `len` bytes, or all of a shorter object.
    ///
    /// # Errors
    /// As [`Bucket::get`].
    pub async fn get_suffix(&self, key: &str, len: u64) -> Result<Bytes, StoreError> {
        // Not every store knows suffix ranges, and a local one refuses those longer than the file.
        let size = self.head(key).await?;
        if size == 0 {
            return Ok(Bytes::new());
        }
        self.get_range(key, size.saturating_sub(len)..size).await
    }

    /// The bytes of an object, which also tells that it exists.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] or what the bucket says.
    pub async fn head(&self, key: &str) -> Result<u64, StoreError> {
        let meta = self.store().head(&path("head", key)?).await;
        meta.map(|meta| meta.size).map_err(|error| StoreError::new("head", key, error))
    }

    /// Whether there is an object of that key.
    ///
    /// # Errors
    /// What the bucket says.
    pub async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        match self.head(key).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The objects whose keys begin with the path `prefix`, in no particular order, a page at a time: memory does not
    /// grow with the listing. Objects written or deleted meanwhile may or may not be in it.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<Listed, StoreError>> {
        self.list_after(prefix, None)
    }

    /// As [`Bucket::list`], but only keys above `after`; of any store but a local directory in the order of keys.
    pub fn list_after(&self, prefix: &str, after: Option<&str>) -> BoxStream<'static, Result<Listed, StoreError>> {
        let key = prefix.to_owned();
        let Ok(prefix) = path("list", prefix) else { return futures::stream::empty().boxed() };
        let prefix = (!prefix.as_ref().is_empty()).then_some(prefix);
        let listing = match after.map(|after| path("list", after)) {
            Some(Ok(after)) => self.store().list_with_offset(prefix.as_ref(), &after),
            // What is no key has no place among them: from the beginning on is never too little.
            Some(Err(_)) | None => self.store().list(prefix.as_ref()),
        };
        listing
            .map_ok(|meta| Listed { key: meta.location.into(), bytes: meta.size })
            .map_err(move |error| StoreError::new("list", &key, error))
            .boxed()
    }

    /// Deletes objects, up to a thousand a call; one that is gone already counts. Returns the keys deleted.
    ///
    /// # Errors
    /// The first object that could not be deleted within the deadline; others may have been.
    pub async fn delete(&self, keys: Vec<String>) -> Result<usize, StoreError> {
        let count = keys.len();
        let first = keys.first().cloned().unwrap_or_default();
        let paths = keys.iter().map(|key| path("delete", key)).collect::<Result<Vec<_>, _>>()?;
        let mut deleted = self.store().delete_stream(futures::stream::iter(paths.into_iter().map(Ok)).boxed());
        let mut failed = None;
        while let Some(result) = deleted.next().await {
            if let Err(error) = result {
                failed = failed.or(Some(error));
            }
        }
        failed.map_or(Ok(count), |error| Err(StoreError::new("delete", &first, error)))
    }

    /// Removes what interrupted writes left in a local bucket at least `age` ago; elsewhere the store does that itself.
    /// Returns how many files were removed.
    ///
    /// # Errors
    /// If a directory cannot be read.
    pub async fn remove_stale_uploads(&self, age: Duration) -> Result<usize> {
        let Some(local) = self.inner.local.clone() else { return Ok(0) };
        let removed = tokio::task::spawn_blocking(move || local.remove_stale_uploads(age)).await;
        let removed =
            removed.map_err(|error| crate::error::Error::internal("the sweep broke off").with_source(error))?;
        removed.map_err(|error| crate::error::Error::unavailable("cannot read the bucket directory").with_source(error))
    }
}

fn path(operation: &'static str, key: &str) -> Result<Path, StoreError> {
    Path::parse(key).map_err(|error| StoreError::new(operation, key, error.into()))
}
