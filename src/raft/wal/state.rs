//! What the records of the log come to, entries aside: vote, last, committed, purged.
//!
//! Each file begins with the state as of its beginning, so that the files before it may go.

use std::io;

use super::codec::{Fields, WalLogId, WalVote, encode_option, invalid};
use super::frame::Record;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LogState {
    pub(super) vote: Option<WalVote>,
    /// The last entry, or what was purged if there is none after it.
    pub(super) last: Option<WalLogId>,
    pub(super) committed: Option<WalLogId>,
    pub(super) purged: Option<WalLogId>,
}

impl LogState {
    /// Whether `record` may follow.
    ///
    /// # Errors
    /// `InvalidData` that says why not.
    pub(super) fn check(&self, record: &Record) -> io::Result<()> {
        let fits = match record {
            // A log may begin anywhere: after a checkpoint.
            Record::Entry(id, _) => self.last.is_none_or(|last| id.index == last.index + 1 && id.term >= last.term),
            Record::Vote(vote) => self.vote.is_none_or(|held| vote.0 >= held.0),
            Record::Commit(id) => Some(*id) >= self.committed && Some(*id) <= self.last,
            Record::Truncate(keep) => *keep >= self.committed.max(self.purged) && *keep <= self.last,
            Record::Purge(_) | Record::Mark(_) | Record::Open(_) => true,
        };
        if fits { Ok(()) } else { Err(invalid(format!("{} cannot follow {self:?}", name(record)))) }
    }

    /// Takes in a record that may follow.
    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::Entry(id, _) => self.last = Some(*id),
            Record::Vote(vote) => self.vote = Some(*vote),
            Record::Commit(id) => self.committed = Some(*id),
            Record::Truncate(keep) => self.last = *keep,
            Record::Purge(id) => {
                self.purged = self.purged.max(Some(*id));
                self.last = self.last.max(Some(*id));
            }
            Record::Mark(_) | Record::Open(_) => {}
        }
    }

    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        encode_option(self.vote.as_ref(), WalVote::BYTES, into, WalVote::encode);
        for id in [self.last, self.committed, self.purged] {
            encode_option(id.as_ref(), WalLogId::BYTES, into, WalLogId::encode);
        }
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> io::Result<Self> {
        Ok(Self {
            vote: fields.option(WalVote::decode)?,
            last: fields.option(WalLogId::decode)?,
            committed: fields.option(WalLogId::decode)?,
            purged: fields.option(WalLogId::decode)?,
        })
    }
}

fn name(record: &Record) -> String {
    match record {
        Record::Entry(id, _) => format!("entry {} of term {}", id.index, id.term),
        other => format!("{other:?}"),
    }
}
