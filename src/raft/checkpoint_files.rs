//! The files of a checkpoint from a peer that holds them: for a node that cannot reach the bucket.
//!
//! One file after the other, in pieces, and none that is here already. What arrives is decoded before it is believed.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::meta::decode_ranges;
use super::node::RaftNode;
use super::options::CheckpointFiles;
use super::transport::{PeerAddress, Transport, TransportError};
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
        let Some(address) = self.inner.address_of(peer) else {
            return Err(Error::unavailable(format!("node {peer} is not a member of the group, or has no address")));
        };
        let has = |file| self.inner.shared.meta.has(file);
        Download { transport: &*self.inner.transport, peer: &address, has: &has }.run(reference).await
    }
}

/// Fetching a checkpoint from a peer's disk.
pub(super) struct Download<'a> {
    pub(super) transport: &'a dyn Transport,
    pub(super) peer: &'a PeerAddress,
    /// Which files are here already.
    pub(super) has: &'a (dyn Fn(CheckpointFile) -> bool + Send + Sync),
}

impl Download<'_> {
    /// See [`RaftNode::fetch_checkpoint`].
    pub(super) async fn run(&self, reference: CheckpointRef) -> Result<CheckpointFiles> {
        let peer = self.peer.node;
        let bytes = self.file(CheckpointFile::Checkpoint(reference.id)).await?;
        let found = checkpoint::decode_checkpoint(&bytes)
            .map_err(|error| Error::corrupt(format!("the checkpoint that node {peer} sent is damaged: {error}")))?;
        if found.self_ref != reference {
            return Err(Error::corrupt(format!("node {peer} sent another checkpoint than was asked for")));
        }
        let mut files = CheckpointFiles { reference, checkpoint: bytes, parts: Vec::new(), ranges: Vec::new() };
        for part in &found.parts {
            let file = CheckpointFile::Part(part.id);
            if !(self.has)(file) {
                files.parts.push((part.id, self.part(file).await?));
            }
        }
        for segment in found.footer_segments() {
            let file = CheckpointFile::Ranges(segment.id);
            if !(self.has)(file) {
                files.ranges.push(self.ranges(segment.id).await?);
            }
        }
        Ok(files)
    }

    async fn part(&self, file: CheckpointFile) -> Result<Bytes> {
        let bytes = self.file(file).await?;
        let peer = self.peer.node;
        checkpoint::decode_part(&bytes)
            .map_err(|error| Error::corrupt(format!("the index part that node {peer} sent is damaged: {error}")))?;
        Ok(bytes)
    }

    async fn ranges(&self, segment: ObjectId) -> Result<(ObjectId, Vec<SegmentRange>)> {
        let bytes = self.file(CheckpointFile::Ranges(segment)).await?;
        Ok((segment, decode_ranges(&bytes)?))
    }

    async fn file(&self, file: CheckpointFile) -> Result<Bytes> {
        let mut content = BytesMut::new();
        let mut len = None;
        loop {
            let asked = PieceAsked { file, offset: content.len() as u64 };
            let body = vec![wire::encode_piece_asked(&asked)?];
            let answer = self.transport.call(self.peer, kind::CHECKPOINT_FILES, body, PIECE_DEADLINE).await;
            let (total, piece) = wire::decode_piece(&answer.map_err(TransportError::into_error)?)?;
            let expected = total.saturating_sub(asked.offset).min(PIECE_BYTES);
            if total > MAX_FILE_BYTES || *len.get_or_insert(total) != total || piece.len() as u64 != expected {
                return Err(Error::corrupt(format!(
                    "node {} sent a piece of a file that does not fit",
                    self.peer.node
                )));
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
