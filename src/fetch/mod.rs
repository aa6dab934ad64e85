//! Fetch: from offsets to records, whatever tier they are in.
//!
//! A [`Fetcher`] answers for one shard: it finds the offset at which to begin, plans which tier has what ([`plan`], pure),
//! reads the pieces, and puts a page together. [`records`] and [`placed_batches`] take a page apart.

mod ahead;
mod fetcher;
mod locate;
mod memory;
mod objects;
mod page;
mod pieces;
pub mod plan;
mod raft;
mod recent;
mod runs;
mod source;
#[cfg(test)]
mod tests;
mod wait;

pub use fetcher::Fetcher;
pub use page::{placed_batches, records};
pub use source::{Growth, Source};
