//! From a checkpoint back to a state.

use super::State;
use crate::model::{Checkpoint, IndexPart, ObjectId, SegmentRange};

impl State {
    /// The state at the checkpoint's index: equal, hash included, to the live one after the same flush.
    ///
    /// `parts` are the index parts that the checkpoint names, `footers` the ranges of the segments of
    /// [`Checkpoint::footer_segments`]; both in any order.
    ///
    /// # Errors
    /// A part or footer is missing, or the contents contradict each other.
    pub fn restore(
        checkpoint: Checkpoint,
        parts: Vec<IndexPart>,
        footers: Vec<(ObjectId, Vec<SegmentRange>)>,
    ) -> Result<Self, RestoreError> {
        let _ = (checkpoint, parts, footers);
        todo!("lands next")
    }
}

/// Why a checkpoint cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// An index part was not given.
    #[error("index part {0} is missing")]
    PartMissing(ObjectId),
    /// A segment's footer was not given.
    #[error("the footer of segment {0} is missing")]
    FooterMissing(ObjectId),
    /// The pieces contradict each other.
    #[error("the checkpoint contradicts itself: {0}")]
    Contradiction(&'static str),
    /// Written by a newer program.
    #[error("the state has version {0}, which this program does not know")]
    Version(u32),
}
