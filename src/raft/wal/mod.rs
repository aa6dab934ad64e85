//! The Raft log on disk: raft-log behind openraft's storage traits.
//!
//! | file | what |
//! |---|---|
//! | `codec` | Raft's values as bytes |
//! | `mark` | what the log says of what had been synced |
//! | `places` | where each entry is |
//! | `repair` | cuts a torn tail, refuses corruption |
//! | `log` | writes |
//! | `sync_point` | fail point `wal.sync`: a slow or failing disk |
//! | `store` | openraft's `RaftLogStorage` |
//! | `read` | openraft's `RaftLogReader`, and reads for fetches |

mod codec;
mod log;
mod mark;
mod places;
mod read;
mod repair;
mod store;
mod sync_point;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use codec::ENTRY_OVERHEAD_BYTES;
pub(crate) use codec::{MAX_MEMBERSHIP_BYTES, WalLogId, WalPayload, decode_membership, encode_membership};
pub(crate) use read::LogReader;
pub(crate) use store::{LogOptions, LogStore};
