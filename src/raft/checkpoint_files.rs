//! The files of a checkpoint from a peer that holds them: for a node that cannot reach the bucket.
//!
//! One file after the other, in pieces, and none that is here already. What arrives is decoded before it is believed.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::meta::decode_ranges;
use super::node::RaftNode;
use super::options::CheckpointFiles;
use super::transport::TransportError;
use super::wire::{self, CheckpointFile, PIECE_BYTES, PieceAsked, kind};
use crate::error::{Error, Result};
use crate::format::checkpoint;
use crate::model::{CheckpointRef, NodeId, ObjectId, SegmentRange};

/// How long a piece may take.
const PIECE_DEADLINE: Duration = Duration::from_secs(20);
/// No file of a checkpoint is larger; the same as may be read back.
const MAX_FILE_BYTES: u64 = 1 << 30;

impl RaftNode {
    /// Fetches the checkpoint `reference` from the disk of `peer`; files that are here already are left out.
    ///
    /// # Errors
    /// `checkpoint_gone` if the peer holds it no more; `corrupt` for what is not what it should be; `unavailable` if the peer
    /// cannot be reached.
    pub async fn fetch_checkpoint(&self, reference: CheckpointRef, peer: NodeId) -> Result<CheckpointFiles> {
        let bytes = self.fetch_file(CheckpointFile::Checkpoint(reference.id), peer).await?;
        let found = checkpoint::decode_checkpoint(&bytes)
            .map_err(|error| Error::corrupt(format!("the checkpoint that node {peer} sent is damaged: {error}")))?;
        if found.self_ref != reference {
            return Err(Error::corrupt(format!("node {peer} sent another checkpoint than was asked for")));
        }
        let mut files = CheckpointFiles { reference, checkpoint: bytes, parts: Vec::new(), ranges: Vec::new() };
        for part in &found.parts {
            let file = CheckpointFile::Part(part.id);
            if !self.inner.shared.meta.has(file) {
                files.parts.push((part.id, self.fetch_part(file, peer).await?));
            }
        }
        for segment in found.footer_segments() {
            let file = CheckpointFile::Ranges(segment.id);
            if !self.inner.shared.meta.has(file) {
                files.ranges.push(self.fetch_ranges(segment.id, peer).await?);
            }
        }
        Ok(files)
    }

    async fn fetch_part(&self, file: CheckpointFile, peer: NodeId) -> Result<Bytes> {
        let bytes = self.fetch_file(file, peer).await?;
        checkpoint::decode_part(&bytes)
            .map_err(|error| Error::corrupt(format!("the index part that node {peer} sent is damaged: {error}")))?;
        Ok(bytes)
    }

    async fn fetch_ranges(&self, segment: ObjectId, peer: NodeId) -> Result<(ObjectId, Vec<SegmentRange>)> {
        let bytes = self.fetch_file(CheckpointFile::Ranges(segment), peer).await?;
        Ok((segment, decode_ranges(&bytes)?))
    }

    async fn fetch_file(&self, file: CheckpointFile, peer: NodeId) -> Result<Bytes> {
        let mut content = BytesMut::new();
        let mut len = None;
        loop {
            let asked = PieceAsked { file, offset: content.len() as u64 };
            let body = vec![wire::encode_piece_asked(&asked)?];
            let answer = self.inner.call(peer, kind::CHECKPOINT_FILES, body, PIECE_DEADLINE).await;
            let (total, piece) = wire::decode_piece(&answer.map_err(TransportError::into_error)?)?;
            let expected = total.saturating_sub(asked.offset).min(PIECE_BYTES);
            if total > MAX_FILE_BYTES || *len.get_or_insert(total) != total || piece.len() as u64 != expected {
                return Err(Error::corrupt(format!("node {peer} sent a piece of a file that does not fit")));
            }
            if expected == total {
                return Ok(piece);
            }
            content.extend_from_slice(&piece);
            if content.len() as u64 == total {
                return Ok(content.freeze());
            }
        }
    }
}
