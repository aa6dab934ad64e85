//! From a view to its checkpoint.
//!
//! The order of a flush at the view's applied index F: [`State::parts_to_write`] says which index parts are due, the
//! flusher names them and builds the `Flushed` command, [`State::checkpoint`] gives the contents of the checkpoint and of
//! those parts, all objects are written, and only then the command is proposed.

use super::State;
use crate::model::{Checkpoint, Control, IndexPart};

impl State {
    /// The numbers of the index parts that a checkpoint of this view with `new_segments` new segments has to write: those
    /// that an archive job or a removal changed, and those that too many segments are newer than.
    #[must_use]
    pub fn parts_to_write(&self, new_segments: usize) -> Vec<u32> {
        let _ = new_segments;
        todo!("lands next")
    }

    /// What the state would be had `flushed` been applied at F, F being what this view has applied; and the contents of the
    /// index parts that `flushed` names as written at F. Reads all partitions, and all ranges of the parts due.
    ///
    /// # Errors
    /// The flush that this view would decline (or panic-free nonsense: a command that is no `Flushed`).
    pub fn checkpoint(&self, flushed: &Control) -> Result<(Checkpoint, Vec<IndexPart>), FlushMismatch> {
        let _ = flushed;
        todo!("lands next")
    }
}

/// A `Flushed` that does not fit the view it was made from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the flush does not fit the state it was cut from: {0}")]
pub struct FlushMismatch(pub &'static str);
