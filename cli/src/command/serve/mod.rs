//! `tidelog serve`.

use anyhow::{Result, bail};

use crate::args::ServeArgs;

/// Not wired yet.
pub(super) fn run(_args: &ServeArgs) -> Result<()> {
    bail!("not available yet")
}
