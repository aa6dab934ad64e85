//! A persistent queue: appended at the end, taken from the front, rarely changed in the middle.
//!
//! The newest entries are a linked list, so that appending to a queue that a view shares copies its head and nothing
//! else; after [`CHUNK`] of them they become one shared chunk behind a shared directory. Copying the directory touches
//! every chunk's reference count, and that is what such a list costs, so it happens once for each full chunk: what left
//! the front is only counted until half of it is dead (of the linked entries: until they become a chunk).

use std::sync::Arc;

/// Entries of a full chunk.
const CHUNK: usize = 32;

/// A queue; a clone is two reference counts.
#[derive(Debug, Clone)]
pub(super) struct Chunks<T> {
    /// No chunk in here is empty.
    directory: Arc<[Arc<[T]>]>,
    /// The first entry; everything before it left. A queue that lost all its entries is a new one.
    front: Position,
    newest: Option<Arc<Node<T>>>,
    /// Linked entries, those before the front included.
    linked: usize,
}

/// A linked entry and the one before it.
#[derive(Debug)]
struct Node<T> {
    entry: T,
    before: Option<Arc<Node<T>>>,
}

/// An entry: its leaf and its number in it. Leaves are the chunks of the directory, then the linked entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    leaf: usize,
    entry: usize,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self { directory: Arc::default(), front: Position::default(), newest: None, linked: 0 }
    }
}

impl<T: Copy> Chunks<T> {
    /// The queue of `entries`. `stagger` spreads over many queues that grow together when they next make a chunk.
    pub(super) fn from_slice(entries: &[T], stagger: u32) -> Self {
        let linked = (stagger as usize % CHUNK).min(entries.len());
        let (sealed, recent) = entries.split_at(entries.len() - linked);
        let mut chunks = Self { directory: sealed.chunks(CHUNK).map(Arc::from).collect(), ..Self::default() };
        recent.iter().for_each(|entry| chunks.link(*entry));
        chunks
    }

    /// How many entries there are; adds up the chunks.
    pub(super) fn len(&self) -> usize {
        let sealed: usize = self.directory.iter().skip(self.front.leaf).map(|chunk| chunk.len()).sum();
        sealed + self.linked - self.front.entry
    }

    pub(super) fn is_empty(&self) -> bool {
        self.newest.is_none() && self.directory.is_empty()
    }

    /// Where the first entry is, if there is one.
    pub(super) fn start(&self) -> Position {
        self.front
    }

    /// The first entry; a walk over at most [`CHUNK`] if it is a linked one.
    pub(super) fn first(&self) -> Option<&T> {
        self.iter_at(self.front).next()
    }

    pub(super) fn last(&self) -> Option<&T> {
        self.newest.as_ref().map(|node| &node.entry).or_else(|| self.directory.last()?.last())
    }

    /// The position `count` entries after `position`.
    pub(super) fn advance(&self, mut position: Position, count: usize) -> Position {
        position.entry += count;
        while let Some(chunk) = self.directory.get(position.leaf).filter(|chunk| position.entry >= chunk.len()) {
            position = Position { leaf: position.leaf + 1, entry: position.entry - chunk.len() };
        }
        position
    }

    /// The entries from `position` on.
    pub(super) fn iter_at(&self, position: Position) -> impl Iterator<Item = &T> + '_ {
        let sealed = self.directory.get(position.leaf..).unwrap_or_default();
        let skipped = if sealed.is_empty() { 0 } else { position.entry };
        let recent = if sealed.is_empty() { position.entry } else { 0 };
        // Lazily: whoever stops in the chunks must not walk the links.
        let linked = std::iter::once_with(move || self.linked_from(recent)).flatten();
        sealed.iter().flat_map(|chunk| chunk.iter()).skip(skipped).chain(linked)
    }

    /// The linked entries from number `from` on, oldest first.
    fn linked_from(&self, from: usize) -> impl Iterator<Item = &T> + '_ {
        let mut entries = [None; CHUNK];
        let mut node = self.newest.as_deref();
        for slot in entries[..self.linked].iter_mut().skip(from).rev() {
            *slot = node.map(|node| &node.entry);
            node = node.and_then(|node| node.before.as_deref());
        }
        entries.into_iter().flatten()
    }

    /// The first entry for which `before` is false; it must be true for a prefix of the queue only. Begins at the front,
    /// where trims and archive jobs work, and touches no more entries there than it has to.
    pub(super) fn seek(&self, before: impl Fn(&T) -> bool) -> Position {
        let Position { leaf, entry } = self.front;
        if let Some((first, rest)) = self.directory.get(leaf..).and_then(|chunks| chunks.split_first()) {
            let live = &first[entry..];
            let passed = gallop(live, &before);
            if passed < live.len() {
                return Position { leaf, entry: entry + passed };
            }
            let leaf = leaf + 1 + rest.partition_point(|chunk| chunk.last().is_none_or(&before));
            if let Some(chunk) = self.directory.get(leaf) {
                return Position { leaf, entry: chunk.partition_point(before) };
            }
        }
        let least = if leaf == self.directory.len() { entry } else { 0 };
        let mut position = Position { leaf: self.directory.len(), entry: self.linked };
        let mut node = self.newest.as_deref();
        while let Some(newer) = node.filter(|node| position.entry > least && !before(&node.entry)) {
            position.entry -= 1;
            node = newer.before.as_deref();
        }
        position
    }

    /// Appends an entry. The first chunk of a queue is made early by `stagger`.
    pub(super) fn push(&mut self, entry: T, stagger: u32) {
        let fresh = self.directory.is_empty() && self.front == Position::default();
        let full = if fresh { 1 + stagger as usize % CHUNK } else { CHUNK };
        if self.linked >= full {
            self.seal();
        }
        self.link(entry);
    }

    fn link(&mut self, entry: T) {
        self.newest = Some(Arc::new(Node { entry, before: self.newest.take() }));
        self.linked += 1;
    }

    /// Makes a chunk of the linked entries that are left.
    fn seal(&mut self) {
        let dead = self.front.leaf;
        let left = if dead == self.directory.len() { std::mem::take(&mut self.front.entry) } else { 0 };
        let chunk: Arc<[T]> = self.linked_from(left).copied().collect::<Vec<T>>().into();
        self.directory = self.directory[dead..].iter().cloned().chain([chunk]).collect();
        self.front.leaf = 0;
        (self.newest, self.linked) = (None, 0);
    }

    /// Takes everything before `position` from the front.
    pub(super) fn drop_before(&mut self, position: Position) {
        let position = self.advance(position, 0);
        if position.leaf == self.directory.len() && position.entry >= self.linked {
            *self = Self::default();
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

    fn check(chunks: &Chunks<u32>, model: &[u32]) {
        assert_eq!(chunks.iter_at(chunks.start()).copied().collect::<Vec<_>>(), model);
        assert_eq!((chunks.len(), chunks.is_empty()), (model.len(), model.is_empty()));
        assert_eq!((chunks.first(), chunks.last()), (model.first(), model.last()));
        for (number, entry) in model.iter().enumerate() {
            let at = chunks.advance(chunks.start(), number);
            assert_eq!(chunks.iter_at(at).next(), Some(entry));
        }
        assert_eq!(chunks.iter_at(chunks.advance(chunks.start(), model.len())).next(), None);
    }

    proptest! {
        /// Against a vector; clones made on the way stay what they were.
        #[test]
        fn a_queue_is_a_vector(start in 0..90u32, steps in vec((0..8u8, any::<u16>(), any::<u16>()), 1..120)) {
            let mut model: Vec<u32> = (0..start).map(|entry| entry * 1_000).collect();
            let mut chunks = Chunks::<u32>::from_slice(&model, start);
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
