//! What files say, read again when they change: a renewed certificate, a token that was added or taken away.
//!
//! Files that cannot be used leave what there was before in use, with one warning; at the start they are an error.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use tidelog::error::{Error, Result};

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(2);
/// A file that is larger is not one of ours.
const MAX_FILE: u64 = 1 << 20;

/// Modification time in nanoseconds, length and inode of a file.
type Stamp = (i128, u64, u64);
/// Makes a value of the files' contents.
type Read<T> = Box<dyn Fn(&[PathBuf]) -> Result<T> + Send + Sync>;

/// See the module.
pub(crate) struct Reloaded<T> {
    files: Vec<PathBuf>,
    read: Read<T>,
    current: RwLock<Arc<T>>,
    /// The files as they were when they were last read, well or not; empty if one of them was not there.
    seen: Mutex<Vec<Stamp>>,
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Reads the files, and follows them while the result lives.
    ///
    /// # Errors
    /// They cannot be used.
    pub(crate) fn open(
        files: Vec<PathBuf>,
        read: impl Fn(&[PathBuf]) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Arc<Self>> {
        // Before the reading, so that a change in between is seen the next time.
        let seen = Mutex::new(stamps(&files)?);
        let current = RwLock::new(Arc::new(read(&files)?));
        let reloaded = Arc::new(Self { files, read: Box::new(read), current, seen });
        tokio::spawn(follow(Arc::downgrade(&reloaded)));
        Ok(reloaded)
    }

    /// Looks at what was read last.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files if they have changed.
    pub(crate) fn refresh(&self) {
        // One at a time, or an older reading might replace a newer one.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let found = stamps(&self.files);
        if found.as_ref().map_or(&[][..], Vec::as_slice) == seen.as_slice() {
            return;
        }
        *seen = found.as_ref().map_or_else(|_| Vec::new(), Clone::clone);
        match found.and_then(|_| (self.read)(&self.files)) {
            Ok(value) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                tracing::info!(files = ?self.files, "files that changed were read again");
            }
            Err(error) => {
                tracing::warn!(?error, "files changed and cannot be used: what they said before stays in force");
            }
        }
    }
}

/// Looks at the files until nobody uses them any more.
async fn follow<T: Send + Sync + 'static>(reloaded: Weak<Reloaded<T>>) {
    loop {
        tokio::time::sleep(POLL).await;
        let Some(reloaded) = reloaded.upgrade() else { return };
        // A task that did not run leaves what there was.
        let _ = tokio::task::spawn_blocking(move || reloaded.refresh()).await;
    }
}

fn stamps(files: &[PathBuf]) -> Result<Vec<Stamp>> {
    files.iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Result<Stamp> {
    let metadata = fs::metadata(path).map_err(|error| unusable(path, error))?;
    if metadata.len() > MAX_FILE {
        return Err(unusable(path, format!("it has {} bytes", metadata.len())));
    }
    let nanoseconds = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    Ok((nanoseconds, metadata.len(), metadata.ino()))
}

/// The error about a file.
pub(crate) fn unusable(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::invalid("invalid_settings", format!("{} cannot be used", path.display())).with_source(source)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn number(files: &[PathBuf]) -> Result<u32> {
        let text = fs::read_to_string(&files[0]).map_err(|error| unusable(&files[0], error))?;
        text.trim().parse().map_err(|error: std::num::ParseIntError| unusable(&files[0], error))
    }

    #[tokio::test]
    async fn a_change_is_read_and_what_cannot_be_used_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        assert!(Reloaded::open(vec![path.clone()], number).is_err(), "nothing is there");
        fs::write(&path, "x").unwrap();
        assert!(Reloaded::open(vec![path.clone()], number).is_err(), "no number is there");
        fs::write(&path, "1").unwrap();
        let reloaded = Reloaded::open(vec![path.clone()], number).unwrap();
        assert_eq!(reloaded.with(|number| *number), 1);
        for (text, expected) in [("22", 22), ("none", 22), ("333", 333)] {
            fs::write(&path, text).unwrap();
            reloaded.refresh();
            assert_eq!(reloaded.with(|number| *number), expected, "{text}");
        }
        fs::remove_file(&path).unwrap();
        reloaded.refresh();
        assert_eq!(reloaded.with(|number| *number), 333);
        fs::write(&path, "4444").unwrap();
        reloaded.refresh();
        assert_eq!(reloaded.with(|number| *number), 4_444);
        fs::write(&path, vec![b'1'; MAX_FILE as usize + 1]).unwrap();
        reloaded.refresh();
        assert_eq!(reloaded.with(|number| *number), 4_444);
    }
}
