//! The bucket: one store in memory that all nodes share, and before it for each node something that is slow and fails.
//!
//! A call fails before it was done or after: the caller cannot tell. A node may be cut off from the bucket on its own.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use tokio::time::sleep;

use crate::bucket::Objects;
use crate::random::Rng;
use crate::trace::Trace;

/// How the bucket behaves.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Of a thousand calls, how many fail before they are done.
    pub before: u64,
    /// Of a thousand calls, how many fail after they were done.
    pub after: u64,
    /// A call takes up to so many milliseconds.
    pub delay: u64,
    /// A PUT takes up to so many milliseconds more.
    pub put_delay: u64,
    /// Objects are deleted up to so many milliseconds later, whether the caller still waits or not: as if whoever deletes had
    /// slept between the decision and the call.
    pub late_deletes: u64,
    /// Nothing is done and nobody answers.
    pub is_away: bool,
}

/// The objects, and what stands before them; clones share it.
#[derive(Clone)]
pub struct Shared {
    objects: Arc<InMemory>,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    rng: Rng,
    rules: Rules,
    trace: Trace,
    calls: u64,
}

impl Shared {
    /// An empty bucket that works.
    #[must_use]
    pub fn new(rng: Rng, trace: Trace) -> Self {
        let rules = Rules { delay: 5, ..Rules::default() };
        let inner = Inner { rng, rules, trace, calls: 0 };
        Self { objects: Arc::new(InMemory::new()), inner: Arc::new(Mutex::new(inner)) }
    }

    /// Changes how it behaves, for all nodes.
    pub fn change(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.lock().rules);
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// The bucket as `node` reaches it.
    #[must_use]
    pub fn of(&self, node: u64) -> Arc<dyn ObjectStore> {
        Arc::new(Faulty { shared: self.clone(), node })
    }

    /// All objects, past everything that fails.
    ///
    /// # Panics
    /// If the store in memory waits for something.
    #[must_use]
    pub fn objects(&self) -> Objects {
        let objects = Arc::clone(&self.objects);
        let all = async move {
            let mut all = Objects::new();
            let mut listing = objects.list(None);
            while let Some(meta) = listing.try_next().await? {
                // One that is deleted in between is as good as one that was deleted before.
                if let Ok(found) = objects.get(&meta.location).await {
                    all.insert(meta.location.to_string(), found.bytes().await?);
                }
            }
            Ok::<_, Error>(all)
        };
        match all.now_or_never() {
            Some(Ok(all)) => all,
            other => panic!("the store in memory said {other:?}"),
        }
    }

    /// Somebody moves objects out of the bucket, past everything that fails.
    pub fn set_aside(&self, keys: &[String]) {
        for key in keys {
            // Gone already is as good.
            let _ = self.objects.delete(&Path::from(key.as_str())).now_or_never();
        }
    }

    /// How much later than it is asked for a deletion is done.
    fn lateness(&self) -> Duration {
        let mut inner = self.lock();
        let most = inner.rules.late_deletes;
        // Nothing is drawn where nothing is late.
        Duration::from_millis(if most == 0 { 0 } else { inner.rng.below(most + 1) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of a call.
enum Fate {
    Done,
    Before,
    After,
}

/// The bucket as one node reaches it.
struct Faulty {
    shared: Shared,
    node: u64,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("node", &self.node).finish_non_exhaustive()
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the bucket as node {} reaches it", self.node)
    }
}

fn broken() -> Error {
    Error::Generic { store: "simulated", source: "the bucket failed".into() }
}

impl Faulty {
    /// Waits as long as the call takes and says what becomes of it.
    async fn begin(&self, what: &'static str, location: &str) -> Fate {
        let (delay, fate, is_away) = {
            let mut inner = self.shared.lock();
            inner.calls += 1;
            let rules = inner.rules.clone();
            inner.trace.note("bucket", format_args!("{} {what} {location}", self.node));
            let more = if what == "put" { rules.put_delay } else { 0 };
            let delay = Duration::from_millis(inner.rng.below(rules.delay + more + 1));
            let (before, after) = (inner.rng.chance(rules.before), inner.rng.chance(rules.after));
            let fate = if before {
                Fate::Before
            } else if after {
                Fate::After
            } else {
                Fate::Done
            };
            (delay, fate, rules.is_away)
        };
        if is_away {
            // Until its own patience is over.
            std::future::pending::<()>().await;
        }
        sleep(delay).await;
        fate
    }

    async fn run<T>(
        &self,
        (what, location): (&'static str, &str),
        call: impl Future<Output = Result<T>> + std::marker::Send,
    ) -> Result<T> {
        match self.begin(what, location).await {
            Fate::Before => Err(broken()),
            Fate::Done => call.await,
            Fate::After => {
                call.await?;
                Err(broken())
            }
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.run(("put", location.as_ref()), self.shared.objects.put_opts(location, payload, options)).await
    }
    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.run(("upload", location.as_ref()), self.shared.objects.put_multipart_opts(location, options)).await
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.run(("get", location.as_ref()), self.shared.objects.get_opts(location, options)).await
    }
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.run(("get", location.as_ref()), self.shared.objects.get_ranges(location, ranges)).await
    }
    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let faulty = Self { shared: self.shared.clone(), node: self.node };
        let deleting = async move {
            let paths: Vec<Path> = locations.try_collect().await?;
            let text = paths.iter().map(Path::as_ref).collect::<Vec<_>>().join(" ");
            let objects = Arc::clone(&faulty.shared.objects);
            let stream = futures::stream::iter(paths.into_iter().map(Ok)).boxed();
            let late = faulty.shared.lateness();
            let call = async move {
                let deleting = tokio::spawn(async move {
                    sleep(late).await;
                    objects.delete_stream(stream).try_collect::<Vec<Path>>().await
                });
                deleting.await.unwrap_or_else(|_| Err(broken()))
            };
            faulty.run(("delete", &text), call).await
        };
        let deleted = async move {
            match deleting.await {
                Ok(paths) => futures::stream::iter(paths.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(error) => futures::stream::iter(vec![Err(error)]),
            }
        };
        deleted.flatten_stream().boxed()
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let faulty = Self { shared: self.shared.clone(), node: self.node };
        let prefix = prefix.cloned();
        let listing = async move {
            let objects = Arc::clone(&faulty.shared.objects);
            let text = prefix.as_ref().map_or(String::new(), ToString::to_string);
            let call = async move {
                let mut all: Vec<ObjectMeta> = objects.list(prefix.as_ref()).try_collect().await?;
                all.sort_unstable_by(|left, right| left.location.cmp(&right.location));
                Ok(all)
            };
            faulty.run(("list", &text), call).await
        };
        let listed = async move {
            match listing.await {
                Ok(all) => futures::stream::iter(all.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(error) => futures::stream::iter(vec![Err(error)]),
            }
        };
        listed.flatten_stream().boxed()
    }
    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let offset = offset.clone();
        self.list(prefix).try_filter(move |meta| std::future::ready(meta.location > offset)).boxed()
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.run(("list", ""), self.shared.objects.list_with_delimiter(prefix)).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.run(("copy", from.as_ref()), self.shared.objects.copy_opts(from, to, options)).await
    }
    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.run(("rename", from.as_ref()), self.shared.objects.rename_opts(from, to, options)).await
    }
}
