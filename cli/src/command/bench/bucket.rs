//! Bare PUTs: what a bucket takes at best of what a flush writes to it, as large and as many at a time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use tidelog::config;
use tidelog::store::Bucket;

use super::report::round;
use super::tally::{Latencies, LatencySummary};

/// Bytes of an object: those of a segment.
const SIZE: usize = 16 << 20;

/// What the bucket did.
#[derive(Debug, Clone, Serialize)]
pub(super) struct BucketFigures {
    /// Bytes of an object.
    pub size: usize,
    /// PUTs at a time.
    pub parallel: usize,
    pub mb_per_second: f64,
    /// Of a PUT, attempts made anew included.
    pub latency: LatencySummary,
}

/// Writes objects below `url` for as long as `duration`, and deletes them.
pub(super) fn measure(url: &str, duration: Duration) -> Result<BucketFigures> {
    // Each PUT is a task of its own, as those of a flush are: to sign 16 MiB is work.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the async runtime")?.block_on(async {
        let bucket = Bucket::open(url, &config::Store::default())?;
        let parallel = config::Flush::default().uploads as usize;
        let run = uuid::Uuid::new_v4();
        // A page of zeros might be treated as a hole by some stores.
        let content: Bytes = (0..SIZE).map(|at| (at * 131 % 251) as u8).collect();
        let begun = Instant::now();
        let keys = (0_u64..).map(|number| format!("bench/{run}-{number}")).take_while(|_| begun.elapsed() < duration);
        let put = |key: String| {
            let (bucket, content) = (bucket.clone(), content.clone());
            let task = async move {
                let sent = Instant::now();
                bucket.put(&key, vec![content]).await?;
                anyhow::Ok((key, sent.elapsed()))
            };
            async move { tokio::spawn(task).await? }
        };
        let written: Vec<(String, Duration)> =
            stream::iter(keys).map(put).buffer_unordered(parallel).try_collect().await?;
        let seconds = begun.elapsed().as_secs_f64();
        let mut latencies = Latencies::new()?;
        written.iter().for_each(|(_, latency)| latencies.record(*latency));
        let mb_per_second = round((written.len() * SIZE) as f64 / 1e6 / seconds);
        bucket.delete(written.into_iter().map(|(key, _)| key).collect()).await?;
        Ok(BucketFigures { size: SIZE, parallel, mb_per_second, latency: latencies.summary() })
    })
}
