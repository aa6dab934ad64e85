//! What a disk in memory holds: what was synced, and what it may hold of the rest after the power went.
//!
//! POSIX's rules, as strict as a journaling file system with default options may show them. The power tests
//! (tests/support/power/disk.rs) hold the binary against the same; they take this file as it is:
//! - Bytes and length of a file are durable once the file was synced, a name once its directory was.
//! - Unsynced writes reach the disk independently of each other: whole, in part or not at all. Where a byte is missing there
//!   is what was there before, or a zero.
//! - Of the unsynced operations of one directory there is a prefix. A rename is one operation.

use std::collections::{BTreeMap, VecDeque};

/// What a disk reads and writes at once.
const SECTOR: usize = 512;

/// A number below the one given.
pub(super) type Random<'a> = &'a mut dyn FnMut(u64) -> u64;

pub(super) type Names = BTreeMap<String, usize>;

#[derive(Debug)]
pub(super) enum Node {
    File(Versions<Vec<u8>, Change>),
    Dir(Versions<Names, Naming>),
}

/// Something with its changes since it was last synced.
#[derive(Debug)]
pub(super) struct Versions<T, C> {
    pub(super) durable: T,
    pub(super) live: T,
    /// Changes that are part of `durable`.
    folded: usize,
    pub(super) pending: VecDeque<C>,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

#[derive(Debug, Clone)]
pub(super) enum Naming {
    Set(String, usize),
    Remove(String),
    Rename(String, String),
}

pub(super) trait Apply<T> {
    fn apply(&self, to: &mut T);
}

impl Apply<Vec<u8>> for Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => write_at(to, *offset, bytes),
            Self::SetLen(len) => to.resize(*len, 0),
        }
    }
}

impl Apply<Names> for Naming {
    fn apply(&self, to: &mut Names) {
        match self {
            Self::Set(name, node) => drop(to.insert(name.clone(), *node)),
            Self::Remove(name) => drop(to.remove(name)),
            Self::Rename(from, name) => {
                if let Some(node) = to.remove(from) {
                    to.insert(name.clone(), node);
                }
            }
        }
    }
}

fn write_at(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if file.len() < offset + bytes.len() {
        file.resize(offset + bytes.len(), 0);
    }
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl<T: Clone, C: Apply<T>> Versions<T, C> {
    pub(super) fn durable(content: T) -> Self {
        Self { live: content.clone(), durable: content, folded: 0, pending: VecDeque::new() }
    }

    pub(super) fn change(&mut self, change: C) {
        change.apply(&mut self.live);
        self.pending.push_back(change);
    }

    /// How many there were.
    pub(super) fn changes(&self) -> usize {
        self.folded + self.pending.len()
    }

    /// A sync that began when there were so many changes has ended.
    pub(super) fn synced(&mut self, changes: usize) {
        while self.folded < changes
            && let Some(change) = self.pending.pop_front()
        {
            change.apply(&mut self.durable);
            self.folded += 1;
        }
    }
}

impl Versions<Names, Naming> {
    /// What is left of a directory. All and nothing are likelier than chance would have it, since bugs hide there.
    pub(super) fn left(&self, random: Random<'_>) -> Names {
        let pending = self.pending.len();
        let count = match random(4) {
            0 => 0,
            1 => pending,
            _ => below(random, pending + 1),
        };
        let mut left = self.durable.clone();
        self.pending.iter().take(count).for_each(|naming| naming.apply(&mut left));
        left
    }
}

impl Versions<Vec<u8>, Change> {
    /// What is left of a file.
    pub(super) fn left(&self, random: Random<'_>) -> Vec<u8> {
        let mut left = self.durable.clone();
        if self.pending.is_empty() {
            return left;
        }
        // Nothing, everything, all up to one that is torn, or each by its own chance.
        let (manner, place) = (random(4), below(random, self.pending.len()));
        for (at, change) in self.pending.iter().enumerate() {
            let fate = match manner {
                0 => Fate::Absent,
                1 => Fate::Whole,
                2 if at < place => Fate::Whole,
                2 if at > place => Fate::Absent,
                2 => Fate::Torn,
                _ => [Fate::Absent, Fate::Whole, Fate::Torn][below(random, 3)],
            };
            match (fate, change) {
                (Fate::Absent, _) => {}
                (Fate::Torn, Change::Write(offset, bytes)) => tear(&mut left, *offset, bytes, random),
                (Fate::Whole | Fate::Torn, change) => change.apply(&mut left),
            }
        }
        if left.len() < self.live.len() && random(10) < 3 {
            // Its length may be there without its bytes.
            let more = self.live.len() - left.len();
            let more = if random(2) == 0 { more } else { below(random, more) };
            left.resize(left.len() + more, 0);
        }
        left
    }
}

#[derive(Clone, Copy)]
enum Fate {
    Absent,
    Torn,
    Whole,
}

/// Writes a part of `bytes`.
fn tear(file: &mut Vec<u8>, offset: usize, bytes: &[u8], random: Random<'_>) {
    if bytes.is_empty() {
        return;
    }
    let cut = below(random, bytes.len());
    match random(3) {
        0 => write_at(file, offset, &bytes[..cut]),
        1 => {
            let end = (offset + cut) / SECTOR * SECTOR;
            write_at(file, offset, &bytes[..end.saturating_sub(offset)]);
        }
        _ => {
            let mut at = offset;
            while at < offset + bytes.len() {
                let end = ((at / SECTOR + 1) * SECTOR).min(offset + bytes.len());
                if random(2) == 0 {
                    write_at(file, at, &bytes[at - offset..end - offset]);
                }
                at = end;
            }
        }
    }
}

fn below(random: Random<'_>, n: usize) -> usize {
    usize::try_from(random(n as u64)).unwrap_or(0).min(n.saturating_sub(1))
}
