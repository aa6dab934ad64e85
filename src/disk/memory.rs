//! A disk in memory for one simulated machine: it knows what was synced, can be slow, full and broken, and outlives the node
//! that writes to it.
//!
//! Files that were open when the power went fail from then on, so that what is left of a node that was dropped in the
//! middle of something changes nothing.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::TryLockError;
use std::io::{self, IoSlice, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Space;
use super::node::{Change, Names, Naming, Node, Random, Versions};

/// The mounted directory.
const ROOT: usize = 0;
/// What a file holds.
type Content = Versions<Vec<u8>, Change>;
/// Of a disk without a limit.
const LARGE: u64 = 1 << 40;

/// See the module; clones are the same disk.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    nodes: Vec<Node>,
    locked: BTreeSet<usize>,
    /// How often the power went.
    crashes: u64,
    sync_delay: Duration,
    failing_syncs: u64,
    limit: u64,
    syncs: u64,
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

thread_local! {
    static MOUNTED: RefCell<BTreeMap<PathBuf, Disk>> = const { RefCell::new(BTreeMap::new()) };
}

/// Keeps a disk mounted in this thread.
#[derive(Debug)]
#[must_use]
pub struct Mount(PathBuf);

/// Has everything below `path`, an absolute one, be on `disk` in this thread until the mount is dropped, which makes the thread
/// one without others beside it ([`crate::blocking::set_inline`]). `path` itself and what is above it are directories that
/// are there.
pub fn mount(path: impl Into<PathBuf>, disk: &Disk) -> Mount {
    let path = path.into();
    MOUNTED.with_borrow_mut(|mounted| mounted.insert(path.clone(), disk.clone()));
    crate::blocking::set_inline(true);
    Mount(path)
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Not when the thread is ending.
        let _ = MOUNTED.try_with(|mounted| {
            let mut mounted = mounted.borrow_mut();
            mounted.remove(&self.0);
            crate::blocking::set_inline(!mounted.is_empty());
        });
    }
}

/// The disk of `path` and where in it that is.
pub(super) fn of(path: &Path) -> Option<On> {
    MOUNTED.with_borrow(|mounted| {
        let below = mounted.iter().find_map(|(at, disk)| Some((disk.clone(), path.strip_prefix(at).ok()?.to_owned())));
        let above =
            || mounted.iter().find(|(at, _)| at.starts_with(path)).map(|(_, disk)| (disk.clone(), PathBuf::new()));
        below.or_else(above).map(|(disk, inside)| On { disk, inside })
    })
}

/// A path on a disk.
pub(super) struct On {
    disk: Disk,
    inside: PathBuf,
}

impl Disk {
    /// An empty disk that is fast and large.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            nodes: vec![Node::Dir(Versions::durable(Names::new()))],
            locked: BTreeSet::new(),
            crashes: 0,
            sync_delay: Duration::ZERO,
            failing_syncs: 0,
            limit: LARGE,
            syncs: 0,
        })))
    }

    /// The power goes: there is what was synced, and by chance some of the rest. `random` gives a number below the one it is
    /// given. To be called before what is left of the node is dropped.
    pub fn crash(&self, random: &mut dyn FnMut(u64) -> u64) {
        let mut inner = self.lock();
        let before = std::mem::take(&mut inner.nodes);
        keep(&before, ROOT, (&mut inner.nodes, &mut BTreeMap::new()), random);
        inner.locked.clear();
        inner.crashes += 1;
        inner.failing_syncs = 0;
    }

    /// The process that has files open is gone and the machine is not: nobody has them open any more, and all that was written is
    /// there.
    pub fn release(&self) {
        let mut inner = self.lock();
        inner.locked.clear();
        inner.crashes += 1;
    }

    /// Loses everything: another disk takes its place.
    pub fn wipe(&self) {
        let mut inner = self.lock();
        inner.nodes = vec![Node::Dir(Versions::durable(Names::new()))];
        inner.locked.clear();
        inner.crashes += 1;
    }

    /// How long a sync takes from now on, in the runtime's time.
    pub fn set_sync_delay(&self, delay: Duration) {
        self.lock().sync_delay = delay;
    }

    /// Has the next `count` syncs of files fail.
    pub fn fail_syncs(&self, count: u64) {
        self.lock().failing_syncs = count;
    }

    /// Bytes that fit on it; `None` for a large disk.
    pub fn set_limit(&self, bytes: Option<u64>) {
        self.lock().limit = bytes.unwrap_or(LARGE);
    }

    /// Bytes in its files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Syncs of files so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// The files, with their bytes as a process would read them.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let inner = self.lock();
        let mut files = Vec::new();
        inner.walk(ROOT, Path::new(""), &mut |path, file| files.push((path.to_owned(), file.live.clone())));
        files
    }

    /// Flips bits of a byte of the file at `path`, a relative one, where nobody notices: rot. Whether there is such a byte.
    pub fn rot(&self, path: &Path, at: usize, bits: u8) -> bool {
        let mut inner = self.lock();
        let Some(node) = inner.find(path) else { return false };
        let Node::File(file) = &mut inner.nodes[node] else { return false };
        let (Some(live), Some(durable)) = (file.live.get_mut(at), file.durable.get_mut(at)) else { return false };
        *live ^= bits;
        *durable ^= bits;
        true
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps what is left of a node of `before`; a file with two names is kept once.
fn keep(
    before: &[Node],
    node: usize,
    (after, kept): (&mut Vec<Node>, &mut BTreeMap<usize, usize>),
    random: Random<'_>,
) -> usize {
    if let Some(number) = kept.get(&node) {
        return *number;
    }
    let number = after.len();
    kept.insert(node, number);
    match &before[node] {
        Node::File(file) => after.push(Node::File(Versions::durable(file.left(random)))),
        Node::Dir(names) => {
            after.push(Node::Dir(Versions::durable(Names::new())));
            let mut left = Names::new();
            for (name, node) in names.left(random) {
                left.insert(name, keep(before, node, (after, kept), random));
            }
            after[number] = Node::Dir(Versions::durable(left));
        }
    }
    number
}

impl Inner {
    fn find(&self, path: &Path) -> Option<usize> {
        path.iter().try_fold(ROOT, |node, name| match &self.nodes[node] {
            Node::Dir(names) => names.live.get(name.to_str()?).copied(),
            Node::File(_) => None,
        })
    }

    fn walk(&self, node: usize, path: &Path, see: &mut dyn FnMut(&Path, &Content)) {
        match &self.nodes[node] {
            Node::File(file) => see(path, file),
            Node::Dir(names) => names.live.iter().for_each(|(name, node)| self.walk(*node, &path.join(name), see)),
        }
    }

    fn used(&self) -> u64 {
        let mut used = 0;
        self.walk(ROOT, Path::new(""), &mut |_, file| used += file.live.len() as u64);
        used
    }

    /// Changes the directory of `path`.
    fn name(&mut self, path: &Path, naming: impl FnOnce(String) -> Naming) -> io::Result<()> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.find(path.parent().unwrap_or(Path::new(""))).ok_or(io::ErrorKind::NotFound)?;
        match &mut self.nodes[dir] {
            Node::Dir(names) => names.change(naming(name.to_owned())),
            Node::File(_) => return Err(io::ErrorKind::NotADirectory.into()),
        }
        Ok(())
    }

    fn create(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let number = self.nodes.len();
        self.name(path, |name| Naming::Set(name, number))?;
        self.nodes.push(node);
        Ok(number)
    }

    fn file(&mut self, node: usize) -> io::Result<&mut Content> {
        match &mut self.nodes[node] {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }
}

impl On {
    pub(super) fn open(&self, _path: &Path, create: bool, truncate: bool) -> io::Result<Open> {
        let mut inner = self.disk.lock();
        let node = match inner.find(&self.inside) {
            Some(node) => node,
            None if create => inner.create(&self.inside, Node::File(Versions::durable(Vec::new())))?,
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        if truncate {
            inner.file(node)?.change(Change::SetLen(0));
        }
        Ok(Open { disk: self.disk.clone(), node, crashes: inner.crashes, at: 0, is_locked: Mutex::new(false) })
    }

    pub(super) fn read(&self, _path: &Path) -> io::Result<Vec<u8>> {
        let mut inner = self.disk.lock();
        let node = inner.find(&self.inside).ok_or(io::ErrorKind::NotFound)?;
        Ok(inner.file(node)?.live.clone())
    }

    pub(super) fn len(&self, _path: &Path) -> io::Result<u64> {
        let mut inner = self.disk.lock();
        let node = inner.find(&self.inside).ok_or(io::ErrorKind::NotFound)?;
        Ok(inner.file(node)?.live.len() as u64)
    }

    pub(super) fn is_file(&self, _path: &Path) -> bool {
        let inner = self.disk.lock();
        inner.find(&self.inside).is_some_and(|node| matches!(inner.nodes[node], Node::File(_)))
    }

    pub(super) fn is_dir(&self, _path: &Path) -> bool {
        let inner = self.disk.lock();
        inner.find(&self.inside).is_some_and(|node| matches!(inner.nodes[node], Node::Dir(_)))
    }

    pub(super) fn create_dir(&self, _path: &Path) -> io::Result<()> {
        let mut inner = self.disk.lock();
        if inner.find(&self.inside).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        inner.create(&self.inside, Node::Dir(Versions::durable(Names::new()))).map(drop)
    }

    pub(super) fn remove_file(&self, _path: &Path) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let node = inner.find(&self.inside).ok_or(io::ErrorKind::NotFound)?;
        inner.file(node)?;
        inner.name(&self.inside, Naming::Remove)
    }

    pub(super) fn rename(&self, _from: &Path, to: &Path) -> io::Result<()> {
        let name = to.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
        let is_beside = of(to).is_some_and(|to| to.inside.parent() == self.inside.parent());
        let mut inner = self.disk.lock();
        if !is_beside {
            // Two directories would have to change at once, and nothing that is simulated needs it.
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        inner.find(&self.inside).ok_or(io::ErrorKind::NotFound)?;
        inner.name(&self.inside, |from| Naming::Rename(from, name.to_owned()))
    }

    pub(super) fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let inner = self.disk.lock();
        let node = inner.find(&self.inside).ok_or(io::ErrorKind::NotFound)?;
        match &inner.nodes[node] {
            Node::Dir(names) => Ok(names.live.keys().map(|name| path.join(name)).collect()),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn space(&self) -> Space {
        let inner = self.disk.lock();
        Space { free: inner.limit.saturating_sub(inner.used()), total: inner.limit }
    }
}

/// A file of a disk, or a directory.
#[derive(Debug)]
pub(super) struct Open {
    disk: Disk,
    node: usize,
    crashes: u64,
    at: u64,
    is_locked: Mutex<bool>,
}

impl Open {
    fn on(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.disk.lock();
        if inner.crashes == self.crashes { Ok(inner) } else { Err(io::Error::other("the machine is off")) }
    }

    pub(super) fn sync_delay(&self) -> Duration {
        self.disk.lock().sync_delay
    }

    pub(super) fn sync_all(&self) -> io::Result<()> {
        let mut inner = self.on()?;
        if let Node::File(_) = &inner.nodes[self.node] {
            inner.syncs += 1;
            if let Some(left) = inner.failing_syncs.checked_sub(1) {
                inner.failing_syncs = left;
                return Err(io::Error::other("the device failed a sync"));
            }
        }
        match &mut inner.nodes[self.node] {
            Node::File(file) => file.synced(file.changes()),
            Node::Dir(names) => names.synced(names.changes()),
        }
        Ok(())
    }

    pub(super) fn sync_data(&self) -> io::Result<()> {
        self.sync_all()
    }

    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.on()?.file(self.node)?.change(Change::SetLen(len));
        Ok(())
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.on()?.file(self.node)?.live.len() as u64)
    }

    pub(super) fn try_lock(&self) -> Result<(), TryLockError> {
        let mut inner = self.on().map_err(TryLockError::Error)?;
        if !inner.locked.insert(self.node) {
            return Err(TryLockError::WouldBlock);
        }
        *self.is_locked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        Ok(())
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.on()?;
        let file = &inner.file(self.node)?.live;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
        let count = buffer.len().min(file.len() - from);
        buffer[..count].copy_from_slice(&file[from..from + count]);
        Ok(count)
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.write_at(bytes, self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let mut inner = self.on()?;
        let grows = (at + bytes.len()).saturating_sub(inner.file(self.node)?.live.len()) as u64;
        if grows > 0 && inner.limit != LARGE && inner.used() + grows > inner.limit {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.file(self.node)?.change(Change::Write(at, bytes.to_vec()));
        Ok(bytes.len())
    }

    pub(super) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let whole: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.write(&whole)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.on().map(drop)
    }

    pub(super) fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len()?.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let was_locked = *self.is_locked.lock().unwrap_or_else(PoisonError::into_inner);
        if was_locked && let Ok(mut inner) = self.on() {
            inner.locked.remove(&self.node);
        }
    }
}
