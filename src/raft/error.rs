//! What may become of a proposal.

use crate::error::{Error, ErrorKind, Outcome};
use crate::model::NodeId;

/// Why a proposal has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// It was refused before it was appended: nothing was written, and a retry is safe. A fresh leader answers this
    /// without naming a leader until its first quorum acknowledgement.
    #[error("no leader of the shard took the command")]
    NotWritten {
        /// Who leads, if that is known.
        leader: Option<NodeId>,
    },
    /// The command itself cannot be proposed: nothing was written, and a retry would fare the same.
    #[error("the command has {bytes} bytes, at most {limit} can be proposed")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The leader's gate declined it: nothing was written, and the caller is answered this as it is.
    #[error("{0}")]
    Refused(Error),
    /// The entry was discarded when another leader took over, or the call that carried it to the leader broke: it may have
    /// been committed, or may still be.
    #[error("the leader changed before the entry was known to be committed")]
    Unknown,
    /// The node has stopped: the entry may have been committed.
    #[error("the node has stopped: {0}")]
    Fatal(String),
}

impl ProposeError {
    /// What was written.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(error) => error.outcome(),
            Self::NotWritten { .. } | Self::TooLarge { .. } => Outcome::NotWritten,
            Self::Unknown | Self::Fatal(_) => Outcome::Unknown,
        }
    }
}

impl From<ProposeError> for Error {
    fn from(error: ProposeError) -> Self {
        let (kind, code) = match &error {
            ProposeError::NotWritten { .. } => (ErrorKind::NotLeader, "not_leader"),
            ProposeError::TooLarge { .. } => (ErrorKind::Invalid, "command_too_large"),
            ProposeError::Refused(_) | ProposeError::Unknown | ProposeError::Fatal(_) => {
                (ErrorKind::Unavailable, "unavailable")
            }
        };
        let converted = Self::new(kind, code, error.to_string()).with_outcome(error.outcome());
        match error {
            ProposeError::Refused(refused) => refused,
            ProposeError::NotWritten { leader: Some(leader) } => converted.with_number("leader", leader.0),
            _ => converted,
        }
    }
}
