//! What may go: objects that nothing names, and records that retention ends.
//!
//! Nothing is deleted on a guess. A run proposes `Condemn{floor}`, floor being log time less the grace period; once that
//! is applied, nothing below the floor that is not live can become live any more. Then it lists the shard's objects
//! and deletes those below the floor that neither the state nor a kept checkpoint names: first checkpoints, then what
//! they named, so that a checkpoint that is there can be started from. Kept are the current checkpoint and those of
//! [`plan::kept`]; among them is one from before the grace period, so whatever was live within it is still there for
//! whoever reads by an older plan or listing; and each one that a node of the shard would start from.
//!
//! A crash at any point leaves garbage for the next run and nothing else. Reading the bucket is all that a run without
//! garbage does. [`retention`] only plans; its caller proposes the trims.

mod execute;
pub mod plan;
pub mod retention;
#[cfg(test)]
mod tests;

pub use execute::{Collector, Deleted, Log};
