//! Where each entry of the log is within the WAL: 24 bytes an entry.
//!
//! With it reads of old entries need not hold the lock that appends need, and a purge can leave a number of bytes rather
//! than of entries.

use std::collections::VecDeque;

/// Entries for which memory is kept.
const MIN_CAPACITY: usize = 16 * 1024;

/// A frame of the WAL that holds an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Term of the entry.
    pub(super) term: u64,
    /// WAL offset of the frame.
    pub(super) offset: u64,
    /// Bytes of the frame.
    pub(super) len: u32,
    /// The checksum of the frame before it: with it this one can be verified alone.
    pub(super) chain: u32,
}

/// The entries `[first, first + list.len())`.
#[derive(Debug, Default)]
pub(super) struct Places {
    first: u64,
    list: VecDeque<Place>,
}

impl Places {
    /// The place of entry `index`.
    pub(super) fn get(&self, index: u64) -> Option<Place> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.list.get(at).copied()
    }

    /// The places of the entries from `index` on, before `end`, whose frames take `bytes` of the WAL together with what is between
    /// them; but that of `index` in any case.
    pub(super) fn neighbours(&self, index: u64, end: u64, bytes: u64) -> Vec<Place> {
        let Some(at) = index.checked_sub(self.first).and_then(|at| usize::try_from(at).ok()) else { return Vec::new() };
        let count = usize::try_from(end.saturating_sub(index)).unwrap_or(usize::MAX);
        let mut places = self.list.iter().skip(at).take(count).copied();
        let Some(first) = places.next() else { return Vec::new() };
        let near = |place: &Place| place.offset + u64::from(place.len) - first.offset <= bytes;
        std::iter::once(first).chain(places.take_while(near)).collect()
    }

    /// Index of the first entry, if there is one.
    pub(super) fn first(&self) -> Option<u64> {
        (!self.list.is_empty()).then_some(self.first)
    }

    /// First index after the last entry, if there is one.
    pub(super) fn end(&self) -> Option<u64> {
        self.first().map(|first| first + self.list.len() as u64)
    }

    /// Adds the entry that follows the last one; after a snapshot the log may begin anywhere.
    pub(super) fn push(&mut self, index: u64, place: Place) {
        if self.end() != Some(index) {
            self.list.clear();
            self.first = index;
        }
        self.list.push_back(place);
    }

    /// Forgets the entries from `index` on.
    pub(super) fn truncate(&mut self, index: u64) {
        let keep = usize::try_from(index.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.list.truncate(keep);
    }

    /// Forgets the entries up to and with `index`.
    pub(super) fn purge(&mut self, index: u64) {
        while self.first <= index && self.list.pop_front().is_some() {
            self.first += 1;
        }
        // What an outage of the bucket had grown is given back.
        if self.list.capacity() > MIN_CAPACITY && self.list.capacity() / 4 > self.list.len() {
            self.list.shrink_to((2 * self.list.len()).max(MIN_CAPACITY));
        }
    }

    /// WAL offset of the first entry's frame, if there is one.
    pub(super) fn first_offset(&self) -> Option<u64> {
        self.list.front().map(|place| place.offset)
    }

    /// The last index that may be purged so that the entries after it begin at or before WAL offset `from`;
    /// `None` if none may.
    pub(super) fn last_before(&self, from: u64) -> Option<u64> {
        let after = self.list.partition_point(|place| place.offset + u64::from(place.len) <= from);
        after.checked_sub(1).map(|at| self.first + at as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u64, len: u32) -> Place {
        Place { term: 1, offset, len, chain: 0 }
    }

    #[test]
    fn an_entry_takes_24_bytes() {
        assert_eq!(size_of::<Place>(), 24);
    }

    #[test]
    fn entries_are_found_until_they_are_purged_or_truncated() {
        let mut places = Places::default();
        for index in 5..10 {
            places.push(index, place(index * 100, 100));
        }
        assert_eq!((places.first(), places.end()), (Some(5), Some(10)));
        assert_eq!(places.get(7).map(|place| place.offset), Some(700));
        assert_eq!((places.get(4), places.get(10)), (None, None));
        places.truncate(9);
        places.purge(5);
        assert_eq!((places.first(), places.end(), places.first_offset()), (Some(6), Some(9), Some(600)));
        places.purge(20);
        assert_eq!((places.first(), places.end()), (None, None));
        places.push(21, place(0, 10));
        assert_eq!(places.first(), Some(21));
        places.truncate(0);
        assert_eq!(places.first(), None);
    }

    #[test]
    fn neighbours_are_as_many_as_fit() {
        let mut places = Places::default();
        for index in 5..10 {
            // Ten bytes of something else between them.
            places.push(index, place(index * 110, 100));
        }
        let found = |index, end, bytes| places.neighbours(index, end, bytes).len();
        assert_eq!([found(4, 9, 1_000), found(10, 20, 1_000), found(9, 9, 1_000)], [0; 3]);
        assert_eq!((found(5, 10, 0), found(5, 10, 209), found(5, 10, 210), found(5, 10, 1_000)), (1, 1, 2, 5));
        assert_eq!((found(8, 10, 1_000), found(6, 8, 1_000)), (2, 2));
        assert_eq!(places.neighbours(6, 8, 1_000)[1].offset, 770);
    }

    #[test]
    fn a_purge_leaves_the_bytes_it_was_told_to() {
        let mut places = Places::default();
        for index in 5..10 {
            places.push(index, place(index * 100, 100));
        }
        assert_eq!(places.last_before(599), None);
        assert_eq!(places.last_before(600), Some(5));
        assert_eq!(places.last_before(799), Some(6));
        assert_eq!(places.last_before(u64::MAX), Some(9));
    }
}
