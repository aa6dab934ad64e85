//! What a place has already: an object that is there with its length is not copied again. Objects never change, and appear whole.
//!
//! Some 50 bytes of memory for each object that is there.

use std::collections::HashMap;

use futures::TryStreamExt;

use crate::error::Result;
use crate::model::{ObjectId, ShardId};
use crate::store::Bucket;
use crate::store::keys::{ARCHIVE, Key, SHARDS};

/// The objects of shards and their lengths. Ids are of one object within a shard, whatever its kind.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    objects: HashMap<(ShardId, ObjectId), u64>,
}

impl Inventory {
    /// What `bucket` has.
    pub(super) async fn read(bucket: &Bucket) -> Result<Self> {
        let mut inventory = Self::default();
        for prefix in [SHARDS, ARCHIVE] {
            let mut listing = bucket.list(prefix);
            while let Some(object) = listing.try_next().await? {
                if let Some(key) = Key::parse(&object.key) {
                    inventory.note(&key, object.bytes);
                }
            }
        }
        Ok(inventory)
    }

    /// Notes an object that is there now.
    pub(super) fn note(&mut self, key: &Key, bytes: u64) {
        if let (Some(shard), Some(id)) = (key.shard(), key.object_id()) {
            self.objects.insert((shard, id), bytes);
        }
    }

    /// Whether the object is there with this length.
    pub(super) fn has(&self, key: &Key, bytes: u64) -> bool {
        let known = key.shard().zip(key.object_id()).and_then(|id| self.objects.get(&id));
        known == Some(&bytes)
    }
}
