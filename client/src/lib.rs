//! Async Rust client of Tidelog's HTTP API; used by the command line, the tests and the load generator.
//!
//! A [`Client`] is a cheap handle to one server, or to several of one cluster, of which one is asked until it fails. Every error says what the server wrote ([`Error::outcome`]); a request is
//! sent again only where that cannot write twice: reads, requests that were not written, and produce requests under a
//! producer triple or an idempotency key. Each retry waits with jitter, obeys the server's `Retry-After`, and all
//! attempts of a call share one deadline.
//!
//! | module | what |
//! |---|---|
//! | [`Client`] | connections, requests and their retries; topics, producers, operation |
//! | [`Topic`] | one topic by its id: every request sends the id, so a replaced topic is an error and not other data |
//! | [`Records`] | consuming: pages of NDJSON lines, resumed after the last whole line when a stream breaks |
//! | [`Producer`] | an idempotent producer: batches of records numbered for each partition |
//!
//! It knows nothing of the engine: only the crate `tidelog-api`.

mod admin;
mod call;
mod client;
mod cluster;
mod error;
mod fetch;
mod jobs;
mod partition;
mod produce;
mod retry;
#[cfg(test)]
mod tests;
mod topic;

pub use call::Safety;
pub use client::{Access, Client, ClientOptions};
pub use error::{ApiError, Error, Result};
pub use fetch::{FetchStart, Page, Records};
pub use partition::partition_of;
pub use produce::{Acks, Batch, Producer, SEQUENCE_MODULUS};
pub use retry::RetryPolicy;
pub use topic::Topic;
