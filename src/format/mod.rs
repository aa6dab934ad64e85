//! Bytes to nouns and back: every persistent and transmitted format of the engine.
//!
//! Rules for all of them: a version from the first day, a table in `docs/formats.md`, golden bytes in a test, and decoders
//! that are bounded: they never panic on any input and never allocate from a length they have not checked. No I/O, no async.
//!
//! | module | what | protected by |
//! |---|---|---|
//! | [`archive`] | the records of one topic and day as Parquet | CRC-32C for each row group and for the footer |
//! | [`batch`] | Kafka record batch v2: the bytes of records everywhere but in the archive | CRC-32C of its own |
//! | [`checkpoint`] | a shard's metadata in one object, and its index parts | CRC-32C over the whole |
//! | [`command`] | one Raft entry | the Raft log's checksum |
//! | [`segment`] | batches of many partitions in one object of the bucket | CRC-32C for each block and for the footer |

pub mod archive;
pub mod batch;
pub mod checkpoint;
pub mod command;
pub mod segment;
