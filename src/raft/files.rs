//! Durable files: what is written here is whole and on disk, or not there.

use std::io::{self, Write};
use std::path::Path;

use crate::disk::{self, File};

/// Writes `name` in `dir` so that a crash leaves the old content or the new: temporary file, sync, rename, directory
/// sync.
///
/// # Errors
/// Those of the file system; the old content is then still there, and what was written of the new one is gone.
pub(crate) fn replace(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    let renamed = write(&temporary, content).and_then(|()| disk::rename(&temporary, &dir.join(name)));
    if renamed.is_err() {
        // On a full disk it would be in its own way. What cannot be removed is written over the next time.
        let _ = disk::remove_file(&temporary);
    }
    renamed?;
    sync_dir(dir)
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Makes the names in `dir` durable.
///
/// # Errors
/// Those of the file system.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates `dir` and its missing parents, with their names durable. A process that was killed may have created the last one
/// that is there and not have synced it, so that one is synced as well.
///
/// # Errors
/// Those of the file system.
pub(crate) fn create_dirs(dir: &Path) -> io::Result<()> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    if disk::is_dir(dir) {
        return match sync_dir(parent) {
            // What may not even be read is not ours: somebody else created `dir`.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        };
    }
    if parent != Path::new(".") {
        create_dirs(parent)?;
    }
    match disk::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    sync_dir(parent)
}
