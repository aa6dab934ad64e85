//! What the queue says about topics and about itself.

use std::sync::Arc;

use super::archive::ArchiveFile;
use super::fetch::Bounds;
use super::id::{NodeId, Offset};
use super::topic::Topic;

/// A topic with its partitions.
#[derive(Debug, Clone)]
pub struct TopicDescription {
    /// Name, id, settings.
    pub topic: Arc<Topic>,
    /// By partition.
    pub partitions: Vec<Bounds>,
    /// By partition: the node that leads it, if that is known.
    pub leaders: Vec<Option<NodeId>>,
}

/// How far a flush got.
#[derive(Debug, Clone)]
pub struct FlushProgress {
    /// Whether all that was asked for is done.
    pub done: bool,
    /// The topic now.
    pub topic: TopicDescription,
    /// By partition: the high watermark when the request arrived.
    pub targets: Vec<Offset>,
}

/// One archive file of a listing.
#[derive(Debug, Clone)]
pub struct ListedFile {
    /// The file.
    pub file: ArchiveFile,
    /// Key in the bucket.
    pub key: String,
    /// A URL that a reader can open.
    pub url: String,
    /// Partition, start, end of what is live of it.
    pub partitions: Vec<(u32, Offset, Offset)>,
}

/// A page of a topic's archive files, one consistent version.
#[derive(Debug, Clone)]
pub struct ArchiveListing {
    /// In key order.
    pub files: Vec<ListedFile>,
    /// There are more after the last of `files`.
    pub has_more: bool,
    /// By partition: the offsets `[start, end)` that are in archive files.
    pub archived: Vec<(Offset, Offset)>,
    /// Wall time until which the listed files are kept at least.
    pub valid_until_ms: u64,
}

/// A background job that can be paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackgroundJob {
    /// Tail to segments.
    Flush,
    /// Segments to Parquet.
    Archive,
    /// Deleting what nothing names.
    Gc,
}
