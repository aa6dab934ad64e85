//! What the clients of a run did and were told, as it happened: the material of the checker, which alone judges it.
//!
//! Times are microseconds since the run began, taken before a request is sent and after its answer is read, so that an order
//! between two of them is one that the clients could see.

#[path = "record.rs"]
pub(crate) mod record;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use record::Found;

/// A partition and an offset.
pub(crate) type Place = (u32, u64);

/// A value that was sent; every value is sent as one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) producer: usize,
    /// The producer's values in the order in which it began to send them.
    pub(crate) number: u64,
    pub(crate) fate: Fate,
}

/// What is known of a value besides its acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was acknowledged, or is sent again until it is.
    Retried,
    /// A server said that it was not written, and it was not sent again.
    Refused,
    /// Given up with an unknown outcome: it may be written at any time, once.
    Unknown,
}

/// A promise: the value is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acked {
    pub(crate) value: String,
    pub(crate) place: Place,
    /// When the answer was read.
    pub(crate) at: u64,
}

/// A page that a consumer read: it began where the one before ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) consumer: usize,
    pub(crate) partition: u32,
    /// Of its first record; where the next record will be if it is empty.
    pub(crate) from: u64,
    pub(crate) found: Vec<Found>,
    /// The high watermark, if the page says that there is nothing more below it.
    pub(crate) end: Option<u64>,
    /// When it was asked for.
    pub(crate) asked: u64,
}

/// A request that was sent again after its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repeated {
    pub(crate) first: Vec<Place>,
    pub(crate) again: Vec<Place>,
    /// The server said that it was one.
    pub(crate) duplicate: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) sent: HashMap<String, Sent>,
    pub(crate) acked: Vec<Acked>,
    pub(crate) pages: Vec<Page>,
    pub(crate) repeated: Vec<Repeated>,
    /// Answers that no server may give.
    pub(crate) wrong: Vec<String>,
    /// Requests for `/readyz` that were answered.
    pub(crate) ready_asked: u64,
}

/// Written by all clients of a run.
#[derive(Debug)]
pub(crate) struct Journal {
    begun: Instant,
    records: Mutex<Records>,
    /// Acknowledged records.
    count: AtomicU64,
    last_ack: AtomicU64,
    longest_pause: AtomicU64,
    /// Records that each consumer read.
    read: [AtomicU64; 3],
}

impl Journal {
    /// An empty one; its time begins now.
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            records: Mutex::default(),
            count: AtomicU64::new(0),
            last_ack: AtomicU64::new(0),
            longest_pause: AtomicU64::new(0),
            read: Default::default(),
        }
    }

    /// Now, in its time.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap()
    }

    /// What it holds.
    pub(crate) fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap()
    }

    /// Values are about to be sent, the first of them as the producer's `number`-th.
    pub(crate) fn sending(&self, producer: usize, number: u64, values: &[String]) {
        let mut records = self.records();
        for (number, value) in (number..).zip(values) {
            let before = records.sent.insert(value.clone(), Sent { producer, number, fate: Fate::Retried });
            assert!(before.is_none(), "{value} was sent before");
        }
    }

    /// They are given up, and this is known of them.
    pub(crate) fn given_up(&self, values: &[String], fate: Fate) {
        let mut records = self.records();
        for value in values {
            records.sent.get_mut(value).unwrap().fate = fate;
        }
    }

    /// An answer promised that each of the values is at its place.
    pub(crate) fn acked(&self, values: &[String], places: &[Place]) {
        let at = self.now();
        let pause = at.saturating_sub(self.last_ack.swap(at, Ordering::Relaxed));
        self.longest_pause.fetch_max(pause, Ordering::Relaxed);
        self.count.fetch_add(values.len() as u64, Ordering::Relaxed);
        let acked = values.iter().zip(places).map(|(value, place)| Acked { value: value.clone(), place: *place, at });
        let mut records = self.records();
        if values.len() != places.len() {
            records.wrong.push(format!("{} records were sent, and {places:?} acknowledged", values.len()));
        }
        records.acked.extend(acked);
    }

    /// A consumer read a page.
    pub(crate) fn read(&self, page: Page) {
        self.read[page.consumer].fetch_add(page.found.len() as u64, Ordering::Relaxed);
        self.records().pages.push(page);
    }

    /// Records that a consumer read so far.
    pub(crate) fn read_by(&self, consumer: usize) -> u64 {
        self.read[consumer].load(Ordering::Relaxed)
    }

    /// A server gave an answer that it must not give.
    pub(crate) fn wrong(&self, what: String) {
        self.records().wrong.push(what);
    }

    /// Records that were acknowledged so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The longest time in microseconds without any acknowledgement since it was asked last, the present one included.
    pub(crate) fn take_longest_pause(&self) -> u64 {
        let open = self.now().saturating_sub(self.last_ack.load(Ordering::Relaxed));
        self.longest_pause.swap(0, Ordering::Relaxed).max(open)
    }

    /// Nobody produces for a while: this is no pause.
    pub(crate) fn idle(&self) {
        self.last_ack.store(self.now(), Ordering::Relaxed);
        self.longest_pause.store(0, Ordering::Relaxed);
    }
}
