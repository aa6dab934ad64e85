//! The directory of a cluster for trying it, and what it says about the nodes in it.
//!
//! Nodes know each other by their addresses, so a directory that is used again keeps its ports.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::exit::usage;

const FILE: &str = "dev-cluster.json";
const DEFAULT: Shape = Shape { nodes: 3, base_port: 7070 };

/// How many nodes there are, and from which port on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shape {
    pub(super) nodes: u16,
    pub(super) base_port: u16,
}

/// The directory of everything.
pub(super) enum Home {
    /// Stays.
    Kept(PathBuf),
    /// Is removed when this is dropped.
    ThrownAway(TempDir),
}

impl Home {
    /// Creates the directory if need be; a new one that is thrown away if none is named.
    pub(super) fn open(kept: Option<&Path>) -> Result<Self> {
        match kept {
            Some(path) => {
                std::fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
                Ok(Self::Kept(std::path::absolute(path)?))
            }
            None => {
                let made = tempfile::Builder::new().prefix("tidelog-dev-cluster-").tempdir();
                Ok(Self::ThrownAway(made.context("cannot create a directory")?))
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::ThrownAway(dir) => dir.path(),
        }
    }

    pub(super) fn is_kept(&self) -> bool {
        matches!(self, Self::Kept(_))
    }

    /// The nodes of this directory, or those that were asked for, which it has from now on.
    pub(super) fn shape(&self, nodes: Option<u16>, base_port: Option<u16>) -> Result<Shape> {
        let path = self.path().join(FILE);
        let known: Option<Shape> = match std::fs::read(&path) {
            Ok(bytes) => {
                Some(serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let given = known.unwrap_or(DEFAULT);
        let shape = Shape { nodes: nodes.unwrap_or(given.nodes), base_port: base_port.unwrap_or(given.base_port) };
        match known {
            Some(known) if known != shape => Err(usage(format!(
                "{} has {} nodes from port {} on: start it with these, or take another directory",
                self.path().display(),
                known.nodes,
                known.base_port
            ))),
            Some(_) => Ok(shape),
            None => {
                let text = serde_json::to_vec(&shape)?;
                std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
                Ok(shape)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_directory_keeps_its_nodes_and_their_ports() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        let shape = home.shape(Some(1), Some(9_000)).unwrap();
        assert_eq!(shape, Shape { nodes: 1, base_port: 9_000 });
        let again = Home::open(Some(dir.path())).unwrap();
        assert_eq!(again.shape(None, None).unwrap(), shape);
        assert_eq!(again.shape(Some(1), Some(9_000)).unwrap(), shape);
        assert!(again.shape(Some(3), None).is_err() && again.shape(None, Some(7_070)).is_err());
        assert_eq!(Home::open(None).unwrap().shape(None, None).unwrap(), DEFAULT);
    }
}
