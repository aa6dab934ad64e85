//! One Raft group member: the only place that names openraft.
//!
//! The Raft log is the write-ahead cache of the bucket, and a checkpoint is the Raft snapshot: what is flushed and in a
//! checkpoint need not stay in the log. No method here talks to the bucket.
//!
//! | file | what |
//! |---|---|
//! | `node` | the handle |
//! | `start`, `adopt` | from a directory to a running node; from a flush to a purge |
//! | `machine` | openraft's state machine over [`crate::state::State`] |
//! | `wal` | the log on disk |
//! | `meta` | the local copy of the newest checkpoint |
//! | `tail` | a cache over the log |
//! | `growth` | who waits for which partitions |
//! | `identity`, `lock` | whose directory it is, and who holds it |

mod adopt;
mod error;
mod files;
mod growth;
mod identity;
mod leader;
mod lock;
mod machine;
mod meta;
mod network;
mod node;
mod options;
mod start;
mod tail;
#[cfg(test)]
mod tests;
mod types;
mod wal;

pub use error::ProposeError;
pub use growth::Growth;
pub use identity::NodeIdentity;
pub use leader::Leader;
pub use lock::DirLock;
pub use node::{RaftNode, RaftStatus};
pub use options::{CheckpointFiles, RaftOptions, Start, StartCheckpoint, WalPresence};
