//! What a node says of itself as a whole: its version, its roles, and whether it wants to lead. One postcard value of bounded size,
//! which any node of the cluster may ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::message;
use crate::error::Result;

/// The kind of the peer request; its body is empty.
pub(super) const PROFILE: u8 = 35;
/// Bytes of an answer.
const MAX_BYTES: usize = 1 << 10;

/// See the module. Field order is the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Profile {
    /// Of the program.
    pub(super) version: String,
    /// As they are written in the settings.
    pub(super) roles: Vec<String>,
    /// Whether leaderships may be handed to it: it hosts every shard and is not about to end.
    pub(super) may_lead: bool,
}

impl Profile {
    pub(super) fn encode(&self) -> Result<Bytes> {
        message::encode(self)
    }

    /// # Errors
    /// `peer_message` for what no node sends.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        message::decode(bytes, MAX_BYTES)
    }
}

/// The profile of this node; clones share it.
#[derive(Debug, Clone)]
pub(super) struct OwnProfile(Arc<Own>);

#[derive(Debug)]
struct Own {
    roles: Vec<String>,
    /// Every shard is hosted.
    complete: AtomicBool,
    /// It gave its leaderships away to end.
    draining: AtomicBool,
}

impl OwnProfile {
    /// A node that hosts nothing yet.
    pub(super) fn new(roles: Vec<String>) -> Self {
        Self(Arc::new(Own { roles, complete: AtomicBool::new(false), draining: AtomicBool::new(false) }))
    }

    /// Notes whether all shards are hosted here.
    pub(super) fn set_complete(&self, complete: bool) {
        self.0.complete.store(complete, Ordering::Release);
    }

    /// Notes whether this node is about to end: what it gives away is not handed back to it then.
    pub(super) fn set_draining(&self, draining: bool) {
        self.0.draining.store(draining, Ordering::Release);
    }

    /// Whether it is about to end.
    pub(super) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// As it is now.
    pub(super) fn now(&self) -> Profile {
        Profile {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            roles: self.0.roles.clone(),
            may_lead: self.0.complete.load(Ordering::Acquire) && !self.is_draining(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_profile_is_read_as_it_was_written_and_nothing_else_is() {
        let own = OwnProfile::new(vec!["wal".to_owned()]);
        assert!(!own.now().may_lead, "it hosts nothing");
        own.set_complete(true);
        let profile = own.now();
        assert!(profile.may_lead);
        let bytes = profile.encode().unwrap();
        assert_eq!(Profile::decode(&bytes).unwrap(), profile);
        for len in 0..bytes.len() {
            assert!(Profile::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
        assert!(Profile::decode(&[&bytes[..], b"x"].concat()).is_err());
        assert!(Profile::decode(&vec![0; MAX_BYTES + 1]).is_err());
        own.set_draining(true);
        assert!(!own.now().may_lead, "it is about to end");
    }
}
