//! Tries calls to the bucket again, with pauses that grow and jitter, until a deadline; never for ever.
//!
//! Only what may succeed later is tried again. A PUT may have been done although its attempt failed; that is harmless
//! for immutable objects, which are written again with the same bytes. Not tried again here: the calls of a multipart upload
//! (`http.rs` does it with the same [`retry`]), a listing that broke off in the middle.
//!
//! A store that says how long to leave it alone (`Retry-After`) is left alone for that long, if the call's deadline allows, or
//! else the call fails at once: asking sooner would make it worse. One that only says `SlowDown` gets longer pauses.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::counter;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use rand::Rng;
use tokio::time::Instant;
use tokio::time::error::Elapsed;

use super::error::{NO_BUCKET, is_transient, said_by};
use super::http::{Answer, answer_in};
use crate::metrics::BUCKET_RETRIES;

/// The first pause; each next one may be twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The first pause of a call to a store that is asked too much.
const FIRST_SLOW_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest that a store may ask for: one that errs about itself is to be asked again.
const LONGEST_ASKED: Duration = Duration::from_secs(30);
/// Objects of one S3 `DeleteObjects` call.
const DELETE_BATCH: usize = 1_000;

/// The decorator; see the module's head.
#[derive(Debug)]
pub(super) struct Retry<S> {
    inner: Arc<S>,
    deadline: Duration,
}

impl<S: ObjectStore> Retry<S> {
    pub(super) fn new(inner: S, deadline: Duration) -> Self {
        Self { inner: Arc::new(inner), deadline }
    }
}

impl<S: fmt::Display> fmt::Display for Retry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Retry({})", self.inner)
    }
}

/// The pauses between the attempts of one call.
struct Pauses {
    end: Instant,
    next: Duration,
}

impl Pauses {
    fn until(deadline: Duration) -> Self {
        Self { end: Instant::now() + deadline, next: FIRST_PAUSE }
    }

    /// Sleeps before another attempt; `false` if the deadline would be over.
    async fn pause(&mut self, answer: Option<&Answer>) -> bool {
        let slows_down = answer.is_some_and(Answer::slows_down);
        if slows_down {
            self.next = self.next.max(FIRST_SLOW_PAUSE);
        }
        // "Full jitter" spreads callers that failed together, after what was asked of all of them.
        let asked = answer.and_then(Answer::retry_after).unwrap_or_default().min(LONGEST_ASKED);
        let pause = asked + rand::rng().random_range(Duration::ZERO..=self.next);
        if Instant::now() + pause >= self.end {
            return false;
        }
        tokio::time::sleep(pause).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        counter!(BUCKET_RETRIES).increment(1);
        true
    }
}

/// An error of a call that can be tried again.
pub(super) trait Failure: Send {
    /// Whether the same call may succeed later.
    fn is_transient(&self) -> bool;
    /// The store's answer, if that is what it is.
    fn answer(&self) -> Option<&Answer>;
    /// There was no answer in time.
    fn timed_out(elapsed: Elapsed) -> Self;
}

impl Failure for Error {
    fn is_transient(&self) -> bool {
        is_transient(self)
    }

    fn answer(&self) -> Option<&Answer> {
        answer_in(self)
    }

    fn timed_out(elapsed: Elapsed) -> Self {
        Self::Generic { store: "bucket", source: Box::new(elapsed) }
    }
}

impl Failure for HttpError {
    fn is_transient(&self) -> bool {
        !answer_in(self).is_some_and(Answer::is_final)
    }

    fn answer(&self) -> Option<&Answer> {
        answer_in(self)
    }

    fn timed_out(elapsed: Elapsed) -> Self {
        Self::new(HttpErrorKind::Unknown, elapsed)
    }
}

/// Calls until it is done, fails for good, or `deadline` is over.
pub(super) async fn retry<T, E, F>(deadline: Duration, mut call: impl FnMut() -> F + Send) -> Result<T, E>
where
    F: Future<Output = Result<T, E>> + Send,
    T: Send,
    E: Failure,
{
    let mut pauses = Pauses::until(deadline);
    loop {
        match tokio::time::timeout_at(pauses.end, call()).await {
            Ok(Err(error)) if error.is_transient() => {
                if !pauses.pause(error.answer()).await {
                    return Err(error);
                }
            }
            Ok(result) => return result,
            Err(elapsed) => return Err(E::timed_out(elapsed)),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: ObjectStore> ObjectStore for Retry<S> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        retry(self.deadline, || self.inner.put_opts(location, payload.clone(), options.clone())).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        retry(self.deadline, || self.inner.put_multipart_opts(location, options.clone())).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        retry(self.deadline, || self.inner.get_opts(location, options.clone())).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        retry(self.deadline, || self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, deadline) = (Arc::clone(&self.inner), self.deadline);
        locations
            .chunks(DELETE_BATCH)
            .then(move |batch| delete_batch(Arc::clone(&inner), deadline, batch))
            .flat_map(futures::stream::iter)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, prefix) = (Arc::clone(&self.inner), prefix.cloned());
        opened(self.deadline, move || inner.list(prefix.as_ref()))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, prefix, offset) = (Arc::clone(&self.inner), prefix.cloned(), offset.clone());
        opened(self.deadline, move || inner.list_with_offset(prefix.as_ref(), &offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        retry(self.deadline, || self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        retry(self.deadline, || self.inner.copy_opts(from, to, options.clone())).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        retry(self.deadline, || self.inner.rename_opts(from, to, options.clone())).await
    }
}

/// Deletes the objects of a batch; those whose deletion failed for a while only are tried again. An object that is
/// gone counts as deleted: the attempt before may have been the one.
async fn delete_batch<S: ObjectStore>(
    inner: Arc<S>,
    deadline: Duration,
    batch: Vec<Result<Path>>,
) -> Vec<Result<Path>> {
    let mut results = Vec::with_capacity(batch.len());
    let mut left: Vec<Path> = Vec::with_capacity(batch.len());
    for location in batch {
        match location {
            Ok(location) => left.push(location),
            Err(error) => results.push(Err(error)),
        }
    }
    let mut pauses = Pauses::until(deadline);
    while !left.is_empty() {
        let locations = futures::stream::iter(left.clone().into_iter().map(Ok)).boxed();
        let answers = inner.delete_stream(locations).collect::<Vec<_>>();
        let Ok(mut answers) = tokio::time::timeout_at(pauses.end, answers).await else {
            results.push(Err(Error::Generic { store: "bucket", source: "deleting took too long".into() }));
            return results;
        };
        // One answer for each, in order; if not, the batch failed as a whole.
        let as_a_whole = answers.len() != left.len();
        let mut failed = Vec::new();
        let mut last_error = None;
        if as_a_whole {
            last_error = answers.drain(..).find_map(Result::err);
            failed = std::mem::take(&mut left);
        }
        for (location, answer) in left.drain(..).zip(answers) {
            match answer {
                Ok(_) => results.push(Ok(location)),
                Err(error @ Error::NotFound { .. }) if !said_by(&error).contains(NO_BUCKET) => {
                    results.push(Ok(location))
                }
                Err(error) if is_transient(&error) => {
                    failed.push(location);
                    last_error = Some(error);
                }
                Err(error) => results.push(Err(error)),
            }
        }
        let is_final = as_a_whole && last_error.as_ref().is_some_and(|error| !is_transient(error));
        if !failed.is_empty() && (is_final || !pauses.pause(last_error.as_ref().and_then(Failure::answer)).await) {
            results.extend(last_error.map(Err));
            return results;
        }
        left = failed;
    }
    results
}

/// A listing whose first answer is tried again; an error after it ends the listing, since a local one has no order in
/// which to go on.
fn opened<T: Send + 'static>(
    deadline: Duration,
    mut open: impl FnMut() -> BoxStream<'static, Result<T>> + Send + 'static,
) -> BoxStream<'static, Result<T>> {
    let first = async move {
        let opened = retry(deadline, || {
            let mut listing = open();
            async move {
                match listing.next().await {
                    Some(Err(error)) => Err(error),
                    first => Ok((first, listing)),
                }
            }
        });
        match opened.await {
            Ok((first, listing)) => futures::stream::iter(first).chain(listing).boxed(),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    };
    futures::stream::once(first).flatten().boxed()
}
