//! What the bucket and the other nodes cost: calls by job and kind, bytes by job and direction, and their price as the settings
//! have it.
//!
//! These are counted here and not in the recorder, which cannot be read: `GET /v1/cost` and the metrics say the same. It is an
//! estimate of one process since its start: retries inside the store's own client are not seen, and a listing counts once however
//! many pages it has.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use ::metrics::{counter, gauge};

use super::{BUCKET_JOB_BYTES, BUCKET_JOB_CALLS, COST, PEER_RECEIVED_BYTES, PEER_SENT_BYTES};

/// What a call to the bucket is for, as in [`BUCKET_JOB_CALLS`]'s label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BucketJob {
    /// Segments and checkpoints out of the tail.
    Flush,
    /// Segments into Parquet.
    Archive,
    /// Reads of clients.
    Fetch,
    /// Listing and deleting what nothing names.
    Gc,
    /// Starts, probes, checks.
    #[default]
    Other,
}

impl BucketJob {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Flush, Self::Archive, Self::Fetch, Self::Gc, Self::Other];

    /// The label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flush => "flush",
            Self::Archive => "archive",
            Self::Fetch => "fetch",
            Self::Gc => "gc",
            Self::Other => "other",
        }
    }
}

/// The kinds of calls, as in [`BUCKET_JOB_CALLS`]'s label.
pub const CALL_KINDS: [&str; 5] = ["put", "put_part", "get", "delete", "list"];

/// What things cost, in one currency.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Prices {
    /// 1,000 calls that write or list.
    pub put_per_1000: f64,
    /// 1,000 calls that read.
    pub get_per_1000: f64,
    /// A GiB read from the bucket.
    pub read_per_gib: f64,
    /// A GiB written to the bucket.
    pub written_per_gib: f64,
    /// A GiB sent to or received from other nodes.
    pub peer_per_gib: f64,
}

/// What a job did with the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobUse {
    /// Calls, in the order of [`CALL_KINDS`].
    pub calls: [u64; CALL_KINDS.len()],
    /// Bytes written.
    pub written: u64,
    /// Bytes read.
    pub read: u64,
}

/// All that was used since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Use {
    /// By job, in the order of [`BucketJob::ALL`].
    pub jobs: [JobUse; BucketJob::ALL.len()],
    /// Bytes sent to other nodes.
    pub sent: u64,
    /// Bytes received from other nodes.
    pub received: u64,
}

/// What was used, at the prices that were set.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spent {
    /// Calls that write or list.
    pub put: f64,
    /// Calls that read.
    pub get: f64,
    /// Bytes read from the bucket.
    pub read: f64,
    /// Bytes written to it.
    pub written: f64,
    /// Bytes between nodes.
    pub peer: f64,
}

impl Spent {
    /// The sum.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.put + self.get + self.read + self.written + self.peer
    }

    /// The parts by the label of [`COST`].
    #[must_use]
    pub const fn parts(&self) -> [(&'static str, f64); 5] {
        [("put", self.put), ("get", self.get), ("read", self.read), ("written", self.written), ("peer", self.peer)]
    }
}

impl JobUse {
    /// Its price; deletions cost nothing.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn spent(&self, prices: &Prices) -> Spent {
        let [put, put_part, get, _, list] = self.calls;
        Spent {
            put: (put + put_part + list) as f64 / 1e3 * prices.put_per_1000,
            get: get as f64 / 1e3 * prices.get_per_1000,
            read: self.read as f64 / GIB * prices.read_per_gib,
            written: self.written as f64 / GIB * prices.written_per_gib,
            peer: 0.0,
        }
    }
}

impl Use {
    /// The price of all of it.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn spent(&self, prices: &Prices) -> Spent {
        let peer = (self.sent + self.received) as f64 / GIB * prices.peer_per_gib;
        self.jobs.iter().map(|job| job.spent(prices)).fold(Spent { peer, ..Spent::default() }, |sum, job| Spent {
            put: sum.put + job.put,
            get: sum.get + job.get,
            read: sum.read + job.read,
            written: sum.written + job.written,
            peer: sum.peer,
        })
    }
}

const GIB: f64 = (1_u64 << 30) as f64;

#[derive(Debug)]
struct Counts {
    calls: [AtomicU64; CALL_KINDS.len()],
    written: AtomicU64,
    read: AtomicU64,
}

static COUNTS: [Counts; BucketJob::ALL.len()] = [const {
    Counts {
        calls: [const { AtomicU64::new(0) }; CALL_KINDS.len()],
        written: AtomicU64::new(0),
        read: AtomicU64::new(0),
    }
}; BucketJob::ALL.len()];
static SENT: AtomicU64 = AtomicU64::new(0);
static RECEIVED: AtomicU64 = AtomicU64::new(0);
static PRICES: Mutex<Option<Prices>> = Mutex::new(None);

/// Sets what things cost in this process.
pub fn set_prices(prices: Prices) {
    *PRICES.lock().unwrap_or_else(PoisonError::into_inner) = Some(prices);
}

/// What things cost; nothing before [`set_prices`].
#[must_use]
pub fn prices() -> Prices {
    PRICES.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or_default()
}

/// Counts a call; kinds that are not in [`CALL_KINDS`] are not counted.
pub fn bucket_call(job: BucketJob, kind: &str) {
    if let Some(place) = CALL_KINDS.iter().position(|known| *known == kind) {
        COUNTS[job as usize].calls[place].fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts bytes of bodies.
pub fn bucket_bytes(job: BucketJob, written: u64, read: u64) {
    COUNTS[job as usize].written.fetch_add(written, Ordering::Relaxed);
    COUNTS[job as usize].read.fetch_add(read, Ordering::Relaxed);
}

/// Counts bytes sent to other nodes.
pub fn peer_sent(bytes: u64) {
    SENT.fetch_add(bytes, Ordering::Relaxed);
}

/// Counts bytes received from other nodes.
pub fn peer_received(bytes: u64) {
    RECEIVED.fetch_add(bytes, Ordering::Relaxed);
}

/// All that was used since the start.
#[must_use]
pub fn used() -> Use {
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let jobs = BucketJob::ALL.map(|job| {
        let counts = &COUNTS[job as usize];
        JobUse {
            calls: std::array::from_fn(|kind| load(&counts.calls[kind])),
            written: load(&counts.written),
            read: load(&counts.read),
        }
    });
    Use { jobs, sent: load(&SENT), received: load(&RECEIVED) }
}

/// Sets the series of all of it.
pub(super) fn observe() {
    let used = used();
    for (job, did) in BucketJob::ALL.iter().zip(&used.jobs) {
        for (kind, calls) in CALL_KINDS.iter().zip(did.calls) {
            counter!(BUCKET_JOB_CALLS, "task" => job.name(), "kind" => *kind).absolute(calls);
        }
        for (direction, bytes) in [("written", did.written), ("read", did.read)] {
            counter!(BUCKET_JOB_BYTES, "task" => job.name(), "direction" => direction).absolute(bytes);
        }
    }
    counter!(PEER_SENT_BYTES).absolute(used.sent);
    counter!(PEER_RECEIVED_BYTES).absolute(used.received);
    for (part, price) in used.spent(&prices()).parts() {
        gauge!(COST, "part" => part).set(price);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_and_byte_has_its_price() {
        let prices = Prices {
            put_per_1000: 0.005,
            get_per_1000: 0.0004,
            read_per_gib: 0.09,
            written_per_gib: 0.01,
            peer_per_gib: 0.02,
        };
        let mut used = Use { sent: 1 << 30, received: 1 << 29, ..Use::default() };
        used.jobs[BucketJob::Flush as usize] = JobUse { calls: [1_000, 0, 0, 5_000, 0], written: 1 << 30, read: 0 };
        used.jobs[BucketJob::Archive as usize] = JobUse { calls: [0, 500, 2_000, 0, 500], written: 0, read: 1 << 30 };
        let spent = used.spent(&prices);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(spent.put, 0.01) && near(spent.get, 0.0008), "{spent:?}");
        assert!(near(spent.read, 0.09) && near(spent.written, 0.01) && near(spent.peer, 0.03), "{spent:?}");
        assert!(near(spent.total(), spent.parts().iter().map(|(_, price)| price).sum()));
        assert_eq!(used.spent(&Prices::default()).total(), 0.0);
    }

    #[test]
    fn what_is_counted_is_found_under_its_job() {
        let before = used();
        bucket_call(BucketJob::Gc, "delete");
        bucket_call(BucketJob::Gc, "no such kind");
        bucket_bytes(BucketJob::Gc, 3, 4);
        let after = used();
        let (before, after) = (before.jobs[BucketJob::Gc as usize], after.jobs[BucketJob::Gc as usize]);
        // Other tests of this process count too.
        assert!(
            after.calls[3] > before.calls[3] && after.written >= before.written + 3 && after.read >= before.read + 4
        );
        for (place, job) in BucketJob::ALL.iter().enumerate() {
            assert_eq!(*job as usize, place);
        }
    }
}
