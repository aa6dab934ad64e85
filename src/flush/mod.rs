//! Flush: from the tail to segments and a checkpoint in the bucket.
//!
//! [`plan`] cuts the tail (pure), [`Flusher`] writes one flush, [`FlushTask`] decides when; on a node that does not lead
//! [`follow()`] asks the leader and sees how far it is. The steps and what a crash
//! after each leaves behind are in `docs/architecture.md`.

mod execute;
mod follow;
pub mod plan;
mod task;

pub use execute::{Flusher, FlusherOptions, Replaced};
pub use follow::{AskLeader, follow};
pub use task::{FlushHandle, FlushTask, Triggers};
