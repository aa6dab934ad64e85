//! One Raft group member: the only place that names openraft.
//!
//! The Raft log is the write-ahead cache of the bucket, and a checkpoint is the Raft snapshot: what is flushed and in a
//! checkpoint need not stay in the log. No method here talks to the bucket.
//!
//! | file | what |
//! |---|---|
//! | `node` | the handle |
//! | `start`, `adopt` | from a directory to a running node; from a flush to a purge |
//! | `leadership`, `leader`, `control` | who leads; proposing under log time, once or again |
//! | `propose`, `read` | proposals and linearizable reads of nodes that do not lead |
//! | `hand_over` | giving leadership away while others propose |
//! | `members`, `peers` | who belongs to the group, and what the leader knows of them |
//! | `transport`, `network`, `wire` | the way to the peers; openraft's calls over it; their bytes |
//! | `handle`, `remote`, `publish` | a shard whether its log is here or not; following one; what a node does for those that do |
//! | `acknowledged` | followers that lost what they had acknowledged |
//! | `receive`, `checkpoint_files` | what a node does for its peers; a checkpoint from a peer's disk |
//! | `machine` | openraft's state machine over [`crate::state::State`] |
//! | `wal` | the log on disk |
//! | `meta` | the local copy of the newest checkpoint |
//! | `tail` | a cache over the log |
//! | `growth` | who waits for which partitions |
//! | `versions` | the behaviour that all members know |
//! | `identity`, `lock` | whose directory it is, and who holds it |

mod acknowledged;
mod adopt;
mod checkpoint_files;
mod contact;
mod control;
mod error;
mod files;
mod growth;
mod hand_over;
mod handle;
mod identity;
mod leader;
mod leadership;
mod lock;
mod machine;
mod members;
mod meta;
mod network;
mod node;
mod options;
mod pace;
mod peers;
mod propose;
mod publish;
mod read;
mod receive;
mod remote;
mod start;
mod tail;
#[cfg(test)]
mod tests;
mod transport;
mod types;
mod versions;
mod wal;
mod wire;

pub use error::ProposeError;
pub use growth::Growth;
pub use handle::Handle;
pub use identity::NodeIdentity;
pub use leader::Leader;
pub use leadership::Leadership;
pub use lock::DirLock;
pub use members::{MAX_VOTERS, MemberStatus};
pub use node::{RaftNode, RaftStatus};
pub use options::{CheckpointFiles, RaftOptions, Start, StartCheckpoint, WalPresence};
pub use peers::PeerReport;
pub use propose::Gate;
pub use remote::{Remote, RemoteOptions, Seeds};
pub use transport::{Alone, CheckpointSource, PeerAddress, Transport, TransportError};
pub use types::Member;
pub use wire::{PeerStatus, Voter, kind};
