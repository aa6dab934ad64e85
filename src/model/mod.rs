//! The nouns of Tidelog, shared by everything above: one spelling of the domain model.
//!
//! The `Command` that is proposed is the one that is logged, forwarded and applied. No I/O, no async, no clock.

pub mod archive;
pub mod batch;
pub mod catalog;
pub mod checkpoint;
pub mod cluster;
pub mod command;
pub mod fetch;
pub mod id;
pub mod limits;
pub mod produce;
pub mod producer;
pub mod record;
pub mod rejection;
pub mod segment;
pub mod status;
pub mod topic;

pub use archive::{ArchiveFile, ArchiveRange, Job, JobId};
pub use batch::{BatchInfo, StoredBatch, TailRef};
pub use catalog::{CATALOG_SHARD, Holding, PartitionRun, PlacementRun, Revision, TopicSync};
pub use checkpoint::{Checkpoint, CheckpointRef, IndexPart, IndexPartRef, NamedObject, Place, StoredRange};
pub use cluster::{ClusterStatus, GroupStatus, Health, MemberStatus, NodeProfile};
pub use command::{Answer, Append, Appended, BatchOutcome, Command, Control, LogStart, LoggedCommand, NamedSettings};
pub use fetch::{Bounds, Chunk, FetchFrom, FetchPage, FetchRequest, Hold};
pub use id::{Incarnation, LogIndex, LogTime, NodeId, ObjectId, Offset, ProducerId, ShardId, TopicId, TopicPartition};
pub use limits::Limits;
pub use produce::{Acks, Payload, ProduceRequest, Produced, RecordOutcome};
pub use producer::{IdempotencyKey, Keyed, Triple};
pub use record::{Header, Record, StoredRecord};
pub use rejection::Rejection;
pub use segment::{SegmentInfo, SegmentRange};
pub use status::{ArchiveListing, BackgroundJob, FlushProgress, ListedFile, TopicDescription};
pub use topic::{Compression, Topic, TopicSettings, ValueFormat};
