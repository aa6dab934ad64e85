//! The log's thread: writes groups, syncs them, tells those who wait.
//!
//! Its order is what a crash finds. A file is synced whole before the next one is begun, and a file's header is written with
//! its first group. Nobody is told before the sync, of the file and, if its name is new, of the directory. A purged file
//! is given up after the sync of the purge.

use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::files::path_of;
use super::group::Group;
use super::header::{FileHeader, HEADER_BYTES};
use super::log::Core;
use super::queue::{Span, Work};
use crate::disk::{File, OpenOptions};
use crate::failpoint;
use crate::raft::files::sync_dir;

/// See the module.
pub(super) struct Writer {
    core: Arc<Core>,
    /// The newest file and the end of a log that was opened, until something is written.
    found: Option<(Span, u64)>,
    /// WAL offset below which nothing was needed when the log was opened.
    free: Option<u64>,
    file: Option<Current>,
}

/// The file that is written to.
struct Current {
    file: File,
    sequence: u64,
    /// It has bytes that are not synced.
    is_dirty: bool,
    /// Its name may not be durable.
    is_new: bool,
    /// Nothing was synced in it yet.
    is_fresh: bool,
}

/// Sees to it that nobody waits for a thread that is gone.
struct Ending<'a>(&'a Core);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.queue.fail(&io::Error::other("the log's thread has ended"));
    }
}

impl Writer {
    /// A writer that goes on where the log ends.
    pub(super) fn new(core: Arc<Core>) -> Self {
        let found = core.read(|tip| Ok((tip.file().map(|file| (file, tip.end())), tip.needed_from())));
        let (found, free) = found.map_or((None, None), |(found, free)| (found, Some(free)));
        Self { core, found, free, file: None }
    }

    /// Writes until the log is closed, or until a write or a sync fails.
    pub(super) fn run(mut self) {
        let core = Arc::clone(&self.core);
        let _ending = Ending(&core);
        if let Err(error) = self.work() {
            tracing::error!(%error, dir = %core.dir.display(), "the write-ahead log cannot be written");
            core.queue.fail(&error);
        }
    }

    fn work(&mut self) -> io::Result<()> {
        let core = Arc::clone(&self.core);
        loop {
            match core.queue.next(|| core.mark_is_due()) {
                Work::Groups(groups) => self.commit(groups)?,
                Work::Idle => {
                    core.mark()?;
                    self.commit(core.queue.take())?;
                }
                Work::Closed => {
                    core.mark()?;
                    self.commit(core.queue.take())?;
                    return self.sync();
                }
            }
        }
    }

    fn commit(&mut self, groups: impl IntoIterator<Item = Group>) -> io::Result<()> {
        let mut groups = groups.into_iter();
        for mut group in &mut groups {
            let written = self.write(&mut group);
            let done = self.conclude(&mut group, written);
            if done.is_err() {
                groups.for_each(|mut group| group.answer(&done));
                return done;
            }
        }
        Ok(())
    }

    /// Syncs a group that was written, if it wants it, and tells those who wait.
    fn conclude(&mut self, group: &mut Group, written: io::Result<()>) -> io::Result<()> {
        let done = written.and_then(|()| if group.syncs { self.sync() } else { Ok(()) });
        if done.is_ok() && group.syncs {
            self.core.synced.fetch_max(group.end, Ordering::AcqRel);
        }
        if let Err(error) = &done {
            // Before anybody is told: nobody may come and find it in order.
            self.core.queue.fail(error);
        }
        group.answer(&done);
        let free = group.free.max(if group.syncs { self.free.take() } else { None });
        if let (Ok(()), Some(free), Some(current)) = (&done, free, &self.file) {
            self.core.release(free, current.sequence);
        }
        done
    }

    /// [`Writer::run`] as a task: a sync takes as long as the disk says, and everything else no time.
    #[cfg(feature = "simulation")]
    pub(super) async fn run_as_task(mut self) {
        let core = Arc::clone(&self.core);
        let _ending = Ending(&core);
        if let Err(error) = self.work_as_task().await {
            tracing::error!(%error, dir = %core.dir.display(), "the write-ahead log cannot be written");
            core.queue.fail(&error);
        }
    }

    #[cfg(feature = "simulation")]
    async fn work_as_task(&mut self) -> io::Result<()> {
        let core = Arc::clone(&self.core);
        loop {
            let work = core.queue.next_for_task(|| core.mark_is_due()).await;
            let groups = match &work {
                Work::Groups(_) => None,
                Work::Idle | Work::Closed => {
                    core.mark()?;
                    Some(core.queue.take())
                }
            };
            let closed = matches!(work, Work::Closed);
            let groups = if let Work::Groups(groups) = work { groups } else { groups.unwrap_or_default() };
            self.commit_slowly(groups).await?;
            if closed {
                return self.sync();
            }
        }
    }

    #[cfg(feature = "simulation")]
    async fn commit_slowly(&mut self, groups: impl IntoIterator<Item = Group>) -> io::Result<()> {
        let mut groups = groups.into_iter();
        for mut group in &mut groups {
            let written = self.write(&mut group);
            if let (true, Some(current)) = (group.syncs, &self.file) {
                current.file.before_sync().await;
            }
            let done = self.conclude(&mut group, written);
            if done.is_err() {
                groups.for_each(|mut group| group.answer(&done));
                return done;
            }
        }
        Ok(())
    }

    /// Writes the frames of a group into their file.
    fn write(&mut self, group: &mut Group) -> io::Result<()> {
        let header = match group.begins {
            Some(header) => self.begin(header)?,
            None => Vec::new(),
        };
        let mut slices = group.slices(&header);
        if !slices.is_empty() {
            let current = self.current()?;
            current.is_dirty = true;
            write_all(&mut current.file, &mut slices)?;
        }
        drop(slices);
        if group.begins.is_some() {
            failpoint::hit("wal.header").map_err(io::Error::other)?;
        }
        group.written();
        self.core.queue.wrote(group.end);
        group.hasty.answer(&Ok(()));
        Ok(())
    }

    /// The file that is written to; that of a log which was opened, at its end.
    fn current(&mut self) -> io::Result<&mut Current> {
        if let Some((file, end)) = self.found.take() {
            let mut opened = OpenOptions::new().write(true).open(path_of(&self.core.dir, file.sequence))?;
            opened.seek(SeekFrom::Start(HEADER_BYTES as u64 + end - file.start))?;
            let sequence = file.sequence;
            self.file = Some(Current { file: opened, sequence, is_dirty: false, is_new: false, is_fresh: true });
        }
        self.file.as_mut().ok_or_else(|| io::Error::other("no file of the log was begun"))
    }

    /// Goes on to the next file; its header, to be written.
    fn begin(&mut self, mut header: FileHeader) -> io::Result<Vec<u8>> {
        // Also what nobody waits for: the header says that all before it was synced.
        if !failpoint::skips("wal.sync_last_file") {
            self.sync()?;
        }
        self.core.synced.fetch_max(header.start, Ordering::AcqRel);
        let taken = self.core.keeper.take(header.sequence)?;
        failpoint::hit("wal.begun").map_err(io::Error::other)?;
        header.recycled = taken.recycled;
        self.found = None;
        let (file, sequence) = (taken.file, header.sequence);
        self.file = Some(Current { file, sequence, is_dirty: false, is_new: taken.is_new, is_fresh: true });
        Ok(header.encode())
    }

    /// Makes all that was written durable.
    fn sync(&mut self) -> io::Result<()> {
        let Some(current) = self.file.as_mut().filter(|current| current.is_dirty) else { return Ok(()) };
        current.file.sync_data()?;
        failpoint::hit("wal.sync").map_err(io::Error::other)?;
        if current.is_new && !failpoint::skips("wal.sync_directory") {
            sync_dir(&self.core.dir)?;
        }
        (current.is_dirty, current.is_new) = (false, false);
        if std::mem::take(&mut current.is_fresh) {
            self.core.keeper.begun();
        }
        Ok(())
    }
}

fn write_all(file: &mut File, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        // Not more at once than the system takes; the standard library sees to that.
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut slices, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
