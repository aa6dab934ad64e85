//! Flush: from the tail to segments and a checkpoint in the bucket.
//!
//! [`plan`] cuts the tail (pure), [`Flusher`] writes one flush, [`FlushTask`] decides when. The steps and what a crash
//! after each leaves behind are in `docs/architecture.md`.

mod execute;
pub mod plan;
mod task;

pub use execute::{Flusher, FlusherOptions, Replaced};
pub use task::{FlushHandle, FlushTask, Triggers};
