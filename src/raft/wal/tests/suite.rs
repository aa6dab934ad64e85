//! openraft's storage suite, over a state machine that is nothing but positions.

use std::io;
use std::sync::{Arc, Mutex};

use futures::{Stream, TryStreamExt};
use openraft::StorageError;
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::testing::log::{StoreBuilder, Suite};

use super::*;
use crate::raft::types::{LogId, StoredMembership, TypeConfig};

type Meta = openraft::alias::SnapshotMetaOf<TypeConfig>;

#[derive(Clone, Default)]
struct Positions(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Option<Meta>,
}

impl RaftSnapshotBuilder<TypeConfig> for Positions {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<openraft::alias::SnapshotOf<TypeConfig, ()>, io::Error> {
        let mut held = self.0.lock().unwrap();
        let meta = SnapshotMeta { last_log_id: held.applied, last_membership: held.membership.clone() };
        held.snapshot = Some(meta.clone());
        Ok(Snapshot { meta, snapshot: () })
    }
}

impl RaftStateMachine<TypeConfig> for Positions {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let held = self.0.lock().unwrap();
        Ok((held.applied, held.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        while let Some((entry, _)) = entries.try_next().await? {
            let mut held = self.0.lock().unwrap();
            held.applied = Some(entry.log_id);
            if let Some(membership) = entry.get_membership() {
                held.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &Meta, (): ()) -> Result<(), io::Error> {
        *self.0.lock().unwrap() =
            Held { applied: meta.last_log_id, membership: meta.last_membership.clone(), snapshot: Some(meta.clone()) };
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<openraft::alias::SnapshotOf<TypeConfig, ()>>, io::Error> {
        Ok(self.0.lock().unwrap().snapshot.clone().map(|meta| Snapshot { meta, snapshot: () }))
    }
}

struct Builder {
    tail_memory: u64,
}

impl StoreBuilder<TypeConfig, LogStore, Positions, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Positions), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = LogStore::open(dir.path(), LogOptions { tail_memory: self.tail_memory, ..OPTIONS }).unwrap();
        Ok((dir, store, Positions::default()))
    }
}

#[tokio::test]
async fn the_storage_suite_passes_without_a_tail_cache() {
    Suite::test_all(Builder { tail_memory: 0 }).await.unwrap();
}

#[tokio::test]
async fn the_storage_suite_passes_with_a_tail_cache() {
    Suite::test_all(Builder { tail_memory: 1 << 20 }).await.unwrap();
}
