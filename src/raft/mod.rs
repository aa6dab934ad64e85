//! One Raft group member: the only place that names openraft and raft-log.
//!
//! The Raft log is the write-ahead cache of the bucket, and a checkpoint is the Raft snapshot: what is flushed and in a
//! checkpoint need not stay in the log. No method here talks to the bucket.

mod error;
mod files;
mod identity;
mod lock;
mod node;
mod options;
mod tail;
mod types;
mod wal;

pub use error::ProposeError;
pub use identity::NodeIdentity;
pub use lock::DirLock;
pub use node::{Growth, RaftNode, RaftStatus};
pub use options::{CheckpointFiles, RaftOptions, Start, StartCheckpoint, WalPresence};
