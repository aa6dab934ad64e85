//! The listing of a run: bounded, and gone on with by the next one.
//!
//! A bucket of millions of objects is not listed whole every ten minutes: a run looks at so many objects and notes where
//! it ended. What it holds of them is what looked like garbage, bounded too. Nothing is deleted by this look alone: what was
//! found is held against what is named once the floor is applied.

use futures::TryStreamExt;

use super::execute::{Collector, Named};
use super::plan;
use crate::error::Result;
use crate::model::ObjectId;
use crate::store::Listed;
use crate::store::keys::{self, Key};

/// Objects that a run deletes at most, besides checkpoints: what it holds in memory, some 150 bytes each.
const MOST: usize = 20_000;

/// Where a listing goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// Which prefix, in the order of [`Collector::prefixes`].
    prefix: usize,
    /// The last key of it that was looked at.
    after: Option<String>,
}

/// What looked like garbage.
pub(super) struct Found {
    pub(super) checkpoints: Vec<Listed>,
    /// Segments, index parts and archive files.
    pub(super) objects: Vec<Listed>,
    /// Where the next run goes on.
    pub(super) next: Place,
}

impl Found {
    pub(super) fn is_empty(&self) -> bool {
        self.checkpoints.is_empty() && self.objects.is_empty()
    }
}

impl Collector {
    fn prefixes(&self) -> [String; 3] {
        [keys::segments_of(self.shard), keys::index_of(self.shard), keys::ARCHIVE.to_owned()]
    }

    /// Lists from `place` on, up to the extent's bound. All checkpoints are looked at every time: what to keep depends on
    /// all of them.
    pub(super) async fn look(&self, place: Place, floor: ObjectId, named: Named) -> Result<Found> {
        let Named { objects: named, checkpoints } = named;
        let is_garbage = |object: &Listed| {
            Key::parse(&object.key).is_some_and(|key| plan::is_garbage(&key, self.shard, floor, &named))
        };
        let checkpoints = checkpoints.into_iter().filter(is_garbage).collect();
        let (mut objects, mut listed) = (Vec::new(), 0_u64);
        // The listing of a directory is in no order, so there is no place to go on from; nor does it cost anything.
        let is_ordered = !self.bucket.is_local();
        for (number, prefix) in self.prefixes().iter().enumerate().skip(place.prefix) {
            let after = place.after.as_deref().filter(|_| number == place.prefix);
            let mut listing = self.bucket.list_after(prefix, after);
            while let Some(object) = listing.try_next().await? {
                let key = object.key.clone();
                listed += 1;
                if is_garbage(&object) {
                    objects.push(object);
                }
                if (is_ordered && listed >= self.extent.listed) || objects.len() >= MOST {
                    let next = if is_ordered { Place { prefix: number, after: Some(key) } } else { Place::default() };
                    return Ok(Found { checkpoints, objects, next });
                }
            }
        }
        Ok(Found { checkpoints, objects, next: Place::default() })
    }
}
