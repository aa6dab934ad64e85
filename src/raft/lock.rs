//! The lock on a data directory: one process at a time, and a refused start can name the holder.

use std::io;
use std::path::{Path, PathBuf};

use super::files;
use crate::disk::{File, OpenOptions, TryLockError};
use crate::error::{Error, ErrorKind, Result};

const FILE: &str = "tidelog.lock";
/// What the holder wrote of itself is for people; more is not read.
const MAX_HOLDER_BYTES: usize = 1024;

/// Holds a data directory until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DirLock {
    file: File,
    path: PathBuf,
}

impl DirLock {
    /// Locks `dir`, which is created if need be, and writes who holds it: the process id and `address`.
    ///
    /// # Errors
    /// `data_dir_in_use` naming the holder, or `internal` if the directory cannot be used.
    pub fn acquire(dir: &Path, address: &str) -> Result<Self> {
        let failed = |error: io::Error| {
            Error::internal(format!("cannot use the directory {}", dir.display())).with_source(error)
        };
        files::create_dirs(dir).map_err(failed)?;
        let path = dir.join(FILE);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(dir, &file)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let lock = Self { file, path };
        lock.set_address(address)?;
        Ok(lock)
    }

    /// Writes another address, once it is known.
    ///
    /// # Errors
    /// `internal` if it cannot be written.
    pub fn set_address(&self, address: &str) -> Result<()> {
        let failed =
            |error: io::Error| Error::internal(format!("cannot write {}", self.path.display())).with_source(error);
        let holder = format!("process {} listening on {address}\n", std::process::id());
        self.file.set_len(0).and_then(|()| self.file.write_all_at(holder.as_bytes(), 0)).map_err(failed)
    }
}

fn in_use(dir: &Path, file: &File) -> Error {
    let mut bytes = [0; MAX_HOLDER_BYTES];
    // What cannot be read is left out: the lock itself is what counts.
    let read = file.read_at(&mut bytes, 0).unwrap_or(0);
    let holder = std::str::from_utf8(&bytes[..read]).unwrap_or_default().trim();
    let holder = if holder.is_empty() { "another process" } else { holder };
    Error::new(ErrorKind::Conflict, "data_dir_in_use", format!("{} is in use by {holder}", dir.display()))
        .with_text("holder", holder)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let held = DirLock::acquire(&path, "127.0.0.1:0").unwrap();
        held.set_address("127.0.0.1:7070").unwrap();
        let refused = DirLock::acquire(&path, "127.0.0.1:7071").unwrap_err();
        assert_eq!(refused.code(), "data_dir_in_use");
        let holder = format!("process {} listening on 127.0.0.1:7070", std::process::id());
        assert!(refused.message().ends_with(&holder), "{refused}");
        drop(held);
        DirLock::acquire(&path, "127.0.0.1:7071").unwrap();
    }
}
