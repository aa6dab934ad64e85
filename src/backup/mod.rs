//! Copies of a cluster's bucket elsewhere, and buckets made of them: backup and disaster recovery.
//!
//! | module | what |
//! |---|---|
//! | [`take()`] | copies a checkpoint of every shard and all that they name into a place for backups |
//! | [`restore()`] | makes a new bucket, of another cluster, out of a backup |
//! | [`rebuild`] | makes checkpoints of nothing but segments and archive files |
//! | [`manifest`] | the objects that say what a backup and a bucket that is being restored are |
//! | `copy` | copies one object, verified on the way |
//! | [`pace`] | how fast that goes, and how far it is |
//!
//! Everything here works on buckets alone: no node is asked, none is needed, and one may run on the bucket that is read. All writes are
//! of objects that do not change, and the one that makes their sum count is written last: whatever breaks off is done again and goes on
//! where it was. Bytes that fail a checksum are not copied. Nothing is ever deleted.

mod copy;
mod inventory;
pub mod manifest;
pub mod pace;
pub mod rebuild;
mod rename;
mod restore;
mod take;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Serialize;

pub use self::restore::{Restored, restore};
pub use self::take::{Taken, TakenShard, take};
use crate::error::{Error, ErrorKind};

/// How to copy.
#[derive(Debug, Clone)]
pub struct Options {
    /// Objects on their way at once; each holds at most some 72 MiB: a part of an upload of a large archive file, and a piece
    /// beside it.
    pub parallel: usize,
    /// Bytes read a second at most.
    pub bytes_per_second: Option<u64>,
    /// How long a flush under way may leave the newest checkpoint without one of its objects, before the one before it is taken.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { parallel: 4, bytes_per_second: None, patience: Duration::from_secs(10) }
    }
}

/// Objects and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Volume {
    /// How many.
    pub objects: u64,
    /// All of theirs.
    pub bytes: u64,
}

impl Volume {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }

    fn sum(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::default(), |sum, next| Self {
            objects: sum.objects + next.objects,
            bytes: sum.bytes + next.bytes,
        })
    }
}

fn conflict(code: &'static str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Conflict, code, message)
}
