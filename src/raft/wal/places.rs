//! Where each entry of the log is within the WAL.
//!
//! raft-log keeps such a map too but shows it to nobody; with our own, reads of old entries need not hold the lock
//! that appends need, and a purge can leave a number of bytes rather than of entries.

use std::collections::VecDeque;

use super::codec::WalLogId;

/// A record of the WAL that holds an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Term of the entry.
    pub(crate) term: u64,
    /// WAL offset of the record.
    pub(crate) offset: u64,
    /// Bytes of the record.
    pub(crate) len: u32,
}

impl Place {
    /// The WAL offset after it.
    pub(crate) fn end(&self) -> u64 {
        self.offset + u64::from(self.len)
    }
}

/// The entries `[first, first + list.len())`.
#[derive(Debug, Default)]
pub(crate) struct Places {
    first: u64,
    list: VecDeque<Place>,
}

impl Places {
    /// The place of entry `index`.
    pub(crate) fn get(&self, index: u64) -> Option<Place> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.list.get(at).copied()
    }

    /// Index of the first entry, if there is one.
    pub(crate) fn first(&self) -> Option<u64> {
        (!self.list.is_empty()).then_some(self.first)
    }

    /// First index after the last entry, if there is one.
    pub(crate) fn end(&self) -> Option<u64> {
        self.first().map(|first| first + self.list.len() as u64)
    }

    /// Adds the entry that follows the last one; after a snapshot the log may begin anywhere.
    pub(crate) fn push(&mut self, id: WalLogId, offset: u64, len: u32) {
        if self.end() != Some(id.index) {
            self.list.clear();
            self.first = id.index;
        }
        self.list.push_back(Place { term: id.term, offset, len });
    }

    /// Forgets the entries from `index` on.
    pub(crate) fn truncate(&mut self, index: u64) {
        let keep = usize::try_from(index.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.list.truncate(keep);
    }

    /// Forgets the entries up to and with `index`.
    pub(crate) fn purge(&mut self, index: u64) {
        while self.first <= index && self.list.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// The last index that may be purged so that the entries after it begin at or before WAL offset `from`;
    /// `None` if none may.
    pub(crate) fn last_before(&self, from: u64) -> Option<u64> {
        let after = self.list.partition_point(|place| place.offset + u64::from(place.len) <= from);
        after.checked_sub(1).map(|at| self.first + at as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64) -> WalLogId {
        WalLogId { term: 1, index }
    }

    #[test]
    fn entries_are_found_until_they_are_purged_or_truncated() {
        let mut places = Places::default();
        for index in 5..10 {
            places.push(id(index), index * 100, 100);
        }
        assert_eq!((places.first(), places.end()), (Some(5), Some(10)));
        assert_eq!(places.get(7).map(|place| place.offset), Some(700));
        assert_eq!((places.get(4), places.get(10)), (None, None));
        places.truncate(9);
        places.purge(5);
        assert_eq!((places.first(), places.end()), (Some(6), Some(9)));
        places.purge(20);
        assert_eq!((places.first(), places.end()), (None, None));
        places.push(id(21), 0, 10);
        assert_eq!(places.first(), Some(21));
        places.truncate(0);
        assert_eq!(places.first(), None);
    }

    #[test]
    fn a_purge_leaves_the_bytes_it_was_told_to() {
        let mut places = Places::default();
        for index in 5..10 {
            places.push(id(index), index * 100, 100);
        }
        assert_eq!(places.last_before(599), None);
        assert_eq!(places.last_before(600), Some(5));
        assert_eq!(places.last_before(799), Some(6));
        assert_eq!(places.last_before(u64::MAX), Some(9));
    }
}
