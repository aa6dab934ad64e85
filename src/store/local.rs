//! The local bucket, made durable: `object_store`'s own local store never syncs, so a PUT that returned could be lost
//! by a power cut after the Raft log that held its records was purged.
//!
//! Here an object is written under a staging name (`name#digits`, which listings hide), synced, renamed, and the
//! directories that name it are synced, newly created ones and their parents included, before the call returns. So an
//! object is either absent or whole, at any moment. Reads, listings and deletions are `object_store`'s.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use crate::failpoint;

/// Directories remembered as synced; beyond that all are forgotten and synced again.
const REMEMBERED_DIRECTORIES: usize = 65_536;

/// A local directory as a bucket whose writes are durable when they return.
#[derive(Debug)]
pub(super) struct LocalDurable {
    inner: LocalFileSystem,
    directories: Arc<Directories>,
}

/// Which directories are known to be durable.
#[derive(Debug)]
struct Directories {
    root: PathBuf,
    synced: Mutex<HashSet<PathBuf>>,
    staged: AtomicU64,
}

impl LocalDurable {
    /// Opens the directory `root`, an absolute path, and creates it durably if it is not there.
    pub(super) fn open(root: &FilePath) -> io::Result<Self> {
        create_durably(root)?;
        let root = root.canonicalize()?;
        // It may have been created by a process that a crash kept from syncing it.
        root.parent().map_or(Ok(()), sync_directory)?;
        let inner = LocalFileSystem::new_with_prefix(&root).map_err(io::Error::other)?;
        // A random start keeps the staging names of processes that share the directory apart.
        let staged = AtomicU64::new(u64::from(rand::random::<u32>()) << 20);
        Ok(Self { inner, directories: Arc::new(Directories { root, synced: Mutex::default(), staged }) })
    }

    /// The directory.
    pub(super) fn root(&self) -> &FilePath {
        &self.directories.root
    }

    /// Removes staging files that a crash left, if nothing was written to them for `age`; returns how many.
    pub(super) fn remove_stale_uploads(&self, age: Duration) -> io::Result<usize> {
        let mut removed = 0;
        let mut pending = vec![self.directories.root.clone()];
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() {
                    pending.push(entry.path());
                } else if is_staging(&entry.file_name().to_string_lossy())
                    && metadata
                        .modified()
                        .is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|d| d > age))
                    && fs::remove_file(entry.path()).is_ok()
                {
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

impl fmt::Display for LocalDurable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalDurable({})", self.directories.root.display())
    }
}

fn is_staging(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, digits)| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn sync_directory(path: &FilePath) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Creates `path` and its missing ancestors, and syncs every directory that names a new one.
fn create_durably(path: &FilePath) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "no parent directory"))?;
    create_durably(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_directory(parent)
}

impl Directories {
    /// Creates the directories above `path` and makes sure that each is named durably. One that exists may have been
    /// created a moment ago by another call, or before a crash by another process: each is synced once by us.
    fn prepare(&self, path: &FilePath) -> io::Result<()> {
        let Some(parent) = path.parent() else { return Ok(()) };
        if parent == self.root || self.is_synced(parent) {
            return Ok(());
        }
        self.prepare(parent)?;
        match fs::create_dir(parent) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if let Some(above) = parent.parent() {
            sync_directory(above)?;
        }
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if synced.len() >= REMEMBERED_DIRECTORIES {
            synced.clear();
        }
        synced.insert(parent.to_owned());
        Ok(())
    }

    fn is_synced(&self, directory: &FilePath) -> bool {
        self.synced.lock().unwrap_or_else(PoisonError::into_inner).contains(directory)
    }

    fn forget(&self) {
        self.synced.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A new staging file for `destination`.
    fn stage(&self, destination: &FilePath) -> io::Result<Staged> {
        if let Err(error) = self.prepare(destination) {
            // Somebody removed a directory that we remembered: begin anew.
            self.forget();
            return Err(error);
        }
        loop {
            let mut path = destination.as_os_str().to_owned();
            path.push(format!("#{}", self.staged.fetch_add(1, Ordering::Relaxed)));
            let path = PathBuf::from(path);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    return Ok(Staged { file, path: Some(path), destination: destination.to_owned() });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    self.forget();
                    return Err(error);
                }
            }
        }
    }
}

/// A file on its way; dropped before it was published, it is removed.
#[derive(Debug)]
struct Staged {
    file: File,
    path: Option<PathBuf>,
    destination: PathBuf,
}

impl Staged {
    /// Syncs the file, gives it its name and syncs the directory.
    fn publish(mut self, create: bool) -> io::Result<()> {
        self.file.sync_all()?;
        let Some(path) = self.path.as_ref() else { return Ok(()) };
        if create {
            // A link fails if the name is taken; a rename would replace it. The staging name goes when this is dropped.
            if let Err(error) = fs::hard_link(path, &self.destination) {
                // Who is told that it exists builds on it, and whoever created it may have been killed before its sync.
                self.destination.parent().map_or(Ok(()), sync_directory)?;
                return Err(error);
            }
        } else {
            fs::rename(path, &self.destination)?;
            self.path = None;
        }
        if failpoint::skips("bucket.sync_directory") {
            return Ok(());
        }
        self.destination.parent().map_or(Ok(()), sync_directory)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

fn convert(path: &FilePath, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::AlreadyExists => Error::AlreadyExists { path: path.display().to_string(), source: Box::new(error) },
        ErrorKind::PermissionDenied => {
            Error::PermissionDenied { path: path.display().to_string(), source: Box::new(error) }
        }
        _ => Error::Generic { store: "LocalDurable", source: Box::new(error) },
    }
}

/// Runs `work` where blocking is allowed.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

fn unsupported(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: "LocalDurable".to_owned() }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for LocalDurable {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let create = match options.mode {
            PutMode::Overwrite => false,
            PutMode::Create => true,
            PutMode::Update(_) => return Err(unsupported("put of a known version")),
        };
        let path = self.inner.path_to_filesystem(location)?;
        let directories = Arc::clone(&self.directories);
        blocking(move || {
            let write = || {
                let mut staged = directories.stage(&path)?;
                payload.iter().try_for_each(|part| staged.file.write_all(part))?;
                staged.publish(create)
            };
            write().map_err(|error| convert(&path, error))?;
            Ok(PutResult { e_tag: None, version: None })
        })
        .await
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let path = self.inner.path_to_filesystem(location)?;
        let directories = Arc::clone(&self.directories);
        let staged = blocking(move || directories.stage(&path).map_err(|error| convert(&path, error))).await?;
        Ok(Box::new(LocalUpload { staged: Some(Arc::new(staged)), offset: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    // Nothing copies or renames objects; refused rather than done without a sync.
    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(unsupported("copy"))
    }

    async fn rename_opts(&self, _: &Path, _: &Path, _: RenameOptions) -> Result<()> {
        Err(unsupported("rename"))
    }
}

/// An upload in parts; the object appears, durable, when it is completed.
#[derive(Debug)]
struct LocalUpload {
    staged: Option<Arc<Staged>>,
    offset: u64,
}

#[async_trait]
impl MultipartUpload for LocalUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let mut offset = self.offset;
        self.offset += data.content_length() as u64;
        let Some(staged) = self.staged.clone() else {
            return futures::future::ready(Err(unsupported("a part after the end"))).boxed();
        };
        blocking(move || {
            for part in &data {
                staged.file.write_all_at(part, offset).map_err(|error| convert(&staged.destination, error))?;
                offset += part.len() as u64;
            }
            Ok(())
        })
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let staged = self.staged.take().and_then(Arc::into_inner);
        let staged = staged.ok_or_else(|| unsupported("completing an upload with parts in flight"))?;
        blocking(move || {
            let path = staged.destination.clone();
            staged.publish(false).map_err(|error| convert(&path, error))?;
            Ok(PutResult { e_tag: None, version: None })
        })
        .await
    }

    async fn abort(&mut self) -> Result<()> {
        self.staged = None;
        Ok(())
    }
}
