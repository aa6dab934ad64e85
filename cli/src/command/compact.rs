//! `tidelog compact`.

use anyhow::{Result, bail};

/// Not wired yet.
pub(super) async fn run(_args: impl Sized) -> Result<()> {
    bail!("not available yet")
}
