//! Who a WAL directory belongs to: `node.json`.
//!
//! Written durably before anything else is, and never changed within one life of the cluster. The directory UUID is
//! made with the directory, so that a node whose disk was replaced cannot pass for the one that voted. A checksum covers all
//! of it: a digit that rotted would make another node, another life, or a log whose marks say nothing.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::files;
use crate::disk;
use crate::error::{Error, Result};
use crate::model::{Incarnation, NodeId, ShardId};

const FILE: &str = "node.json";
const VERSION: u32 = 2;
/// A file that is larger is not one of ours.
const MAX_BYTES: u64 = 64 * 1024;

/// What `node.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeIdentity {
    /// Of the format.
    version: u32,
    /// The cluster, as in the bucket's `cluster.json`.
    pub cluster: String,
    /// The life of the cluster in which the directory is used.
    pub incarnation: Incarnation,
    /// The node; never reused.
    pub node: NodeId,
    /// Made when the directory was.
    pub directory: Uuid,
    /// The shard was open here once, so that records may have been acknowledged: if its log is gone, it was lost.
    pub opened: bool,
    /// The other shards that were begun here: if the directory of one of them is gone, its log was lost. Absent where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<ShardId>,
    /// CRC-32C of this as compact JSON with 0 here; 0 outside the file.
    #[serde(default)]
    crc32c: u32,
}

impl NodeIdentity {
    /// The identity of a new directory.
    #[must_use]
    pub fn new(cluster: impl Into<String>, incarnation: Incarnation, node: NodeId) -> Self {
        Self {
            version: VERSION,
            cluster: cluster.into(),
            incarnation,
            node,
            directory: Uuid::new_v4(),
            opened: false,
            shards: Vec::new(),
            crc32c: 0,
        }
    }

    /// Reads the identity of `wal_dir`; `None` if it has none yet.
    ///
    /// # Errors
    /// `corrupt` if the file is not what this build writes, `internal` if it cannot be read.
    pub fn load(wal_dir: &Path) -> Result<Option<Self>> {
        let path = wal_dir.join(FILE);
        let failed = |error: io::Error| Error::internal(format!("cannot read {}", path.display())).with_source(error);
        let bytes = match disk::len(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
            Ok(len) if len > MAX_BYTES => {
                return Err(Error::corrupt(format!("{} has {len} bytes", path.display())));
            }
            Ok(_) => disk::read(&path).map_err(failed)?,
        };
        let mut identity: Self = serde_json::from_slice(&bytes)
            .map_err(|error| Error::corrupt(format!("{} is damaged", path.display())).with_source(error))?;
        if identity.version != VERSION {
            return Err(Error::corrupt(format!(
                "{} has version {}, this build knows version {VERSION}",
                path.display(),
                identity.version
            )));
        }
        let checksum = std::mem::take(&mut identity.crc32c);
        if checksum != identity.checksum().map_err(failed)? {
            return Err(Error::corrupt(format!("{} is damaged: its checksum does not match", path.display())));
        }
        Ok(Some(identity))
    }

    fn checksum(&self) -> io::Result<u32> {
        debug_assert_eq!(self.crc32c, 0);
        Ok(crc32c::crc32c(&serde_json::to_vec(self)?))
    }

    /// Writes the identity durably; creates `wal_dir` if need be.
    ///
    /// # Errors
    /// `internal` if it cannot be written.
    pub fn save(&self, wal_dir: &Path) -> Result<()> {
        let failed = |error: io::Error| {
            Error::internal(format!("cannot write {FILE} in {}", wal_dir.display())).with_source(error)
        };
        let sealed = Self { crc32c: self.checksum().map_err(failed)?, ..self.clone() };
        let mut text = serde_json::to_vec_pretty(&sealed).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        files::create_dirs(wal_dir).and_then(|()| files::replace(wal_dir, FILE, &text)).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_identity_is_what_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        let wal = dir.path().join("a/wal");
        assert_eq!(NodeIdentity::load(&wal).unwrap(), None);
        let identity = NodeIdentity::new("c1", Incarnation(3), NodeId(7));
        identity.save(&wal).unwrap();
        assert_eq!(NodeIdentity::load(&wal).unwrap(), Some(identity));
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let dir = tempfile::tempdir().unwrap();
        let identity =
            NodeIdentity { directory: Uuid::from_u128(7), ..NodeIdentity::new("c1", Incarnation(3), NodeId(7)) };
        identity.save(dir.path()).unwrap();
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert_eq!(
            text.split_whitespace().collect::<String>(),
            r#"{"version":2,"cluster":"c1","incarnation":3,"node":7,"directory":"00000000-0000-0000-0000-000000000007","opened":false,"crc32c":2618807521}"#
        );
    }

    #[test]
    fn every_flipped_bit_is_refused_or_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let identity = NodeIdentity::new("c1", Incarnation(3), NodeId(7));
        identity.save(dir.path()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &flipped).unwrap();
            match NodeIdentity::load(dir.path()) {
                // White space, or a hexadecimal digit of another case.
                Ok(loaded) => assert_eq!(loaded.as_ref(), Some(&identity), "bit {bit}"),
                Err(error) => assert_eq!(error.code(), "corrupt", "bit {bit}: {error}"),
            }
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        NodeIdentity::new("c1", Incarnation(3), NodeId(7)).save(dir.path()).unwrap();
        let whole = std::fs::read(dir.path().join(FILE)).unwrap();
        for len in 0..whole.len() - 1 {
            std::fs::write(dir.path().join(FILE), &whole[..len]).unwrap();
            // The last byte but one closes the object; without the newline after it the file is still whole.
            let loaded = NodeIdentity::load(dir.path());
            assert_eq!(loaded.unwrap_err().code(), "corrupt", "{len} bytes");
        }
    }
}
