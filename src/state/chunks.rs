//! A persistent queue: appended at the end, taken from the front, rarely changed in the middle.
//!
//! The newest few entries are inline; those before them in one shared chunk that is still growing; the others in full
//! shared chunks behind a shared directory. Copying the directory touches every chunk's reference count, and that is what
//! such a list costs, so it happens once for each full chunk: what left the front is only counted until half of it is dead.

use std::sync::Arc;

/// Entries of a full chunk.
const CHUNK: usize = 32;

/// A queue with up to `INLINE` entries of its own; a clone is two reference counts and those.
#[derive(Debug, Clone)]
pub(super) struct Chunks<T, const INLINE: usize> {
    /// No chunk in here is empty.
    directory: Arc<[Arc<[T]>]>,
    growing: Arc<[T]>,
    /// The first entry; everything before it left.
    front: Position,
    recent: [T; INLINE],
    recent_len: usize,
}

/// An entry: its leaf and its number in it. Leaves are the chunks of the directory, the growing one, the inline entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    leaf: usize,
    entry: usize,
}

impl<T: Copy + Default, const INLINE: usize> Default for Chunks<T, INLINE> {
    fn default() -> Self {
        let front = Position { leaf: 1, entry: 0 };
        Self {
            directory: Arc::default(),
            growing: Arc::default(),
            front,
            recent: [T::default(); INLINE],
            recent_len: 0,
        }
    }
}

impl<T: Copy + Default, const INLINE: usize> Chunks<T, INLINE> {
    /// The queue of `entries`. `stagger` spreads over many queues that grow together when they next seal a chunk.
    pub(super) fn from_slice(entries: &[T], stagger: u32) -> Self {
        let inline = (stagger as usize % INLINE).min(entries.len());
        let (sealed, recent) = entries.split_at(entries.len() - inline);
        let (full, growing) = sealed.split_at(sealed.len() / CHUNK * CHUNK);
        let mut chunks = Self {
            directory: full.chunks(CHUNK).map(Arc::from).collect(),
            growing: growing.into(),
            front: Position::default(),
            ..Self::default()
        };
        chunks.recent[..inline].copy_from_slice(recent);
        chunks.recent_len = inline;
        chunks.front = chunks.settled(chunks.front);
        chunks
    }

    pub(super) fn len(&self) -> usize {
        (self.front.leaf..=self.recent_leaf()).map(|leaf| self.leaf(leaf).len()).sum::<usize>() - self.front.entry
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    /// Where the first entry is, if there is one.
    pub(super) fn start(&self) -> Position {
        self.front
    }

    pub(super) fn first(&self) -> Option<&T> {
        self.get(self.front)
    }

    pub(super) fn last(&self) -> Option<&T> {
        (self.front.leaf..=self.recent_leaf()).rev().find_map(|leaf| self.live_leaf(leaf).last())
    }

    /// The entry at `position`, if there is one.
    pub(super) fn get(&self, position: Position) -> Option<&T> {
        self.leaf(position.leaf).get(position.entry)
    }

    /// The position after `position`.
    pub(super) fn next(&self, position: Position) -> Position {
        self.settled(Position { entry: position.entry + 1, ..position })
    }

    /// `position`, or the first entry of the next leaf if it is past the end of its own.
    fn settled(&self, mut position: Position) -> Position {
        while position.leaf < self.recent_leaf() && position.entry >= self.leaf(position.leaf).len() {
            position = Position { leaf: position.leaf + 1, entry: 0 };
        }
        position
    }

    /// The entries from `position` on.
    pub(super) fn iter_at(&self, position: Position) -> impl Iterator<Item = &T> + '_ {
        let first = self.leaf(position.leaf).get(position.entry..).unwrap_or_default();
        let rest = (position.leaf + 1..=self.recent_leaf()).flat_map(|leaf| self.leaf(leaf));
        first.iter().chain(rest)
    }

    /// The first entry for which `before` is false; it must be true for a prefix of the queue only. Begins at the front,
    /// where trims and archive jobs work, and touches no more entries there than it has to.
    pub(super) fn seek(&self, before: impl Fn(&T) -> bool) -> Position {
        let Position { leaf, entry } = self.front;
        let first = self.live_leaf(leaf);
        let passed = gallop(first, &before);
        if passed < first.len() || leaf == self.recent_leaf() {
            return Position { leaf, entry: entry + passed };
        }
        let whole = |leaf: &[T]| leaf.last().is_none_or(&before);
        let rest = self.directory.get(leaf + 1..).unwrap_or_default();
        let mut leaf = leaf + 1 + rest.partition_point(|chunk| whole(chunk));
        if leaf == self.directory.len() && whole(&self.growing) {
            leaf += 1;
        }
        Position { leaf, entry: self.leaf(leaf).partition_point(before) }
    }

    fn recent_leaf(&self) -> usize {
        self.directory.len() + 1
    }

    fn leaf(&self, leaf: usize) -> &[T] {
        match self.directory.get(leaf) {
            Some(chunk) => chunk,
            None if leaf == self.directory.len() => &self.growing,
            None => &self.recent[..self.recent_len],
        }
    }

    /// A leaf without what left the front.
    fn live_leaf(&self, leaf: usize) -> &[T] {
        let from = if leaf == self.front.leaf { self.front.entry } else { 0 };
        self.leaf(leaf).get(from..).unwrap_or_default()
    }

    /// Appends an entry. The first seal of a queue comes early by `stagger`.
    pub(super) fn push(&mut self, entry: T, stagger: u32) {
        let fresh = self.directory.is_empty() && self.growing.is_empty();
        let full = if fresh { 1 + stagger as usize % INLINE } else { INLINE };
        if self.recent_len >= full {
            self.seal();
        }
        self.recent[self.recent_len] = entry;
        self.recent_len += 1;
    }

    /// Moves the inline entries into the growing chunk; if it has no room, it goes to the directory and they are the next.
    fn seal(&mut self) {
        let recent = &self.recent[..self.recent_len];
        if self.front.leaf == self.recent_leaf() {
            // All that came before them left.
            self.growing = recent.into();
            self.directory = Arc::default();
            self.front.leaf = 0;
        } else if self.growing.len() + recent.len() <= CHUNK {
            self.growing = [&self.growing[..], recent].concat().into();
        } else {
            let dead = self.front.leaf.min(self.directory.len());
            let full = std::mem::replace(&mut self.growing, recent.into());
            self.directory = self.directory[dead..].iter().cloned().chain([full]).collect();
            self.front.leaf -= dead;
        }
        self.recent_len = 0;
    }

    /// Takes everything before `position` from the front.
    pub(super) fn drop_before(&mut self, position: Position) {
        let position = self.settled(position);
        if position.leaf == self.recent_leaf() {
            let left = position.entry.min(self.recent_len);
            let mut recent = [T::default(); INLINE];
            recent[..self.recent_len - left].copy_from_slice(&self.recent[left..self.recent_len]);
            *self = Self { recent, recent_len: self.recent_len - left, ..Self::default() };
            return;
        }
        self.front = position;
        if position.leaf * 2 > self.directory.len() {
            self.directory = self.directory[position.leaf..].into();
            self.front.leaf = 0;
        }
    }

    /// Replaces the entries of `[from, to)` by `entries`; copies everything from `from` on.
    pub(super) fn splice(&mut self, from: Position, to: Position, entries: &[T]) {
        let kept = self.directory.get(self.front.leaf..from.leaf.min(self.directory.len())).unwrap_or_default();
        let copied_from = Position { leaf: self.front.leaf + kept.len(), entry: 0 }.max(self.front);
        let head = self.iter_at(copied_from).count() - self.iter_at(from).count();
        let mut tail: Vec<T> = self.iter_at(copied_from).take(head).copied().collect();
        tail.extend_from_slice(entries);
        tail.extend(self.iter_at(to));
        let rebuilt = Self::from_slice(&tail, 0);
        let entry = if kept.is_empty() { 0 } else { self.front.entry };
        let directory = kept.iter().cloned().chain(rebuilt.directory.iter().cloned()).collect();
        *self = Self { directory, front: Position { leaf: 0, entry }, ..rebuilt };
        self.front = self.settled(self.front);
    }
}

/// How many entries at the front satisfy `before`: steps that double, then a binary search in the last one.
fn gallop<T>(entries: &[T], before: impl Fn(&T) -> bool) -> usize {
    let (mut low, mut step) = (0, 1);
    while let Some(entry) = entries.get(low + step - 1) {
        if !before(entry) {
            return low + entries[low..low + step - 1].partition_point(before);
        }
        low += step;
        step *= 2;
    }
    low + entries[low..].partition_point(before)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn check(chunks: &Chunks<u32, 3>, model: &[u32]) {
        assert_eq!(chunks.iter_at(chunks.start()).copied().collect::<Vec<_>>(), model);
        assert_eq!((chunks.len(), chunks.is_empty()), (model.len(), model.is_empty()));
        assert_eq!((chunks.first(), chunks.last()), (model.first(), model.last()));
        let mut at = chunks.start();
        for entry in model {
            assert_eq!(chunks.get(at), Some(entry));
            at = chunks.next(at);
        }
        assert_eq!(chunks.get(at), None);
    }

    proptest! {
        /// Against a vector; clones made on the way stay what they were.
        #[test]
        fn a_queue_is_a_vector(start in 0..90u32, steps in vec((0..8u8, any::<u16>(), any::<u16>()), 1..120)) {
            let mut model: Vec<u32> = (0..start).map(|entry| entry * 1_000).collect();
            let mut chunks = Chunks::<u32, 3>::from_slice(&model, start);
            let mut next = start * 1_000;
            let mut views = Vec::new();
            for (kind, a, b) in steps {
                let place = |number: u16| usize::from(number) % (model.len() + 1);
                match kind {
                    0..=4 => {
                        for _ in 0..=a % 20 {
                            chunks.push(next, u32::from(b));
                            model.push(next);
                            next += 1_000;
                        }
                    }
                    5 => {
                        let count = place(a).min(usize::from(b) % 50);
                        let bound = model.get(count).copied().unwrap_or(next);
                        let position = chunks.seek(|entry| *entry < bound);
                        chunks.drop_before(position);
                        model.drain(..count);
                    }
                    6 => {
                        let (low, high) = (place(a).min(place(b)), place(a).max(place(b)));
                        let bound = |at: usize| model.get(at).copied().unwrap_or(next);
                        let (low_bound, high_bound) = (bound(low), bound(high));
                        let from = chunks.seek(|entry| *entry < low_bound);
                        let to = chunks.seek(|entry| *entry < high_bound);
                        let new: Vec<u32> = model[low..high].first().map(|first| first + 1).into_iter().collect();
                        chunks.splice(from, to, &new);
                        model.splice(low..high, new);
                    }
                    _ => views.push((chunks.clone(), model.clone())),
                }
                check(&chunks, &model);
            }
            for (view, model) in &views {
                check(view, model);
            }
        }
    }
}
