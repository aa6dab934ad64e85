//! The archive worker of Tidelog: segments in, Parquet out.
//!
//! A [`Worker`] claims a job (a run of segments), reads each segment once, writes one Parquet file for each topic and append
//! day (more if it grows too large), and hands the result in; the queue puts the files in the segments' place in one
//! command. Whatever goes wrong before that changes nothing: the job is given back or expires, and what was uploaded is
//! named by nobody and collected later. A file appears whole or not at all.
//!
//! ```text
//! reader (async)                     encoder (a blocking thread)          uploads (async)
//! blocks, 16 ahead, verified ──▶ batches ──▶ rows ──▶ row groups ──▶ one thread for each file
//!                            1 MiB messages                    at most 2 waiting
//! ```
//!
//! Memory is bounded: a block for each segment of the job and 16 on their way, one row group being encoded, and 192 MiB of row
//! groups and parts being uploaded. The worker reaches the queue through [`Jobs`] only, so it may be the same process or
//! another.

mod blocks;
pub mod convert;
mod encode;
mod jobs;
#[cfg(test)]
mod tests;
mod upload;
mod worker;

pub use convert::convert;
pub use jobs::Jobs;
pub use worker::Worker;
