//! What a disk holds: what was synced, and what it may hold of the rest after a power cut.
//!
//! The rules are POSIX's, as strict as a journaling file system with default options (ext4, xfs) may show them:
//! - The bytes and the length of a file are durable once a sync of that file, begun after they were written, has ended.
//! - A name is durable once a sync of its directory, begun after the operation, has ended. A sync of the file does not do
//!   that. (ext4 and xfs happen to, by committing the whole journal; POSIX does not promise it, so nothing may rely on it.)
//! - Unsynced writes reach the disk independently of each other and in any order: whole, in part (cut at any byte, at a
//!   sector, or sectors of the middle missing) or not at all. Where a byte is missing there is what was there before, or a
//!   zero. A file may have its new length without its new bytes (xfs after a crash; ext4 with `data=writeback`).
//! - Unsynced operations of one directory reach the disk in order: after the cut there is a prefix of them. Those of
//!   different directories are independent. ext4 and xfs keep one order over all directories, so this is harsher than
//!   either; dropping single operations from the middle of one directory is what no journaling file system does. A rename
//!   within a directory is one operation: there is the old name or the new, never both, never neither.
//! - Synced bytes are never torn by a later write beside them in the same block.

// What a disk in memory makes of the same changes under a simulation.
#[path = "../../../src/disk/node.rs"]
mod node;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::StdRng;

use self::node::{Change, Names, Naming, Node, Versions};
use super::journal::Op;

/// The directory that is watched.
const ROOT: usize = 0;

/// Files and directories with what is durable of them and what is not.
#[derive(Debug)]
pub(crate) struct Disk {
    nodes: Vec<Node>,
    open: HashMap<i32, usize>,
    /// Syncs under way: the node, and how many of its changes they cover.
    syncs: HashMap<i64, (usize, usize)>,
}

impl Disk {
    /// A disk on which everything in `dir` is durable.
    pub(crate) fn of(dir: &Path) -> Self {
        let mut disk = Self { nodes: Vec::new(), open: HashMap::new(), syncs: HashMap::new() };
        disk.load(dir);
        disk
    }

    fn load(&mut self, path: &Path) -> usize {
        let node = self.nodes.len();
        if !path.is_dir() {
            self.nodes.push(Node::File(Versions::durable(std::fs::read(path).unwrap())));
            return node;
        }
        self.nodes.push(Node::Dir(Versions::durable(Names::new())));
        let mut names = Names::new();
        for entry in std::fs::read_dir(path).unwrap().map(Result::unwrap) {
            names.insert(entry.file_name().into_string().unwrap(), self.load(&entry.path()));
        }
        self.nodes[node] = Node::Dir(Versions::durable(names));
        node
    }

    /// Does what a process did.
    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Start => {
                self.open.clear();
                self.syncs.clear();
            }
            Op::Open { path, fd, creates, truncates } => {
                if *creates {
                    self.create(path, Node::File(Versions::durable(Vec::new())));
                }
                let node = self.find(path).unwrap_or_else(|| panic!("{path} was opened and is not there"));
                if *truncates && let Node::File(file) = &mut self.nodes[node] {
                    file.change(Change::SetLen(0));
                }
                self.open.insert(*fd, node);
            }
            Op::Write { fd, offset, bytes } => {
                let offset = usize::try_from(*offset).unwrap();
                self.file(*fd).change(Change::Write(offset, bytes.clone()));
            }
            Op::Truncate { fd, len } => {
                let len = usize::try_from(*len).unwrap();
                self.file(*fd).change(Change::SetLen(len));
            }
            Op::SyncBegin { fd, number } => {
                let node = self.open[fd];
                let changes = match &self.nodes[node] {
                    Node::File(file) => file.changes(),
                    Node::Dir(names) => names.changes(),
                };
                self.syncs.insert(*number, (node, changes));
            }
            Op::SyncEnd { number } => {
                let (node, changes) = self.syncs.remove(number).expect("a sync begins before it ends");
                match &mut self.nodes[node] {
                    Node::File(file) => file.synced(changes),
                    Node::Dir(names) => names.synced(changes),
                }
            }
            Op::Rename { from, to } => self.rename(from, to),
            Op::Link { from, to } => {
                let node = self.find(from).expect("what is linked is there");
                self.name(to, |name| Naming::Set(name, node));
            }
            Op::Unlink(path) | Op::RemoveDir(path) => self.name(path, Naming::Remove),
            Op::MakeDir(path) => self.create(path, Node::Dir(Versions::durable(Names::new()))),
            Op::Close(fd) => drop(self.open.remove(fd)),
            Op::Dup { fd, made } => drop(self.open.insert(*made, self.open[fd])),
        }
    }

    fn create(&mut self, path: &str, node: Node) {
        let number = self.nodes.len();
        self.nodes.push(node);
        self.name(path, |name| Naming::Set(name, number));
    }

    fn rename(&mut self, from: &str, to: &str) {
        let ((above, old), (below, new)) = (split(from), split(to));
        // Two directories would have to change at once, and nothing that is tested needs it.
        assert_eq!(above, below, "a rename from one directory to another is not modelled");
        if old != new {
            self.name(from, |old| Naming::Rename(old, new.to_owned()));
        }
    }

    /// Changes the directory of `path`.
    fn name(&mut self, path: &str, naming: impl FnOnce(String) -> Naming) {
        let (above, name) = split(path);
        let dir = self.find(above).unwrap_or_else(|| panic!("the directory of {path} is not there"));
        match &mut self.nodes[dir] {
            Node::Dir(names) => names.change(naming(name.to_owned())),
            Node::File(_) => panic!("{above} is no directory"),
        }
    }

    fn file(&mut self, fd: i32) -> &mut Versions<Vec<u8>, Change> {
        match &mut self.nodes[self.open[&fd]] {
            Node::File(file) => file,
            Node::Dir(_) => panic!("a directory was written to"),
        }
    }

    fn find(&self, path: &str) -> Option<usize> {
        path.split('/').filter(|name| !name.is_empty()).try_fold(ROOT, |node, name| match &self.nodes[node] {
            Node::Dir(names) => names.live.get(name).copied(),
            Node::File(_) => None,
        })
    }

    /// Where the file that is open as `fd` is, by one of its names.
    pub(crate) fn path_of(&self, fd: i32) -> Option<PathBuf> {
        self.path_to(*self.open.get(&fd)?, ROOT)
    }

    fn path_to(&self, node: usize, dir: usize) -> Option<PathBuf> {
        let Node::Dir(names) = &self.nodes[dir] else { return None };
        names.live.iter().find_map(|(name, child)| match *child {
            child if child == node => Some(PathBuf::from(name)),
            child => Some(Path::new(name).join(self.path_to(node, child)?)),
        })
    }

    /// Compares what the processes saw last with what is in `dir`.
    ///
    /// # Errors
    /// The first difference: something was done that the journal does not know.
    pub(crate) fn compare(&self, dir: &Path) -> Result<(), String> {
        self.compare_node(ROOT, dir)
    }

    fn compare_node(&self, node: usize, path: &Path) -> Result<(), String> {
        let names = match &self.nodes[node] {
            Node::File(file) => {
                let found = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
                let at = found.iter().zip(&file.live).position(|(found, live)| found != live);
                return match (found == file.live, found.len(), file.live.len()) {
                    (true, ..) => Ok(()),
                    (false, found, live) => {
                        Err(format!("{} has {found} bytes, not {live}, differs at {at:?}", path.display()))
                    }
                };
            }
            Node::Dir(names) => &names.live,
        };
        let entries = std::fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut found: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        if !found.iter().eq(names.keys()) {
            let known: Vec<&String> = names.keys().collect();
            return Err(format!("{} has {found:?}, not {known:?}", path.display()));
        }
        names.iter().try_for_each(|(name, node)| self.compare_node(*node, &path.join(name)))
    }

    /// The power goes: a disk on which everything is durable that was synced, and by chance some of the rest.
    pub(crate) fn cut(&self, random: &mut StdRng) -> Self {
        let mut after = Self { nodes: Vec::new(), open: HashMap::new(), syncs: HashMap::new() };
        after.keep(self, ROOT, &mut HashMap::new(), random);
        after
    }

    /// Keeps what the cut left of a node of `before`; a file with two names is kept once.
    fn keep(&mut self, before: &Self, node: usize, kept: &mut HashMap<usize, usize>, random: &mut StdRng) -> usize {
        if let Some(number) = kept.get(&node) {
            return *number;
        }
        let number = self.nodes.len();
        kept.insert(node, number);
        match &before.nodes[node] {
            Node::File(file) => {
                self.nodes.push(Node::File(Versions::durable(file.left(&mut |below| random.random_range(0..below)))))
            }
            Node::Dir(names) => {
                self.nodes.push(Node::Dir(Versions::durable(Names::new())));
                let names = names.left(&mut |below| random.random_range(0..below));
                let names =
                    names.into_iter().map(|(name, node)| (name, self.keep(before, node, kept, random))).collect();
                self.nodes[number] = Node::Dir(Versions::durable(names));
            }
        }
        number
    }

    /// Makes `dir`, which exists, hold what is durable; only what differs is written.
    pub(crate) fn write_to(&self, dir: &Path) {
        self.write_node(ROOT, dir);
    }

    fn write_node(&self, node: usize, path: &Path) {
        let names = match &self.nodes[node] {
            Node::File(file) => {
                if !path.is_file() || std::fs::read(path).unwrap() != file.durable {
                    std::fs::write(path, &file.durable).unwrap();
                }
                return;
            }
            Node::Dir(names) => &names.durable,
        };
        if !path.is_dir() {
            std::fs::create_dir(path).unwrap();
        }
        for entry in std::fs::read_dir(path).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            let is_dir = entry.file_type().unwrap().is_dir();
            let stays = names.get(&name).is_some_and(|node| matches!(self.nodes[*node], Node::Dir(_)) == is_dir);
            match (stays, is_dir) {
                (true, _) => {}
                (false, true) => std::fs::remove_dir_all(entry.path()).unwrap(),
                (false, false) => std::fs::remove_file(entry.path()).unwrap(),
            }
        }
        for (name, node) in names {
            self.write_node(*node, &path.join(name));
        }
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
