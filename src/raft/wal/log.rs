//! The log of one shard: its end, its queue, its threads.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use uuid::Uuid;

use super::codec::{WalLogId, WalPayload};
use super::files::path_of;
use super::header::HEADER_BYTES;
use super::places::Place;
use super::queue::{Queue, Stored};
use super::repair::{self, Cut};
use super::spare::Keeper;
use super::tip::Tip;
use super::writer::Writer;
use crate::disk::{File, OpenOptions, TryLockError};
use crate::error::{Error, Result};

/// Held while a log is open: two processes in one log would be its end.
const LOCK: &str = "lock";

/// Where entries are to be had.
pub(super) enum Source {
    /// One, here.
    Memory(WalLogId, WalPayload),
    /// At least one, in a file: read them without holding the log.
    Disk(OnDisk),
}

/// Neighbouring frames of entries in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OnDisk {
    pub(super) path: PathBuf,
    /// WAL offset at which the frames of the file begin.
    pub(super) start: u64,
    /// Index of the first entry.
    pub(super) first: u64,
    /// In the order of the entries, which follow each other; there may be other frames between them.
    pub(super) places: Vec<Place>,
}

impl OnDisk {
    /// Where the frame at WAL offset `offset` is within the file.
    pub(super) fn at(&self, offset: u64) -> u64 {
        HEADER_BYTES as u64 + offset - self.start
    }
}

/// What the log's users and its threads share.
pub(super) struct Core {
    pub(super) dir: PathBuf,
    tip: RwLock<Tip>,
    pub(super) queue: Queue,
    pub(super) keeper: Keeper,
    /// See [`Core::synced`].
    pub(super) synced: AtomicU64,
    /// What the newest mark says.
    marked: AtomicU64,
    /// WAL offsets of the first file's beginning and of the end.
    start: AtomicU64,
    end: AtomicU64,
    closed: AtomicBool,
    /// Where the log's thread is a task: the lock of a closed log until the task is done, and whoever waits for that.
    #[cfg(feature = "simulation")]
    ending: Ending,
}

#[cfg(feature = "simulation")]
#[derive(Default)]
struct Ending {
    lock: Mutex<Option<File>>,
    is_over: tokio::sync::watch::Sender<bool>,
}

impl Core {
    /// Calls `f` with the end of the log, beside other readers.
    pub(super) fn read<T>(&self, f: impl FnOnce(&Tip) -> io::Result<T>) -> io::Result<T> {
        self.check_open()?;
        f(&*self.tip.read().map_err(|_| unusable("an earlier write to the log panicked"))?)
    }

    /// Calls `f` with the end of the log alone.
    pub(super) fn write<T>(&self, f: impl FnOnce(&mut Tip, &Queue) -> io::Result<T>) -> io::Result<T> {
        self.with_tip(|tip| {
            self.check_open()?;
            f(tip, &self.queue)
        })
    }

    /// Says what was synced, if there is news. For the log's thread, which may when nobody else may any more.
    pub(super) fn mark(&self) -> io::Result<()> {
        if !self.mark_is_due() {
            return Ok(());
        }
        self.with_tip(|tip| tip.mark(&self.queue, self.synced()))
    }

    pub(super) fn mark_is_due(&self) -> bool {
        self.synced() > self.marked.load(Ordering::Acquire)
    }

    /// WAL offset below which all was synced.
    pub(super) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    fn with_tip<T>(&self, f: impl FnOnce(&mut Tip) -> io::Result<T>) -> io::Result<T> {
        let mut tip = self.tip.write().map_err(|_| unusable("an earlier write to the log panicked"))?;
        let value = f(&mut tip);
        self.end.store(tip.end(), Ordering::Release);
        self.marked.store(tip.marked(), Ordering::Release);
        value
    }

    fn check_open(&self) -> io::Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(unusable("the log is closed")) } else { Ok(()) }
    }

    /// Where to read entry `index`, and with it some of those that follow it before `end`, `bytes` together; `None` if the
    /// log does not have it.
    pub(super) fn source(&self, index: u64, end: u64, bytes: u64) -> io::Result<Option<Source>> {
        let mut places = self.read(|tip| Ok(tip.neighbours(index, end, bytes)))?;
        let Some(place) = places.first().copied() else { return Ok(None) };
        match self.queue.stored(place.offset) {
            Some(Stored::Memory(id, payload)) => Ok(Some(Source::Memory(id, payload))),
            Some(Stored::In(file, ends)) if file.start <= place.offset => {
                places.retain(|place| place.offset + u64::from(place.len) <= ends);
                let path = path_of(&self.dir, file.sequence);
                Ok(Some(Source::Disk(OnDisk { path, start: file.start, first: index, places })))
            }
            // It went with a purge between the two steps.
            _ if self.read(|tip| Ok(tip.place(index) != Some(place)))? => Ok(None),
            _ => Err(super::codec::invalid(format!("entry {index} is in no file of the log"))),
        }
    }

    /// Bytes from the beginning of the first file to the end.
    pub(super) fn bytes(&self) -> u64 {
        self.end.load(Ordering::Acquire).saturating_sub(self.start.load(Ordering::Acquire))
    }

    /// Takes the files below WAL offset `free` out of the log; file `newest` is the newest that has its header on disk.
    pub(super) fn release(&self, free: u64, newest: u64) {
        let released = self.queue.release(free, newest);
        if let Some(start) = self.queue.start() {
            self.start.store(start, Ordering::Release);
        }
        self.keeper.purged(released.iter().map(|file| file.sequence));
    }
}

fn unusable(why: &'static str) -> io::Error {
    io::Error::other(why)
}

/// A log that is open; closed when it is dropped.
pub(super) struct WalLog {
    pub(super) core: Arc<Core>,
    running: Mutex<Option<Running>>,
}

/// What an open log holds.
struct Running {
    /// Writing and keeping; none where they are a task.
    threads: Option<[JoinHandle<()>; 2]>,
    /// Unlocked by the system when it is closed.
    lock: File,
}

impl WalLog {
    /// Opens the log in `dir`, which exists; `directory` is the identity that its files carry, `file_size` the bytes at
    /// which a file is ended, `spare` how many bytes of files may be kept ready. Repairs a torn tail; otherwise nothing is
    /// written until something is appended.
    ///
    /// # Errors
    /// `corrupt` if acknowledged bytes are damaged, `internal` if the directory cannot be read or is in use.
    pub(super) fn open(dir: &Path, directory: Uuid, file_size: u64, spare: u64) -> Result<(Self, Option<Cut>)> {
        let failed = |error: io::Error| {
            Error::internal(format!("cannot open the write-ahead log in {}", dir.display())).with_source(error)
        };
        let lock = lock(dir).map_err(failed)?;
        let mut recovered = repair::open(dir, directory)?;
        let cut = recovered.cut.take();
        let start = recovered.files.front().map_or(recovered.end, |file| file.start);
        let core = Arc::new(Core {
            dir: dir.to_owned(),
            queue: Queue::new(recovered.files.clone(), recovered.end),
            keeper: Keeper::new(dir, file_size, spare, &recovered),
            synced: AtomicU64::new(recovered.end),
            marked: AtomicU64::new(u64::MAX),
            start: AtomicU64::new(start),
            end: AtomicU64::new(recovered.end),
            closed: AtomicBool::new(false),
            #[cfg(feature = "simulation")]
            ending: Ending::default(),
            tip: RwLock::new(Tip::new(recovered, directory, file_size)),
        });
        let threads = threads(&core).map_err(failed)?;
        Ok((Self { core, running: Mutex::new(Some(Running { threads, lock })) }, cut))
    }

    /// Writes and syncs what is pending and gives the directory back; all reads and writes fail from then on.
    pub(super) fn close(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(running) = running else { return };
        {
            // Whoever is in the middle of a write ends it first.
            let _tip = self.core.tip.write();
            self.core.closed.store(true, Ordering::Release);
        }
        let Running { threads, lock } = running;
        #[cfg(feature = "simulation")]
        let lock = self.core.hand_over(lock, threads.is_none());
        self.core.queue.close();
        self.core.keeper.close();
        for thread in threads.into_iter().flatten() {
            if thread.join().is_err() {
                tracing::error!("a thread of the write-ahead log panicked");
            }
        }
        drop(lock);
    }
}

#[cfg(feature = "simulation")]
impl Core {
    /// Leaves the lock to the task that writes, if that has something to write.
    fn hand_over(&self, lock: File, is_task: bool) -> Option<File> {
        if !is_task || (self.queue.is_idle() && !self.mark_is_due()) {
            return Some(lock);
        }
        *self.ending.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
        None
    }

    /// Returns once the task that writes has ended.
    pub(super) async fn ended(&self) {
        // The sender is here: there is no error.
        let _ = self.ending.is_over.subscribe().wait_for(|over| *over).await;
    }
}

impl Drop for WalLog {
    fn drop(&mut self) {
        self.close();
    }
}

fn threads(core: &Arc<Core>) -> io::Result<Option<[JoinHandle<()>; 2]>> {
    #[cfg(feature = "simulation")]
    if crate::blocking::is_inline() {
        core.queue.sleeps();
        let (core, writer) = (Arc::clone(core), Writer::new(Arc::clone(core)));
        tokio::spawn(async move {
            writer.run_as_task().await;
            core.ending.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
            core.ending.is_over.send_replace(true);
        });
        return Ok(None);
    }
    let keeping = Arc::clone(core);
    let keeper = std::thread::Builder::new().name("wal-spare".to_owned()).spawn(move || keeping.keeper.run())?;
    let writer = Writer::new(Arc::clone(core));
    match std::thread::Builder::new().name("wal".to_owned()).spawn(move || writer.run()) {
        Ok(thread) => Ok(Some([thread, keeper])),
        Err(error) => {
            core.keeper.close();
            Err(error)
        }
    }
}

fn lock(dir: &Path) -> io::Result<File> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(unusable("it is open already")),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
