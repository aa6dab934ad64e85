//! The disk under the write-ahead log and the files beside it: the operating system's, or in a simulation one in memory.
//!
//! As in `std::fs`, and a product has nothing but that: the disk in memory is compiled with the feature `simulation` only.
//! There a path below a mounted directory (`mount`) is on that disk. Nothing here decides what is written or when it is synced.

#[cfg(feature = "simulation")]
mod memory;
#[cfg(feature = "simulation")]
mod node;
#[cfg(all(test, feature = "simulation"))]
mod tests;

pub use std::fs::TryLockError;
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

#[cfg(feature = "simulation")]
pub use memory::{Disk, Mount, mount};

/// An open file, or a directory that is open to be synced.
#[derive(Debug)]
pub struct File(Kind);

#[derive(Debug)]
enum Kind {
    System(std::fs::File),
    #[cfg(feature = "simulation")]
    Memory(memory::Open),
}

/// Calls a method of whatever the file is.
macro_rules! on {
    ($kind:expr, $file:ident => $call:expr) => {
        match $kind {
            Kind::System($file) => $call,
            #[cfg(feature = "simulation")]
            Kind::Memory($file) => $call,
        }
    };
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct OpenOptions {
    read: bool,
    write: bool,
    create: bool,
    truncate: bool,
}

impl OpenOptions {
    /// Neither to read nor to write.
    pub fn new() -> Self {
        Self::default()
    }

    /// To read.
    pub fn read(mut self, read: bool) -> Self {
        self.read = read;
        self
    }

    /// To write.
    pub fn write(mut self, write: bool) -> Self {
        self.write = write;
        self
    }

    /// Made if it is not there.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Empty.
    pub fn truncate(mut self, truncate: bool) -> Self {
        self.truncate = truncate;
        self
    }

    /// Opens `path`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        #[cfg(feature = "simulation")]
        if let Some(disk) = memory::of(path) {
            return disk.open(path, self.create, self.truncate).map(|open| File(Kind::Memory(open)));
        }
        let Self { read, write, create, truncate } = self;
        let opened =
            std::fs::OpenOptions::new().read(read).write(write).create(create).truncate(truncate).open(path)?;
        Ok(File(Kind::System(opened)))
    }
}

impl File {
    /// Opens `path` to read, or a directory to sync it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::new().read(true).open(path)
    }

    /// Opens `path` to write, empty.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path)
    }

    /// Makes content and length durable; the names in a directory.
    ///
    /// # Errors
    /// Those of the file system; what is durable is not known then.
    pub fn sync_all(&self) -> io::Result<()> {
        on!(&self.0, file => file.sync_all())
    }

    /// Makes content durable, and of the rest what is needed to read it.
    ///
    /// # Errors
    /// Those of the file system; what is durable is not known then.
    pub fn sync_data(&self) -> io::Result<()> {
        on!(&self.0, file => file.sync_data())
    }

    /// Cuts the file, or fills it with zeros.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        on!(&self.0, file => file.set_len(len))
    }

    /// Bytes in the file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn len(&self) -> io::Result<u64> {
        match &self.0 {
            Kind::System(file) => file.metadata().map(|metadata| metadata.len()),
            #[cfg(feature = "simulation")]
            Kind::Memory(file) => file.len(),
        }
    }

    /// Whether there is nothing in the file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Takes the file's lock until this is dropped.
    ///
    /// # Errors
    /// `WouldBlock` if somebody has it.
    pub fn try_lock(&self) -> Result<(), TryLockError> {
        on!(&self.0, file => file.try_lock())
    }

    /// Reads some bytes from `offset` on.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        on!(&self.0, file => file.read_at(buffer, offset))
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` if there are not so many, or those of the file system.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match &self.0 {
            Kind::System(file) => file.read_exact_at(buffer, offset),
            #[cfg(feature = "simulation")]
            Kind::Memory(file) => match file.read_at(buffer, offset)? {
                read if read == buffer.len() => Ok(()),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            },
        }
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// Those of the file system; some of it may be written then.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match &self.0 {
            Kind::System(file) => file.write_all_at(bytes, offset),
            #[cfg(feature = "simulation")]
            Kind::Memory(file) => file.write_at(bytes, offset).map(drop),
        }
    }

    /// Has the system read all of the file ahead. Only a hint.
    pub fn will_need(&self, len: u64) {
        match &self.0 {
            Kind::System(file) => {
                let len = std::num::NonZeroU64::new(len);
                let _ = rustix::fs::fadvise(file, 0, len, rustix::fs::Advice::WillNeed);
            }
            #[cfg(feature = "simulation")]
            Kind::Memory(_) => {}
        }
    }

    /// Returns as soon as the device begins with a sync of what was written: at once, but on a simulated disk that is slow.
    #[cfg(feature = "simulation")]
    pub async fn before_sync(&self) {
        if let Kind::Memory(file) = &self.0 {
            let delay = file.sync_delay();
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
        }
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        on!(&mut self.0, file => file.read(buffer))
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        on!(&mut self.0, file => file.write(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        on!(&mut self.0, file => file.write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        on!(&mut self.0, file => file.flush())
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        on!(&mut self.0, file => file.seek(to))
    }
}

/// Calls the disk of `path`, or the operating system.
macro_rules! at {
    ($path:expr, $disk:ident => $simulated:expr, $system:expr) => {{
        #[cfg(feature = "simulation")]
        if let Some($disk) = memory::of($path) {
            return $simulated;
        }
        $system
    }};
}

/// The content of the file at `path`.
///
/// # Errors
/// Those of the file system.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    at!(path, disk => disk.read(path), std::fs::read(path))
}

/// Bytes in the file at `path`.
///
/// # Errors
/// Those of the file system.
pub fn len(path: &Path) -> io::Result<u64> {
    at!(path, disk => disk.len(path), std::fs::metadata(path).map(|metadata| metadata.len()))
}

/// Whether there is a file at `path`.
#[must_use]
pub fn is_file(path: &Path) -> bool {
    at!(path, disk => disk.is_file(path), path.is_file())
}

/// Whether there is a directory at `path`.
#[must_use]
pub fn is_dir(path: &Path) -> bool {
    at!(path, disk => disk.is_dir(path), path.is_dir())
}

/// Whether there is anything at `path`.
///
/// # Errors
/// That it cannot be told.
pub fn try_exists(path: &Path) -> io::Result<bool> {
    at!(path, disk => Ok(disk.is_file(path) || disk.is_dir(path)), path.try_exists())
}

/// Makes the directory `path`, whose parent is there.
///
/// # Errors
/// `AlreadyExists`, or those of the file system.
pub fn create_dir(path: &Path) -> io::Result<()> {
    at!(path, disk => disk.create_dir(path), std::fs::create_dir(path))
}

/// Removes the file at `path`.
///
/// # Errors
/// Those of the file system.
pub fn remove_file(path: &Path) -> io::Result<()> {
    at!(path, disk => disk.remove_file(path), std::fs::remove_file(path))
}

/// Renames a file within a directory, in the place of one that is there.
///
/// # Errors
/// Those of the file system.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    at!(from, disk => disk.rename(from, to), std::fs::rename(from, to))
}

/// The paths of what is in the directory `path`, in no order.
///
/// # Errors
/// Those of the file system.
pub fn read_dir(path: &Path) -> io::Result<Vec<PathBuf>> {
    at!(path, disk => disk.read_dir(path), {
        std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect()
    })
}

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this process may still write.
    pub free: u64,
    /// Bytes of the whole disk.
    pub total: u64,
}

/// How much room there is on the disk of `path`.
///
/// # Errors
/// Those of the file system.
pub fn space(path: &Path) -> io::Result<Space> {
    at!(path, disk => Ok(disk.space()), {
        let disk = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Ok(Space { free: bytes(disk.f_bavail), total: bytes(disk.f_blocks) })
    })
}
