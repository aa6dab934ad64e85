//! Copies one object from one bucket to another, a few MiB at a time, every byte of it verified before it is written.
//!
//! Read are 8 MiB at a time (a row group that is larger, whole); what is written waits until it is a part of the upload, 64 MiB at most.
//! So an object holds up to 72 MiB of memory while it is copied, one that is written with one call 16.
//!
//! A segment's blocks and an archive file's row groups are copied as they are; the footer is the caller's, who may have changed it.
//! The object appears when it is whole. Broken off, it does not.

use std::ops::Range;

use bytes::Bytes;

use super::pace::{Progress, Rate};
use crate::error::{Error, Result};
use crate::format::archive::{ArchiveReader, RowGroup};
use crate::format::segment::{BLOCK_BYTES, Footer, block_bytes, block_count, verify_block};
use crate::model::{ArchiveFile, ObjectId, SegmentInfo};
use crate::store::keys::Key;
use crate::store::{Bucket, StoreError};

/// Bytes that are read with one call; a row group that is larger is read whole.
const PIECE_BYTES: u64 = 8 << 20;
/// An object up to this size is written with one call; the objects of tests are small.
const WHOLE_BYTES: u64 = if cfg!(test) { 24 << 10 } else { 16 << 20 };
const BLOCKS_PER_CALL: u32 = (PIECE_BYTES / BLOCK_BYTES as u64) as u32;

/// Why an object was not copied.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is not there, or is no longer.
    Gone(String),
    /// Anything else.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// From one bucket to another.
pub(super) struct Copier<'a> {
    pub(super) from: &'a Bucket,
    pub(super) to: &'a Bucket,
    pub(super) rate: &'a Rate,
    pub(super) progress: &'a Progress,
}

/// Consecutive bytes of an object under checksums of their own.
struct Piece<C> {
    range: Range<u64>,
    check: C,
}

impl Copier<'_> {
    /// The footer of a segment, verified.
    pub(super) async fn segment_footer(&self, key: &Key, info: &SegmentInfo) -> Result<(Footer, Bytes), Failure> {
        let bytes = self.read(key, info.footer_start..info.bytes).await?;
        let footer = Footer::decode(info.id, &bytes)?;
        if footer.info() != info {
            return Err(Error::corrupt(format!("{key} is another segment than the checkpoint says")).into());
        }
        Ok((footer, bytes))
    }

    /// Copies a segment up to its footer and puts `footer` behind that.
    pub(super) async fn segment(&self, from: &Key, to: &Key, info: &SegmentInfo, footer: Bytes) -> Result<(), Failure> {
        let (id, start) = (info.id, info.footer_start);
        let pieces = (0..block_count(start)).step_by(BLOCKS_PER_CALL as usize).map(|first| {
            let blocks = first..(first + BLOCKS_PER_CALL).min(block_count(start));
            let range = block_bytes(first, start).start..block_bytes(blocks.end - 1, start).end;
            Piece { range, check: move |bytes: &Bytes| verify_blocks(id, blocks.clone(), start, bytes) }
        });
        self.copy((from, to), pieces.collect(), footer).await
    }

    /// The footer of an archive file, verified.
    pub(super) async fn archive_footer(
        &self,
        key: &Key,
        file: &ArchiveFile,
    ) -> Result<(ArchiveReader, Bytes), Failure> {
        let bytes = self.read(key, file.footer_start..file.bytes).await?;
        Ok((ArchiveReader::open(file, bytes.clone())?, bytes))
    }

    /// Copies an archive file up to its footer and puts `footer` behind that.
    pub(super) async fn archive(
        &self,
        from: &Key,
        to: &Key,
        reader: &ArchiveReader,
        footer: Bytes,
    ) -> Result<(), Failure> {
        let mut pieces = Vec::new();
        let mut rest = reader.groups();
        while let Some(first) = rest.first() {
            let fits = |group: &RowGroup| group.position + group.bytes <= first.position + PIECE_BYTES;
            let count = rest.iter().take_while(|group| fits(group)).count().max(1);
            let (groups, after) = rest.split_at(count);
            rest = after;
            let end = groups.iter().map(|group| group.position + group.bytes).max().unwrap_or(first.position);
            pieces
                .push(Piece { range: first.position..end, check: |bytes: &Bytes| verify_groups(from, groups, bytes) });
        }
        self.copy((from, to), pieces, footer).await
    }

    /// Writes an object whose bytes were read and verified already.
    pub(super) async fn whole(&self, to: &Key, bytes: Bytes) -> Result<()> {
        Ok(self.to.put(&to.to_string(), vec![bytes]).await?)
    }

    async fn copy<C>(&self, (from, to): (&Key, &Key), pieces: Vec<Piece<C>>, footer: Bytes) -> Result<(), Failure>
    where
        C: Fn(&Bytes) -> Result<()>,
    {
        let body = pieces.last().map_or(0, |piece| piece.range.end);
        let key = to.to_string();
        if body + footer.len() as u64 <= WHOLE_BYTES {
            let mut parts = Vec::with_capacity(pieces.len() + 1);
            for piece in &pieces {
                parts.push(self.verified(from, piece).await?);
            }
            parts.push(footer);
            return self.to.put(&key, parts).await.map_err(|error| Error::from(error).into());
        }
        let mut upload = self.to.upload(&key).await.map_err(Error::from)?;
        let fill = async {
            for piece in &pieces {
                let bytes = self.verified(from, piece).await?;
                upload.write(bytes).await.map_err(Error::from)?;
            }
            upload.write(footer).await.map_err(Error::from)?;
            Ok::<_, Failure>(())
        };
        if let Err(failure) = fill.await {
            // If that fails too its parts are left to the bucket's own rule for unfinished uploads.
            let _ = upload.abort().await;
            return Err(failure);
        }
        upload.finish().await.map_err(|error| Error::from(error).into())
    }

    async fn verified<C: Fn(&Bytes) -> Result<()>>(&self, from: &Key, piece: &Piece<C>) -> Result<Bytes, Failure> {
        let bytes = self.read(from, piece.range.clone()).await?;
        (piece.check)(&bytes)?;
        // Checking some MiB takes a few milliseconds.
        tokio::task::yield_now().await;
        Ok(bytes)
    }

    async fn read(&self, key: &Key, range: Range<u64>) -> Result<Bytes, Failure> {
        self.rate.take(range.end - range.start).await;
        match self.from.get_range(&key.to_string(), range).await {
            Ok(bytes) => Ok(bytes),
            Err(StoreError::NotFound { key }) => Err(Failure::Gone(key)),
            Err(error) => Err(Error::from(error).into()),
        }
    }
}

/// Checks the checksums of consecutive blocks.
fn verify_blocks(id: ObjectId, blocks: Range<u32>, footer_start: u64, bytes: &Bytes) -> Result<()> {
    let start = block_bytes(blocks.start, footer_start).start;
    for index in blocks {
        let place = block_bytes(index, footer_start);
        let block = bytes.slice((place.start - start) as usize..(place.end - start) as usize);
        verify_block(id, index, &block)?;
    }
    Ok(())
}

/// Checks the checksums of consecutive row groups.
fn verify_groups(key: &Key, groups: &[RowGroup], bytes: &Bytes) -> Result<()> {
    let start = groups.first().map_or(0, |group| group.position);
    for group in groups {
        let from = (group.position - start) as usize;
        if crc32c::crc32c(&bytes[from..from + group.bytes as usize]) != group.crc32c {
            return Err(Error::corrupt(format!(
                "the row group at byte {} of {key} fails its checksum",
                group.position
            )));
        }
    }
    Ok(())
}
