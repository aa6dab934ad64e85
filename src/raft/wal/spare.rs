//! Files made ready before they are needed, since overwriting a file is two to three times as fast as growing one.
//!
//! A purged file is recycled: renamed to the name after the last one. Without one a file of zeros is made ahead, but only
//! while the log grows slowly: under load that would write every byte twice, and a file that has no successor ready is
//! then followed by one that is begun empty and grows.
//!
//! A file counts as ready once its name is durable: what is written into it later must not be lost with the name. Each is
//! under the name with which it will be begun, so nothing is renamed in an append's way. What goes wrong here is no error
//! of the log; it goes on without.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::files::{fill, has_room, path_of};
use super::repair::Recovered;
use crate::blocking;
use crate::disk::{self, File, OpenOptions};
use crate::failpoint;
use crate::raft::files::sync_dir;

/// A log that grows more slowly than this has its next file filled with zeros ahead: a file of 16 MiB in a second.
const SLOW_BYTES_A_SECOND: u64 = 16 * 1024 * 1024;
/// Files are prepared while the disk has room for so many.
const ROOM_FILES: u64 = 4;
/// For how long nothing is prepared after the disk ran low.
const LOW_PAUSE: Duration = Duration::from_secs(10);

/// A file that is ready.
#[derive(Debug, Clone, Copy)]
struct Spare {
    len: u64,
    /// It holds something else than zeros.
    recycled: bool,
}

#[derive(Debug, Default)]
struct Spares {
    /// Number of the file that will be begun next.
    next: u64,
    /// Ready under consecutive numbers, the first under `next`.
    ready: VecDeque<Spare>,
    /// The number of the file that the thread works on.
    busy: Option<u64>,
    /// The log waits for it.
    is_wanted: bool,
    /// Files to recycle or remove, oldest first.
    purged: VecDeque<u64>,
    /// Files to remove.
    unfit: VecDeque<u64>,
    /// When the newest file was begun, its header on disk.
    begun: Option<Instant>,
    release: bool,
    /// Bytes of the ready file that is being removed.
    going: u64,
    low_until: Option<Instant>,
    closing: bool,
}

/// See the module.
pub(super) struct Keeper {
    dir: PathBuf,
    file_size: u64,
    /// Bytes of files that may be ready.
    bound: AtomicU64,
    spares: Mutex<Spares>,
    work: Condvar,
    done: Condvar,
}

/// A file to begin.
pub(super) struct Taken {
    pub(super) file: File,
    /// Its name is not durable yet.
    pub(super) is_new: bool,
    /// It holds something else than zeros.
    pub(super) recycled: bool,
}

/// Sees to it that the log does not wait for a thread that is gone.
struct Ending<'a>(&'a Keeper);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.lock().busy = None;
        self.0.done.notify_all();
    }
}

/// What the thread does next.
enum Task {
    Recycle {
        from: u64,
        to: u64,
    },
    Fill(u64),
    Remove(u64),
    /// Nothing before somebody calls, or so much time has passed.
    Wait(Option<Duration>),
}

impl Keeper {
    /// A keeper of the files of `dir`. It changes nothing before the log begins or purges a file.
    pub(super) fn new(dir: &Path, file_size: u64, bound: u64, recovered: &Recovered) -> Self {
        let next = recovered.files.back().map_or(1, |file| file.sequence + 1);
        let mut spares = Spares { next, unfit: recovered.left_over.clone().into(), ..Spares::default() };
        let mut bytes = 0;
        for (sequence, len, recycled) in &recovered.spares {
            let follows = *sequence == next + spares.ready.len() as u64;
            if follows && (file_size / 2..=file_size).contains(len) && bytes + len <= bound {
                bytes += len;
                spares.ready.push_back(Spare { len: *len, recycled: *recycled });
            } else {
                spares.unfit.push_front(*sequence);
            }
        }
        let (work, done) = (Condvar::new(), Condvar::new());
        Self { dir: dir.to_owned(), file_size, bound: AtomicU64::new(bound), spares: Mutex::new(spares), work, done }
    }

    /// The file with which the log goes on: number `sequence`, the one after the newest.
    pub(super) fn take(&self, sequence: u64) -> io::Result<Taken> {
        let mut spares = self.lock();
        debug_assert_eq!(sequence, spares.next);
        while spares.busy == Some(sequence) {
            spares.is_wanted = true;
            spares = self.done.wait(spares).unwrap_or_else(PoisonError::into_inner);
        }
        spares.is_wanted = false;
        spares.next = sequence + 1;
        let ready = spares.ready.pop_front();
        // From now on what has this name is the log's.
        spares.unfit.retain(|unfit| *unfit != sequence);
        drop(spares);
        let path = path_of(&self.dir, sequence);
        if let Some(spare) = ready {
            match OpenOptions::new().write(true).open(&path) {
                Ok(file) => return Ok(Taken { file, is_new: false, recycled: spare.recycled }),
                Err(error) => tracing::warn!(file = %path.display(), %error, "a file made ready cannot be used"),
            }
        }
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        if sequence == 1 && self.may_fill() && fill(&mut file, 0, self.file_size, || false).is_err() {
            // It grows like others do.
            file.set_len(0)?;
        }
        io::Seek::rewind(&mut file)?;
        Ok(Taken { file, is_new: true, recycled: false })
    }

    /// The file that was taken last is part of the log: its header is on disk.
    pub(super) fn begun(&self) {
        self.lock().begun = Some(Instant::now());
        self.call();
    }

    /// These files are not needed any more.
    pub(super) fn purged(&self, files: impl Iterator<Item = u64>) {
        let mut spares = self.lock();
        let before = spares.purged.len();
        spares.purged.extend(files);
        if spares.purged.len() > before {
            drop(spares);
            self.call();
        }
    }

    /// Removes what is ready, and prepares nothing for a while: the disk is low.
    pub(super) fn release(&self) {
        let mut spares = self.lock();
        spares.release = true;
        spares.low_until = Some(Instant::now() + LOW_PAUSE);
        drop(spares);
        self.call();
    }

    /// Sets how many bytes of files may be ready. What is above it is used up or given back when the disk runs low.
    pub(super) fn set_bound(&self, bound: u64) {
        self.bound.store(bound, Ordering::Relaxed);
    }

    fn bound(&self) -> u64 {
        self.bound.load(Ordering::Relaxed)
    }

    /// Bytes of files that are ready, or are given back and still there.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    /// Ends [`Keeper::run`].
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.call();
    }

    /// Has the thread look for something to do. Without one all that need not wait is done here.
    fn call(&self) {
        if !blocking::is_inline() {
            return self.work.notify_one();
        }
        let mut spares = self.lock();
        while !spares.closing {
            let task = self.task(&mut spares);
            if let Task::Wait(_) = task {
                return;
            }
            drop(spares);
            spares = self.done(&task);
        }
    }

    /// Prepares files until the log is closed.
    pub(super) fn run(&self) {
        let _ending = Ending(self);
        let mut spares = self.lock();
        while !spares.closing {
            let task = self.task(&mut spares);
            if let Task::Wait(pause) = task {
                spares = match pause {
                    None => self.work.wait(spares).unwrap_or_else(PoisonError::into_inner),
                    Some(pause) => self.work.wait_timeout(spares, pause).unwrap_or_else(PoisonError::into_inner).0,
                };
                continue;
            }
            drop(spares);
            spares = self.done(&task);
        }
    }

    /// Performs `task` and notes what came of it.
    fn done(&self, task: &Task) -> MutexGuard<'_, Spares> {
        let ready = self.perform(task);
        let mut spares = self.lock();
        if matches!(task, Task::Fill(_)) && ready.is_none() {
            // What failed would fail again.
            spares.low_until = Some(Instant::now() + LOW_PAUSE);
        }
        (spares.busy, spares.going) = (None, 0);
        spares.ready.extend(ready);
        self.done.notify_all();
        spares
    }

    /// What to do now.
    fn task(&self, spares: &mut Spares) -> Task {
        // Before that the log is only looked at.
        let Some(begun) = spares.begun else { return Task::Wait(None) };
        if let Some(unfit) = spares.unfit.pop_front() {
            spares.busy = Some(unfit);
            return Task::Remove(unfit);
        }
        let after = spares.next + spares.ready.len() as u64;
        // The last one first, so that those that are left follow each other.
        if spares.release
            && let Some(last) = spares.ready.pop_back()
        {
            spares.going = last.len;
            spares.busy = Some(after - 1);
            return Task::Remove(after - 1);
        }
        spares.release = false;
        let low = spares.low_until.map(|until| until.saturating_duration_since(Instant::now()));
        let low = low.filter(|pause| !pause.is_zero());
        if let Some(purged) = spares.purged.pop_front() {
            if low.is_some() || spares.bytes() + self.file_size > self.bound() {
                return Task::Remove(purged);
            }
            spares.busy = Some(after);
            return Task::Recycle { from: purged, to: after };
        }
        if !spares.ready.is_empty() || self.file_size > self.bound() {
            return Task::Wait(None);
        }
        let slow = Duration::from_secs_f64(self.file_size as f64 / SLOW_BYTES_A_SECOND as f64);
        let pause = low.unwrap_or_else(|| slow.saturating_sub(begun.elapsed()));
        if !pause.is_zero() {
            return Task::Wait(Some(pause));
        }
        if !self.may_fill() {
            return Task::Wait(Some(LOW_PAUSE));
        }
        spares.busy = Some(after);
        Task::Fill(after)
    }

    /// Whether files of zeros may be made.
    fn may_fill(&self) -> bool {
        self.file_size <= self.bound() && has_room(&self.dir, self.file_size.saturating_mul(ROOM_FILES))
    }

    /// Does it; what is ready then.
    fn perform(&self, task: &Task) -> Option<Spare> {
        match *task {
            Task::Wait(_) => {}
            Task::Remove(sequence) => self.remove(sequence),
            Task::Recycle { from, to } => match self.recycle(from, to) {
                Ok(spare) => return spare,
                Err(error) => {
                    tracing::warn!(%error, "a purged file of the write-ahead log cannot be used again");
                    self.remove(from);
                    self.remove(to);
                }
            },
            Task::Fill(sequence) => match self.prepare(sequence) {
                Ok(spare) => return Some(spare),
                Err(error) => {
                    tracing::warn!(%error, "no file of the write-ahead log can be made ready");
                    self.remove(sequence);
                }
            },
        }
        None
    }

    fn recycle(&self, from: u64, to: u64) -> io::Result<Option<Spare>> {
        let (from, path) = (path_of(&self.dir, from), path_of(&self.dir, to));
        let len = disk::len(&from)?;
        // A file that was begun empty is a little short; one that holds a single large record may be much longer.
        if !(self.file_size / 2..=self.file_size).contains(&len) {
            disk::remove_file(&from)?;
            return Ok(None);
        }
        disk::rename(&from, &path)?;
        failpoint::hit("spare.renamed").map_err(io::Error::other)?;
        self.sync_names()?;
        let file = File::open(&path)?;
        // A write of a part of a page that is not in memory would wait until it is read. This is only a hint.
        file.will_need(len);
        Ok(Some(Spare { len, recycled: true }))
    }

    fn prepare(&self, sequence: u64) -> io::Result<Spare> {
        let path = path_of(&self.dir, sequence);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        // The log takes it as it is, however short.
        let is_wanted = || {
            let spares = self.lock();
            spares.is_wanted || spares.closing
        };
        let len = fill(&mut file, 0, self.file_size, is_wanted)?;
        failpoint::hit("spare.filled").map_err(io::Error::other)?;
        self.sync_names()?;
        Ok(Spare { len, recycled: false })
    }

    /// Makes what was renamed or made durable under its name.
    fn sync_names(&self) -> io::Result<()> {
        if failpoint::skips("wal.sync_directory") { Ok(()) } else { sync_dir(&self.dir) }
    }

    /// Removes a file, or leaves it to the next start.
    fn remove(&self, sequence: u64) {
        let path = path_of(&self.dir, sequence);
        match disk::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = %path.display(), %error, "a file of the write-ahead log cannot be removed");
            }
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Spares> {
        // Nothing in here can panic halfway through a change.
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spares {
    fn bytes(&self) -> u64 {
        self.going + self.ready.iter().map(|spare| spare.len).sum::<u64>()
    }
}
