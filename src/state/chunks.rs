//! A persistent queue: appended at the end, taken from the front, rarely changed in the middle.
//!
//! The newest few entries are inline; the others are in immutable shared chunks behind a shared directory. What left the
//! front is only counted until half of the directory is dead, so that taking entries copies nothing: copying the directory
//! would touch every chunk's reference count, and that is what such a list costs.

use std::sync::Arc;

/// Entries of a sealed chunk.
const CHUNK: usize = 32;

/// A queue with up to `INLINE` entries of its own; a clone is one reference count and those.
#[derive(Debug, Clone)]
pub(super) struct Chunks<T, const INLINE: usize> {
    /// No chunk is empty.
    directory: Arc<[Arc<[T]>]>,
    /// Everything before this left the front.
    front: Position,
    recent: [T; INLINE],
    recent_len: usize,
}

/// An entry: its leaf and its number in it. Leaves are the chunks, then the inline entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    leaf: usize,
    entry: usize,
}

impl<T: Copy + Default, const INLINE: usize> Default for Chunks<T, INLINE> {
    fn default() -> Self {
        Self { directory: Arc::default(), front: Position::default(), recent: [T::default(); INLINE], recent_len: 0 }
    }
}

impl<T: Copy + Default, const INLINE: usize> Chunks<T, INLINE> {
    /// The queue of `entries`. `stagger` spreads over many queues that grow together when they next seal a chunk.
    pub(super) fn from_slice(entries: &[T], stagger: u32) -> Self {
        let inline = (stagger as usize % INLINE).min(entries.len());
        let (sealed, recent) = entries.split_at(entries.len() - inline);
        let mut chunks = Self { directory: sealed.chunks(CHUNK).map(Arc::from).collect(), ..Self::default() };
        chunks.recent[..inline].copy_from_slice(recent);
        chunks.recent_len = inline;
        chunks
    }

    pub(super) fn len(&self) -> usize {
        let sealed: usize = self.directory[self.front.leaf.min(self.directory.len())..].iter().map(|c| c.len()).sum();
        sealed + self.recent_len - self.front.entry
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
        match self.live_leaf(self.directory.len()).last() {
            Some(last) => Some(last),
            None => self.live_leaf(self.directory.len().checked_sub(1)?).last(),
        }
    }

    /// The entry at `position`, if there is one.
    pub(super) fn get(&self, position: Position) -> Option<&T> {
        self.leaf(position.leaf).get(position.entry)
    }

    /// The position after `position`.
    pub(super) fn next(&self, position: Position) -> Position {
        let next = Position { entry: position.entry + 1, ..position };
        if next.leaf < self.directory.len() && next.entry >= self.leaf(next.leaf).len() {
            return Position { leaf: next.leaf + 1, entry: 0 };
        }
        next
    }

    /// The entries from `position` on.
    pub(super) fn iter_at(&self, position: Position) -> impl Iterator<Item = &T> + '_ {
        let first = self.leaf(position.leaf).get(position.entry..).unwrap_or_default();
        let rest = (position.leaf + 1..=self.directory.len()).flat_map(|leaf| self.leaf(leaf));
        first.iter().chain(rest)
    }

    /// The first entry for which `before` is false; it must be true for a prefix of the queue only. Begins at the front,
    /// where trims and archive jobs work, and touches no more entries there than it has to.
    pub(super) fn seek(&self, before: impl Fn(&T) -> bool) -> Position {
        let Position { leaf, entry } = self.front;
        let first = self.live_leaf(leaf);
        let passed = gallop(first, &before);
        if passed < first.len() || leaf >= self.directory.len() {
            return Position { leaf, entry: entry + passed };
        }
        let rest = &self.directory[leaf + 1..];
        let leaf = leaf + 1 + rest.partition_point(|chunk| chunk.last().is_none_or(&before));
        Position { leaf, entry: self.leaf(leaf).partition_point(before) }
    }

    fn leaf(&self, leaf: usize) -> &[T] {
        self.directory.get(leaf).map_or(&self.recent[..self.recent_len], |chunk| &chunk[..])
    }

    /// A leaf without what left the front.
    fn live_leaf(&self, leaf: usize) -> &[T] {
        let from = if leaf == self.front.leaf { self.front.entry } else { 0 };
        if leaf < self.front.leaf { &[] } else { self.leaf(leaf).get(from..).unwrap_or_default() }
    }

    /// Appends an entry. The first seal of a queue comes early by `stagger`.
    pub(super) fn push(&mut self, entry: T, stagger: u32) {
        let full = if self.directory.is_empty() { 1 + stagger as usize % INLINE } else { INLINE };
        if self.recent_len >= full {
            self.seal();
        }
        self.recent[self.recent_len] = entry;
        self.recent_len += 1;
    }

    /// Moves the inline entries into the last chunk, or a new one.
    fn seal(&mut self) {
        let recent = self.live_leaf(self.directory.len());
        let kept = &self.directory[self.front.leaf.min(self.directory.len())..];
        let shift = self.directory.len() - kept.len();
        let (kept, last) = match kept.split_last() {
            Some((last, kept)) if last.len() + recent.len() <= CHUNK => (kept, &last[..]),
            _ => (kept, &[][..]),
        };
        let chunk: Arc<[T]> = if last.is_empty() { recent.into() } else { [last, recent].concat().into() };
        let front = Position {
            leaf: self.front.leaf - shift,
            entry: if shift == self.directory.len() { 0 } else { self.front.entry },
        };
        self.directory = kept.iter().cloned().chain([chunk]).collect();
        self.front = front;
        self.recent_len = 0;
    }

    /// Takes everything before `position` from the front.
    pub(super) fn drop_before(&mut self, position: Position) {
        if position.leaf >= self.directory.len() {
            self.directory = Arc::default();
            self.recent.copy_within(position.entry.min(self.recent_len)..self.recent_len, 0);
            self.recent_len -= position.entry.min(self.recent_len);
            self.front = Position::default();
            return;
        }
        self.front = position;
        if position.leaf * 2 > self.directory.len() {
            self.directory = self.directory[position.leaf..].into();
            self.front.leaf = 0;
        }
    }

    /// Replaces the entries of `[from, to)` by `entries`; rebuilds the directory.
    pub(super) fn splice(&mut self, from: Position, to: Position, entries: &[T]) {
        let begin = if from.leaf == self.front.leaf { self.front.entry } else { 0 };
        let mut middle: Vec<T> = self.leaf(from.leaf).get(begin..from.entry).unwrap_or_default().to_vec();
        middle.extend_from_slice(entries);
        middle.extend_from_slice(self.leaf(to.leaf).get(to.entry..).unwrap_or_default());
        let before = self.directory.get(self.front.leaf..from.leaf).unwrap_or_default();
        let after = self.directory.get(to.leaf + 1..).unwrap_or_default();
        let rebuilt = middle.chunks(CHUNK).map(Arc::from);
        let directory = before.iter().cloned().chain(rebuilt).chain(after.iter().cloned()).collect();
        let entry = if before.is_empty() { 0 } else { self.front.entry };
        if to.leaf >= self.directory.len() {
            self.recent_len = 0;
        }
        self.directory = directory;
        self.front = Position { leaf: 0, entry };
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
