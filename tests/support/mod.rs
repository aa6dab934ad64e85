//! What integration tests share: the real binary as a child process, an S3 server in this one, a history of what was
//! acknowledged, and the checker over it; a cluster of several processes, and the network between them.
//!
//! Tests wait on conditions with a deadline, never for a time.

#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part of it")]

pub(crate) mod away;
pub(crate) mod binary;
pub(crate) mod cluster;
pub(crate) mod far;
pub(crate) mod faults;
pub(crate) mod history;
pub(crate) mod http;
pub(crate) mod injected;
pub(crate) mod load;
pub(crate) mod net;
pub(crate) mod operators;
pub(crate) mod power;
pub(crate) mod process;
pub(crate) mod producers;
pub(crate) mod readers;
pub(crate) mod s3;
pub(crate) mod server;
pub(crate) mod small_disk;
pub(crate) mod table;
pub(crate) mod wal;

use std::future::Future;
use std::time::{Duration, Instant};

/// How long a condition may take on a machine with other work; a test that needs it has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < DEADLINE, "{what} did not happen within {DEADLINE:?}");
        tokio::time::sleep(POLL).await;
    }
}
