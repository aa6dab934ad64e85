//! A fetch request and its page.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::batch::StoredBatch;
use super::id::{Offset, TopicId};
use super::record::StoredRecord;
use super::topic::Topic;

/// Where a fetch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchFrom {
    /// At this offset.
    Offset(Offset),
    /// At the log start offset.
    Earliest,
    /// At the high watermark.
    Latest,
    /// At the lowest offset whose record timestamp is at least this.
    Timestamp(i64),
    /// At the last n records.
    Tail(u64),
}

/// A fetch from one partition.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// The topic's name.
    pub topic: String,
    /// If set, the topic must still have this id.
    pub topic_id: Option<TopicId>,
    /// The partition.
    pub partition: u32,
    /// Where to begin.
    pub from: FetchFrom,
    /// Exclusive end: a cacheable range, at most the flushed offset.
    pub end: Option<Offset>,
    /// At most this many records, at least one.
    pub max_records: usize,
    /// About this many stored bytes, though always at least one record.
    pub max_bytes: usize,
    /// How long to wait for the first record.
    pub wait: Duration,
}

/// The offsets that bound a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// The smallest readable offset.
    pub log_start: Offset,
    /// Below it all is in segments or archive.
    pub flushed: Offset,
    /// Below it all is in the archive.
    pub archived: Offset,
    /// The first offset that is not readable yet.
    pub high_watermark: Offset,
}

/// A piece of a page: contiguous with its neighbours.
#[derive(Debug, Clone)]
pub enum Chunk {
    /// From tail or segment.
    Batch(StoredBatch),
    /// From the archive, which keeps records.
    Records(Vec<StoredRecord>),
}

/// A page of records. The chunks cover `[start, next_offset)` without gap or overlap; the first and the last batch may
/// reach beyond it and have to be clipped.
#[derive(Debug, Clone)]
pub struct FetchPage {
    /// The topic as of the read.
    pub topic: Arc<Topic>,
    /// The first offset of the page.
    pub start: Offset,
    /// Where to go on.
    pub next_offset: Offset,
    /// In offset order.
    pub chunks: Vec<Chunk>,
    /// The partition's bounds as of the read.
    pub bounds: Bounds,
    /// Its share of the memory for pages; whoever keeps its bytes in another form keeps this with them.
    pub hold: Hold,
}

/// A share of a budget, given back when its last clone is dropped.
#[derive(Clone, Default)]
pub struct Hold(Option<Arc<dyn Any + Send + Sync>>);

impl Hold {
    /// Holds `share` until it is dropped.
    #[must_use]
    pub fn new(share: impl Any + Send + Sync) -> Self {
        Self(Some(Arc::new(share)))
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Hold" } else { "Hold(nothing)" })
    }
}
