//! The loop around the conversion: claim, keep the claim, hand in, rest.

use std::time::Duration;

use tidelog::archive::{ClaimedJob, CompletedJob};
use tidelog::error::{Error, Result};
use tidelog::metrics as names;
use tidelog::metrics::cost::BucketJob;
use tidelog::store::Bucket;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::convert::convert;
use crate::jobs::Jobs;

/// Pauses after failures grow from the first to the second.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// How long a job is given back when the worker ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Converts one job at a time.
#[derive(Debug, Clone)]
pub struct Worker<J> {
    jobs: J,
    bucket: Bucket,
    name: String,
    interval: Duration,
}

impl<J: Jobs> Worker<J> {
    /// A worker that looks for work every `interval` when there is none. `name` is for people.
    #[must_use]
    pub fn new(jobs: J, bucket: Bucket, name: impl Into<String>, interval: Duration) -> Self {
        let bucket = bucket.on_behalf_of(BucketJob::Archive);
        Self { jobs, bucket, name: name.into(), interval }
    }

    /// Works until `shutdown`; a job that is in progress then is given back.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut pause = MIN_PAUSE;
        while !shutdown.is_cancelled() {
            let rest = match self.work_once(&shutdown).await {
                Ok(true) => {
                    pause = MIN_PAUSE;
                    continue;
                }
                Ok(false) => {
                    pause = MIN_PAUSE;
                    self.interval
                }
                Err(_) if shutdown.is_cancelled() => break,
                Err(error) => {
                    tracing::warn!(worker = self.name, error = ?error, "an archive job failed");
                    let jitter = rand::random_range(0.75..1.25);
                    let rest = pause.mul_f64(jitter);
                    pause = MAX_PAUSE.min(pause * 2);
                    // Not woken by requests: they would turn a broken bucket into a busy loop.
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(rest) => {}
                        () = shutdown.cancelled() => {}
                    }
                    continue;
                }
            };
            tokio::select! {
                biased;
                () = self.jobs.wait(rest) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Claims and does one job; `false` if there was none.
    ///
    /// # Errors
    /// Why the claim or the job failed; a job that failed was given back.
    pub async fn work_once(&self, shutdown: &CancellationToken) -> Result<bool> {
        let claim = tokio::select! {
            biased;
            claim = self.jobs.claim(&self.name) => claim?,
            () = shutdown.cancelled() => None,
        };
        let Some(job) = claim else { return Ok(false) };
        let started = Instant::now();
        let converted = tokio::select! {
            biased;
            converted = self.convert(&job) => converted,
            error = self.keep(&job) => Err(error),
            () = shutdown.cancelled() => Err(Error::unavailable("the worker is ending")),
        };
        let outcome = match converted {
            Ok(done) => self.complete(&job, done).await,
            Err(error) => Err(error),
        };
        metrics::histogram!(names::ARCHIVE_JOB_SECONDS).record(started.elapsed().as_secs_f64());
        match outcome {
            Ok(()) => {
                metrics::counter!(names::ARCHIVE_JOBS, "outcome" => "completed").increment(1);
                Ok(true)
            }
            Err(error) => {
                metrics::counter!(names::ARCHIVE_JOBS, "outcome" => "abandoned").increment(1);
                // If `complete` was done although its answer was lost, there is nothing left to give back.
                let farewell = tokio::time::timeout(FAREWELL, self.jobs.abandon(job.job, error.message())).await;
                if !matches!(farewell, Ok(Ok(()))) {
                    tracing::info!(job = job.job.job.0, "an archive job was not given back, it will expire");
                }
                Err(error)
            }
        }
    }

    async fn convert(&self, job: &ClaimedJob) -> Result<CompletedJob> {
        let within = Duration::from_millis(job.deadline_ms);
        let converted = tokio::time::timeout(within, convert(&self.bucket, job)).await;
        converted.map_err(|_| Error::unavailable("the archive job took longer than archive.deadline"))?
    }

    async fn complete(&self, job: &ClaimedJob, done: CompletedJob) -> Result<()> {
        let (files, rows) = (done.files.len() as u64, done.files.iter().map(|file| file.rows).sum());
        let bytes = done.files.iter().map(|file| file.bytes).sum();
        self.jobs.complete(done).await?;
        metrics::counter!(names::ARCHIVE_FILES).increment(files);
        metrics::counter!(names::ARCHIVE_RECORDS).increment(rows);
        metrics::counter!(names::ARCHIVE_WRITTEN_BYTES).increment(bytes);
        tracing::info!(
            worker = self.name,
            job = job.job.job.0,
            segments = job.segments.len(),
            files,
            rows,
            bytes,
            "segments were archived"
        );
        Ok(())
    }

    /// Extends the claim, three times as often as it needs. Returns when the claim is lost.
    async fn keep(&self, job: &ClaimedJob) -> Error {
        let claim = Duration::from_millis(job.claim_ms);
        let mut held_until = Instant::now() + claim;
        loop {
            tokio::time::sleep(claim / 3).await;
            match self.jobs.extend(job.job).await {
                Ok(()) => held_until = Instant::now() + claim,
                Err(error) if error.code() == "stale_job" || Instant::now() >= held_until => return error,
                Err(error) => {
                    tracing::warn!(job = job.job.job.0, error = ?error, "the claim was not extended, trying again")
                }
            }
        }
    }
}
