//! A store in memory that ends after some writes, and that shows some objects late.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use crate::config;
use crate::store::Bucket;

/// A store over `objects`, which outlives it. All clones of it end together.
#[derive(Debug, Clone)]
pub(in crate::backup) struct Fragile {
    objects: Arc<InMemory>,
    writes_left: Arc<AtomicU64>,
    /// Whether the write at which it ends is done.
    last_is_done: bool,
    /// Keys that are not listed yet, and how many listings of where they are leave them out.
    late: Arc<Mutex<(u32, BTreeSet<String>)>>,
}

impl Fragile {
    /// One that works.
    pub(in crate::backup) fn over(objects: &Arc<InMemory>) -> Self {
        Self::ending_after(objects, u64::MAX, false)
    }

    /// One that fails from the write after `writes` on, which is done all the same if `last_is_done`.
    pub(in crate::backup) fn ending_after(objects: &Arc<InMemory>, writes: u64, last_is_done: bool) -> Self {
        let writes_left = Arc::new(AtomicU64::new(writes));
        Self { objects: Arc::clone(objects), writes_left, last_is_done, late: Arc::default() }
    }

    /// Hides these keys from the next `listings` listings of where they are.
    pub(in crate::backup) fn hide(&self, keys: impl IntoIterator<Item = String>, listings: u32) {
        *self.late.lock().unwrap() = (listings, keys.into_iter().collect());
    }

    pub(in crate::backup) fn bucket(&self) -> Bucket {
        Bucket::decorated(Arc::new(self.clone()), "memory:///fragile", &config::Store::default())
    }

    /// A bucket over the same objects that works.
    pub(in crate::backup) fn whole(objects: &Arc<InMemory>) -> Bucket {
        Bucket::decorated(Arc::clone(objects) as Arc<dyn ObjectStore>, "memory:///whole", &config::Store::default())
    }

    fn has_ended(&self) -> bool {
        self.writes_left.load(SeqCst) == 0
    }

    async fn write<T>(&self, location: &Path, write: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let left = self.writes_left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).unwrap_or(0);
        match left {
            0 => Err(ended(location)),
            // This is the last one.
            1 if self.last_is_done => {
                write.await?;
                Err(ended(location))
            }
            _ => write.await,
        }
    }
}

/// Nothing is tried again after that.
fn ended(location: &Path) -> Error {
    Error::PermissionDenied { path: location.to_string(), source: "the process is gone".into() }
}

impl fmt::Display for Fragile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fragile store")
    }
}

#[async_trait]
impl ObjectStore for Fragile {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.write(location, self.objects.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.objects.put_multipart_opts(location, options).await?;
        Ok(Box::new(FragileUpload { store: self.clone(), location: location.clone(), inner }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.has_ended() {
            return Err(ended(location));
        }
        self.objects.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let mut late = self.late.lock().unwrap();
        let covers = |key: &String| prefix.is_none_or(|prefix| key.starts_with(prefix.as_ref()));
        let hidden = if late.0 > 0 && late.1.iter().any(covers) {
            late.0 -= 1;
            late.1.clone()
        } else {
            BTreeSet::new()
        };
        let shown = move |found: &Result<ObjectMeta>| {
            let is_hidden = found.as_ref().is_ok_and(|meta| hidden.contains(meta.location.as_ref()));
            std::future::ready(!is_hidden)
        };
        self.objects.list(prefix).filter(shown).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.write(to, self.objects.copy_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct FragileUpload {
    store: Fragile,
    location: Path,
    inner: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for FragileUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (store, location, part) = (self.store.clone(), self.location.clone(), self.inner.put_part(data));
        async move { store.write(&location, part).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (store, location) = (self.store.clone(), self.location.clone());
        store.write(&location, self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
