//! Which behaviour of `apply` the nodes of a group have in common, and going over to a newer one.
//!
//! Nodes of two neighbouring builds work together as long as they behave alike. A newer behaviour begins with an entry of the log,
//! for all at the same place, once each member has said that it knows it; a node that does not stops before that entry.

use super::leader::Leader;
use super::node::RaftNode;
use crate::error::Result;
use crate::model::Control;

impl RaftNode {
    /// The newest behaviour that every member has said to know since this node leads; `None` while one has not said so.
    fn common_version(&self) -> Option<u32> {
        let reports = self.peer_reports();
        let others = self.members().into_iter().filter(|member| member.node != self.inner.node);
        let mut said = others.map(|member| reports.get(&member.node).map(|report| report.status.newest));
        said.try_fold(self.inner.shared.newest(), |least, said| Some(least.min(said?)))
    }
}

impl Leader {
    /// Has the group behave as of the newest version that all its members know, if that is newer than what it does; the version
    /// that was proposed.
    ///
    /// # Errors
    /// The log's.
    pub async fn raise_version(&self) -> Result<Option<u32>> {
        let now = self.node().with_state(|state| state.version());
        let Some(version) = self.node().common_version().filter(|common| *common > now) else { return Ok(None) };
        self.control(Control::RaiseVersion { version }).await?;
        Ok(Some(version))
    }
}
