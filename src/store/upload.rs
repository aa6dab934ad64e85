//! An object of unknown length: one call if it is short, parts if it is long.
//!
//! Nothing is there before [`Upload::finish`]. Each part is tried again like any call. What an upload that broke off leaves is
//! removed by [`Upload::abort`], or else by the bucket's lifecycle rule.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions,
    PutPayload,
};

use super::error::StoreError;

/// An object on its way. Dropped before [`Upload::finish`] returned, it does not appear; on S3 its parts stay until the
/// bucket's lifecycle rule removes them, so prefer [`Upload::abort`].
pub struct Upload {
    key: String,
    path: Path,
    store: Arc<dyn ObjectStore>,
    part_bytes: usize,
    attributes: Attributes,
    /// None until the first part is full.
    parts: Option<Box<dyn MultipartUpload>>,
    sent: u64,
    buffered: Vec<Bytes>,
    buffered_bytes: usize,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("key", &self.key).field("sent", &self.sent).finish_non_exhaustive()
    }
}

impl Upload {
    /// An upload to `path`, which is `key`, in parts of `part_bytes`.
    pub(super) fn new(key: &str, path: Path, store: Arc<dyn ObjectStore>, part_bytes: usize) -> Self {
        let (attributes, parts, sent, buffered, buffered_bytes) = (Attributes::default(), None, 0, Vec::new(), 0);
        Self { key: key.to_owned(), path, store, part_bytes, attributes, parts, sent, buffered, buffered_bytes }
    }

    /// The same for an object of a storage class.
    pub(super) fn of_class(mut self, class: Option<&str>) -> Self {
        if let Some(class) = class {
            self.attributes.insert(Attribute::StorageClass, class.to_owned().into());
        }
        self
    }

    /// Adds bytes; holds less than one part in memory when it returns.
    ///
    /// # Errors
    /// What the bucket says; the upload has to be aborted then.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.buffered_bytes += bytes.len();
        self.buffered.push(bytes);
        if self.buffered_bytes >= self.part_bytes { self.send().await } else { Ok(()) }
    }

    /// Bytes that wait in memory for the rest of their part.
    #[must_use]
    pub const fn buffered(&self) -> usize {
        self.buffered_bytes
    }

    fn failed(&self, error: object_store::Error) -> StoreError {
        StoreError::new("upload", &self.key, error)
    }

    fn take(&mut self) -> PutPayload {
        self.sent += self.buffered_bytes as u64;
        self.buffered_bytes = 0;
        std::mem::take(&mut self.buffered).into_iter().collect()
    }

    async fn send(&mut self) -> Result<(), StoreError> {
        if self.parts.is_none() {
            let options = PutMultipartOptions { attributes: self.attributes.clone(), ..PutMultipartOptions::default() };
            let begun = self.store.put_multipart_opts(&self.path, options).await;
            self.parts = Some(begun.map_err(|error| self.failed(error))?);
        }
        let payload = self.take();
        match &mut self.parts {
            Some(parts) => {
                let part = parts.put_part(payload);
                part.await.map_err(|error| self.failed(error))
            }
            None => Ok(()),
        }
    }

    /// Makes the object appear, durable when this returns.
    ///
    /// # Errors
    /// What the bucket says; whether the object exists is unknown then.
    pub async fn finish(mut self) -> Result<(), StoreError> {
        if self.parts.is_none() {
            let payload = self.take();
            let options = PutOptions { attributes: self.attributes.clone(), ..PutOptions::default() };
            let done = self.store.put_opts(&self.path, payload, options).await;
            return done.map(|_| ()).map_err(|error| self.failed(error));
        }
        if !self.buffered.is_empty() {
            self.send().await?;
        }
        let Some(mut parts) = self.parts.take() else { return Ok(()) };
        match parts.complete().await {
            Ok(_) => Ok(()),
            // An earlier attempt was done and its answer lost: the upload is over, and the object is there. Nobody else writes one
            // of that key. Some stores deny what is not there.
            Err(error @ (Error::NotFound { .. } | Error::PermissionDenied { .. })) => {
                match self.store.head(&self.path).await {
                    Ok(there) if there.size == self.sent => Ok(()),
                    _ => Err(self.failed(error)),
                }
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Gives the upload up and removes its parts.
    ///
    /// # Errors
    /// What the bucket says; the parts are then left to its lifecycle rule.
    pub async fn abort(mut self) -> Result<(), StoreError> {
        match self.parts.take() {
            Some(mut parts) => parts.abort().await.map_err(|error| self.failed(error)),
            None => Ok(()),
        }
    }
}
