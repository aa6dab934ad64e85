//! Which segments are turned into Parquet, when, and by whom: the queue's side of archiving.
//!
//! The worker is the crate `compactor`; it sees [`ClaimedJob`] and answers [`CompletedJob`], in this process or over HTTP.
//! A job is a run of segments of one shard, claimed in the replicated state under a number and a deadline: nobody else
//! gets them while it holds, and what a worker brings after it is declined.
//!
//! | module | what |
//! |---|---|
//! | [`plan`] | the choice of a run, pure |
//! | [`survey`] | what the choice is made from, and what a worker is told, read from a view of the state |
//! | [`requests`] | what `:flush?archive=true` asks for before its time |
//! | [`serve`] | claim, extend, complete, abandon as commands |
//!
//! No bytes of segments or archive files pass through here.

pub mod job;
pub mod plan;
pub mod requests;
pub mod serve;
pub mod survey;
#[cfg(test)]
mod tests;

pub use job::{ClaimedJob, ClaimedSegment, CompletedJob, JobRef};
pub use requests::Requests;
pub use serve::{JobServer, JobWatch};
