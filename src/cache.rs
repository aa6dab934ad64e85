//! The block cache: blocks of immutable objects, in memory and on disk, over foyer.
//!
//! However many readers ask for a block at a time, it is fetched once. A block carries its key and a CRC-32C through
//! the disk: one that fails it counts as absent, so it is fetched anew and never served. Objects are immutable, so
//! nothing is ever invalidated but a block that was damaged when it was fetched. The disk part is a convenience: a
//! directory that cannot be read is discarded, one that cannot be written leaves the cache in memory, and neither stops
//! a start or a read.
//!
//! It knows nothing of what is in a block, nor of where it comes from.

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::metrics::{counter, gauge};
use bytes::Bytes;
use foyer::{
    BlockEngineConfig, Code, DeviceBuilder, ErrorKind, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    PsyncIoEngineConfig, Source, Throttle,
};

use crate::error::{Error, Result};
use crate::metrics::{
    CACHE_DISK_BUDGET_BYTES, CACHE_FETCHED_BYTES, CACHE_LOOKUPS, CACHE_MEMORY_BUDGET_BYTES, CACHE_MEMORY_BYTES,
};
use crate::model::ObjectId;

/// Charged for a block besides its bytes: key, map nodes, allocator.
const BLOCK_OVERHEAD: usize = 256;
/// The largest block that is read back from disk; foyer's regions are 16 MiB, so none is longer.
const MAX_DISK_BLOCK: usize = 16 << 20;
/// Memory of one part of the map, at least: a part has to hold several blocks of 1 MiB.
const SHARD_BYTES: u64 = 16 << 20;
/// Bytes a second that may be written to the disk part, so that a scan leaves the disk to the write-ahead log.
const WRITE_THROUGHPUT: usize = 128 << 20;
/// Written into the directory; another layout or size is discarded.
const LAYOUT_VERSION: u32 = 1;
const LAYOUT_FILE: &str = "layout";

/// What part of an object a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum BlockKind {
    /// Physical block `index` of a segment.
    SegmentBlock = 1,
    /// A segment's footer; `index` is 0.
    SegmentFooter = 2,
    /// An archive file's Parquet metadata; `index` is 0.
    ArchiveFooter = 3,
    /// Bytes of an archive file from `index`, with a length that the file's metadata decides.
    ArchiveRange = 4,
}

impl BlockKind {
    const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::SegmentBlock),
            2 => Some(Self::SegmentFooter),
            3 => Some(Self::ArchiveFooter),
            4 => Some(Self::ArchiveRange),
            _ => None,
        }
    }
}

/// The name of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey {
    /// The object.
    pub object: ObjectId,
    /// What part of it.
    pub kind: BlockKind,
    /// Which of those.
    pub index: u64,
}

const KEY_BYTES: usize = 25;

impl BlockKey {
    fn to_bytes(self) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        bytes[..16].copy_from_slice(&self.object.0.to_le_bytes());
        bytes[16] = self.kind as u8;
        bytes[17..].copy_from_slice(&self.index.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Option<Self> {
        let (object, rest) = bytes.split_first_chunk()?;
        let (kind, index) = rest.split_first()?;
        Some(Self {
            object: ObjectId(u128::from_le_bytes(*object)),
            kind: BlockKind::from_u8(*kind)?,
            index: u64::from_le_bytes(index.try_into().ok()?),
        })
    }
}

/// A cached block; `checksum` covers key and bytes.
#[derive(Clone)]
struct Block {
    key: BlockKey,
    checksum: u32,
    bytes: Bytes,
}

impl Block {
    fn new(key: BlockKey, bytes: Bytes) -> Self {
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&key.to_bytes()), &bytes);
        Self { key, checksum, bytes }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({:?}, {} bytes)", self.key, self.bytes.len())
    }
}

/// An entry that has to count as absent. foyer takes this kind for that, and others for a failure of the read.
fn absent(what: &str) -> foyer::Error {
    counter!(CACHE_LOOKUPS, "outcome" => "corrupt").increment(1);
    foyer::Error::new(ErrorKind::ChecksumMismatch, what)
}

impl Code for BlockKey {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        writer.write_all(&self.to_bytes()).map_err(foyer::Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        reader.read_exact(&mut bytes).map_err(|_| absent("short key"))?;
        Self::from_bytes(&bytes).ok_or_else(|| absent("unknown kind of block"))
    }

    fn estimated_size(&self) -> usize {
        KEY_BYTES
    }
}

impl Code for Block {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        self.key.encode(writer)?;
        let head = [self.checksum, u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)];
        head.iter()
            .try_for_each(|number| writer.write_all(&number.to_le_bytes()))
            .and_then(|()| writer.write_all(&self.bytes))
            .map_err(foyer::Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let key = BlockKey::decode(reader)?;
        let mut number = || {
            let mut bytes = [0; 4];
            reader.read_exact(&mut bytes).map(|()| u32::from_le_bytes(bytes)).map_err(|_| absent("short head"))
        };
        let (checksum, len) = (number()?, number()? as usize);
        if len > MAX_DISK_BLOCK {
            return Err(absent("length out of range"));
        }
        let mut bytes = vec![0; len];
        reader.read_exact(&mut bytes).map_err(|_| absent("short block"))?;
        let block = Self::new(key, bytes.into());
        if block.checksum == checksum { Ok(block) } else { Err(absent("checksum mismatch")) }
    }

    fn estimated_size(&self) -> usize {
        KEY_BYTES + 8 + self.bytes.len()
    }
}

/// An error that every waiter of one fetch gets.
#[derive(Debug, Clone)]
struct Shared(Arc<Error>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Shared {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.0)
    }
}

/// The block cache; clones share it.
#[derive(Debug, Clone)]
pub struct BlockCache {
    inner: HybridCache<BlockKey, Block>,
}

impl BlockCache {
    /// A cache of `memory` bytes, and of `disk` bytes in `directory` unless that is 0. Never fails: a disk part that
    /// cannot be opened is left out with a warning.
    pub async fn open(memory: u64, disk: u64, directory: &Path) -> Self {
        gauge!(CACHE_MEMORY_BUDGET_BYTES).set(memory as f64);
        if disk > 0 {
            for attempt in 0..2 {
                match open_disk(memory, disk, directory).await {
                    Ok(inner) => {
                        gauge!(CACHE_DISK_BUDGET_BYTES).set(disk as f64);
                        return Self { inner };
                    }
                    Err(error) => {
                        let directory = directory.display();
                        tracing::warn!(%directory, %error, attempt, "cannot open the block cache, discarding it");
                    }
                }
                let _ = fs::remove_dir_all(directory);
            }
            tracing::warn!("the block cache is in memory only");
        }
        gauge!(CACHE_DISK_BUDGET_BYTES).set(0.0);
        Self::memory(memory).await
    }

    /// A cache of `memory` bytes without a disk part.
    pub async fn memory(memory: u64) -> Self {
        // Without an engine nothing is opened that could fail.
        match builder(memory).storage().build().await {
            Ok(inner) => Self { inner },
            Err(error) => unreachable!("a cache in memory opens nothing: {error}"),
        }
    }

    /// The block `key`: from the cache, or else from `fetch`, which runs once however many ask at a time, and to its
    /// end even if they all go away. The bytes should own their memory: a slice keeps all of what it is cut from.
    ///
    /// # Errors
    /// Kind, code and message of `fetch`'s error; every waiter of that fetch gets it, and nothing is cached.
    pub async fn get_or_fetch<F, R>(&self, key: BlockKey, fetch: F) -> Result<Bytes>
    where
        F: Fn() -> R,
        R: Future<Output = Result<Bytes>> + Send + 'static,
    {
        let fetched = || {
            let bytes = fetch();
            async move {
                let bytes = bytes.await.map_err(|error| Shared(Arc::new(error)))?;
                counter!(CACHE_FETCHED_BYTES).increment(bytes.len() as u64);
                Ok::<_, Shared>(Block::new(key, bytes))
            }
        };
        match self.inner.get_or_fetch(&key, fetched).await {
            Ok(entry) => {
                let outcome = match entry.source() {
                    Source::Memory => "memory",
                    Source::Disk => "disk",
                    Source::Outer => "miss",
                };
                counter!(CACHE_LOOKUPS, "outcome" => outcome).increment(1);
                if outcome != "memory" {
                    gauge!(CACHE_MEMORY_BYTES).set(self.inner.memory().usage() as f64);
                }
                Ok(entry.value().bytes.clone())
            }
            Err(error) => match error.downcast_ref::<Shared>() {
                Some(Shared(error)) => {
                    Err(Error::new(error.kind(), error.code(), error.message()).with_source(Shared(Arc::clone(error))))
                }
                // The disk part failed, not the fetch: do without the cache. As in it, a fetch that was begun goes on when its
                // reader is gone: others may wait for what it brings.
                None => {
                    tracing::warn!(%error, ?key, "cannot read the block cache");
                    self.inner.remove(&key);
                    tokio::spawn(fetch()).await.unwrap_or_else(|_| Err(Error::internal("reading a block ended")))
                }
            },
        }
    }

    /// Keeps a block that was fetched beside another one. The bytes should own their memory.
    pub fn insert(&self, key: BlockKey, bytes: Bytes) {
        counter!(CACHE_FETCHED_BYTES).increment(bytes.len() as u64);
        drop(self.inner.insert(key, Block::new(key, bytes)));
    }

    /// Drops a block whose content turned out to be damaged although it is what was fetched, so that the next reader
    /// fetches it again.
    pub fn forget(&self, key: &BlockKey) {
        self.inner.remove(key);
    }

    /// Whether the block is probably cached: what a prefetch asks first.
    #[must_use]
    pub fn contains(&self, key: &BlockKey) -> bool {
        self.inner.contains(key)
    }

    /// Bytes in memory.
    #[must_use]
    pub fn memory_usage(&self) -> usize {
        self.inner.memory().usage()
    }

    /// Ends the disk part's writers. What is only in memory is gone; nothing depends on it.
    pub async fn close(&self) {
        if let Err(error) = self.inner.close().await {
            tracing::warn!(%error, "cannot close the block cache");
        }
    }
}

fn builder(memory: u64) -> foyer::HybridCacheBuilderPhaseMemory<BlockKey, Block, foyer::DefaultHasher> {
    let shards = usize::try_from((memory / SHARD_BYTES).clamp(1, 8)).unwrap_or(1);
    HybridCacheBuilder::new()
        .with_name("tidelog")
        // Blocks go to disk as they leave memory; writing out all of the memory at the end would delay a stop.
        .with_flush_on_close(false)
        .memory(usize::try_from(memory).unwrap_or(usize::MAX))
        .with_shards(shards)
        .with_weighter(|_: &BlockKey, block: &Block| block.bytes.len() + BLOCK_OVERHEAD)
}

async fn open_disk(memory: u64, disk: u64, directory: &Path) -> foyer::Result<HybridCache<BlockKey, Block>> {
    let capacity = usize::try_from(disk).unwrap_or(usize::MAX);
    let blocks = {
        let directory = directory.to_owned();
        tokio::task::spawn_blocking(move || prepare(&directory, disk)).await
    };
    let blocks = blocks.map_err(|error| foyer::Error::new(ErrorKind::Join, error.to_string()))?;
    let blocks = blocks.map_err(foyer::Error::io_error)?;
    let throttle = Throttle::new().with_write_throughput(WRITE_THROUGHPUT);
    let device = FsDeviceBuilder::new(blocks).with_capacity(capacity).with_throttle(throttle).build()?;
    builder(memory)
        .storage()
        .with_io_engine_config(PsyncIoEngineConfig::new())
        .with_engine_config(BlockEngineConfig::new(device))
        .build()
        .await
}

/// Makes the directory ready: one of another layout or size is emptied first. Returns where the blocks go.
fn prepare(directory: &Path, disk: u64) -> std::io::Result<PathBuf> {
    let layout = format!("tidelog block cache {LAYOUT_VERSION} {disk}\n");
    let file = directory.join(LAYOUT_FILE);
    if fs::read_to_string(&file).ok().as_deref() != Some(&layout) {
        if directory.exists() {
            tracing::info!(directory = %directory.display(), "discarding a block cache of another layout");
            fs::remove_dir_all(directory)?;
        }
        fs::create_dir_all(directory)?;
        fs::write(&file, layout)?;
    }
    Ok(directory.join("blocks"))
}
