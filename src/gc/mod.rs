//! What may go: objects that nothing names, and records that retention ends.
//!
//! Nothing is deleted on a guess. A run lists some of the shard's objects; if any of them is below the floor, log time less
//! the grace period, and neither the state nor a kept checkpoint names it, the run proposes `Condemn{floor}`. Once that is
//! applied, nothing below the floor that is not live can become live any more. What was found is held against the state and
//! the checkpoints once more, and what is still not named goes: first checkpoints, then what they named, so that a checkpoint
//! that is there can be started from. Kept are the current checkpoint and those of [`plan::kept`]; among them is one from
//! before the grace period, so whatever was live within it is still there for whoever reads by an older plan or listing; and
//! each one that a node of the shard would start from.
//!
//! A crash at any point leaves garbage for the next run and nothing else. A leader that slept, however long, deletes only what
//! it had found before, and that stays garbage; a cluster whose bucket another one was started from deletes nothing, since it
//! does not know what that one names. Reading the bucket is all that a run without garbage does. [`survey`] tells what a run
//! would delete; [`retention`] only plans, its caller proposes the trims.

mod execute;
mod look;
pub mod plan;
pub mod retention;
pub mod survey;
#[cfg(test)]
mod tests;

pub use execute::{Collector, Deleted, Extent, Log};
