//! The Raft log on disk: our own write-ahead log behind openraft's storage traits (docs/decisions/0016).
//!
//! | file | what |
//! |---|---|
//! | `codec`, `state` | Raft's values as bytes; what they come to |
//! | `frame`, `mark`, `header` | the format: records, what had been synced, how a file begins |
//! | `files`, `scan`, `repair` | opening: finds the files, verifies them, cuts a torn tail, refuses corruption |
//! | `places` | where each entry is |
//! | `tip` | the end of the log as appends see it |
//! | `group`, `queue`, `writer` | what the log's thread writes and syncs |
//! | `spare` | recycled and preallocated files |
//! | `log` | all of it together |
//! | `store` | openraft's `RaftLogStorage` |
//! | `read` | openraft's `RaftLogReader`, and reads for fetches |

mod codec;
mod files;
mod frame;
mod group;
mod header;
mod log;
mod mark;
mod places;
mod queue;
mod read;
mod repair;
mod scan;
mod spare;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod tip;
mod writer;

#[cfg(test)]
pub(crate) use codec::ENTRY_OVERHEAD_BYTES;
pub(crate) use codec::{MAX_MEMBERSHIP_BYTES, WalLogId, WalPayload, decode_membership, encode_membership};
pub(crate) use read::LogReader;
pub(crate) use store::{LogOptions, LogStore};
