//! What clients asked and what they were answered, in the order in which it happened: plain values, written by clients,
//! read by the checker.
//!
//! Everything runs on one thread, so a counter orders all events: what has the smaller [`Stamp`] was before. Each record
//! that is sent has a value that no other has, so that a record which is read tells which send it came from. Topics have
//! names that are never used twice.

use std::collections::BTreeMap;

/// The place of an event among all events.
pub type Stamp = u64;
/// Milliseconds since the simulation began.
pub type Millis = u64;
/// A topic and a partition of it.
pub type Part = (String, u32);

/// A record as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Its value, which no other has.
    pub value: String,
    /// Hash of its key, its headers and its timestamp.
    pub rest: u64,
}

/// What makes it safe to send a request again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// Nothing: it is sent once.
    Plain,
    /// An idempotency key.
    Key(String),
    /// A producer's id, epoch and the sequence of the first record.
    Triple(u64, u16, u32),
}

/// What an answer promises of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// It is on the disks of a majority.
    Quorum,
    /// It is in the bucket.
    Object,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No answer came, or one that says that nobody knows.
    Unknown,
    /// The answer says that nothing was written.
    NotWritten,
    /// The answer promises nothing and names no offsets (`acks=none`).
    Accepted,
    /// Each record is at its partition and offset; `None` for those of which nothing was said.
    Written(Durability, Vec<Option<(u32, u64)>>),
}

/// One try of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When it was sent.
    pub begun: Stamp,
    /// When the answer was there; `None` if none came.
    pub ended: Option<Stamp>,
    /// When that was.
    pub time: Millis,
    /// What it said.
    pub outcome: Outcome,
}

/// A produce request with all its attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// Who sent it; one after the other.
    pub client: u32,
    /// To which topic.
    pub topic: String,
    /// To which partition; `None` if the server chose.
    pub partition: Option<u32>,
    /// What was sent.
    pub records: Vec<Record>,
    /// What makes a retry safe.
    pub guard: Guard,
    /// The offset that the first record had to get.
    pub expected: Option<u64>,
    /// In the order in which they were sent; at least one.
    pub attempts: Vec<Attempt>,
}

impl Send {
    /// When it was sent first.
    #[must_use]
    pub fn begun(&self) -> Stamp {
        self.attempts.first().map_or(Stamp::MAX, |attempt| attempt.begun)
    }

    /// Whether every attempt was answered with the promise that nothing was written.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.attempts.iter().all(|attempt| attempt.outcome == Outcome::NotWritten)
    }
}

/// A page that a reader got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Which partition.
    pub part: Part,
    /// The offset that was asked for.
    pub from: u64,
    /// When it was asked for.
    pub begun: Stamp,
    /// When it was there.
    pub ended: Stamp,
    /// Offset and record.
    pub records: Vec<(u64, Record)>,
    /// Where the next page begins.
    pub next: u64,
    /// Whether it went up to the high watermark, so that it says that there was nothing more.
    pub to_the_end: bool,
    /// What it says of the partition.
    pub bounds: Bounds,
}

/// The readable offsets of a partition: `[log_start, high_watermark)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// The first.
    pub log_start: u64,
    /// The first that is not there yet.
    pub high_watermark: u64,
}

/// A linearizable answer about the bounds of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Which partition.
    pub part: Part,
    /// When it was asked for.
    pub begun: Stamp,
    /// When it was there.
    pub ended: Stamp,
    /// The answer.
    pub bounds: Bounds,
}

/// A topic that clients know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// When the answer that it was created was there; `None` if none came.
    pub created: Option<Stamp>,
    /// When a deletion was asked for first.
    pub deleting: Option<Stamp>,
    /// When the answer that it was deleted was there.
    pub deleted: Option<Stamp>,
    /// How old records become; `None`: they stay.
    pub retention: Option<Millis>,
    /// How old records become in the archive once they left the log; `None`: they go with it.
    pub archive: Option<Millis>,
}

/// All disks were lost and the cluster was started from what the bucket had, without having been closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// When.
    pub at: Stamp,
    /// Offsets below these were in the bucket.
    pub kept: BTreeMap<Part, u64>,
}

/// Something that a client was promised of which only the moment tells whether it was true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPromise {
    /// Partition and offset of an answer to `acks=object`.
    pub place: (Part, u64),
    /// Offsets below this were in the bucket when the answer was there, by a checkpoint.
    pub flushed: u64,
}

/// Everything that clients did.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Produce requests.
    pub sends: Vec<Send>,
    /// Pages of readers.
    pub pages: Vec<Page>,
    /// Linearizable looks at bounds.
    pub looks: Vec<Look>,
    /// Topics by name.
    pub topics: BTreeMap<String, Topic>,
    /// Starts from the bucket that were allowed to lose something, in order.
    pub cuts: Vec<Cut>,
    /// What the bucket had when `acks=object` was answered.
    pub objects: Vec<ObjectPromise>,
    clock: Stamp,
}

impl History {
    /// The stamp of an event that happens now.
    pub fn stamp(&mut self) -> Stamp {
        self.clock += 1;
        self.clock
    }
}

/// One partition as a reader found it in the end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartScan {
    /// The first readable offset.
    pub start: u64,
    /// The first offset that the reader says is not there.
    pub end: u64,
    /// Offset and record in the order in which they were read.
    pub records: Vec<(u64, Record)>,
}

/// A batch of an idempotent producer as it lies in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamped {
    /// Producer id.
    pub producer: u64,
    /// Epoch.
    pub epoch: u16,
    /// Sequence of a record.
    pub sequence: u32,
}

/// What one reader found in the end.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// Who read: for people.
    pub source: String,
    /// Every partition of every topic that is there.
    pub parts: BTreeMap<Part, PartScan>,
    /// Offset and record of what archive files have of each partition below its first readable offset.
    pub kept: BTreeMap<Part, Vec<(u64, Record)>>,
    /// Producer's stamps by place, where the reader sees them.
    pub stamps: Vec<(Part, u64, Stamped)>,
    /// What the reader found damaged, missing or contradictory.
    pub problems: Vec<String>,
}

/// The state of a replica in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Which node.
    pub node: u64,
    /// Of which shard.
    pub shard: u32,
    /// Up to which log index.
    pub applied: u64,
    /// Hash of its state.
    pub hash: String,
    /// Its log time, milliseconds since the simulation began.
    pub log_time: i64,
}

/// The hash of a replica's state at some moment of the run, before a crash or after it, on a node or on a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The life of the cluster on its bucket: another one has another history.
    pub incarnation: u64,
    /// Of which shard.
    pub shard: u32,
    /// Up to which log index.
    pub applied: u64,
    /// Up to which one all is in the bucket. A node that starts from a checkpoint has it from there on, the others from where
    /// they apply that it was written: between the two their states differ.
    pub flushed: u64,
    /// Whose.
    pub node: u64,
    /// When.
    pub at: Millis,
    /// Hash of the state.
    pub hash: u128,
}

/// What was there in the end.
#[derive(Debug, Clone, Default)]
pub struct End {
    /// Over HTTP: everything.
    pub http: Scan,
    /// Out of the bucket: what is below the flushed offsets.
    pub bucket: Scan,
    /// The replicas, each as often as it was looked at.
    pub replicas: Vec<Replica>,
    /// Hashes that were taken meanwhile.
    pub samples: Vec<Sample>,
    /// When.
    pub time: Millis,
}
