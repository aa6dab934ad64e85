//! Named places where a test can stop, delay or fail the process: always compiled, one relaxed load when not armed.
//!
//! Armed by the environment variable `TIDELOG_FAILPOINTS` (`name=action[;name=action…]`, or `@FILE` to follow a file) or by
//! [`arm`]. Every arming
//! and every firing is logged. Actions: `crash` (SIGKILL to this process, nothing is flushed), `error` (the step
//! fails), `panic`, `pause` (until disarmed), `sleep:MILLIS`; `action@N` fires at the Nth hit only. A name that is not in
//! [`POINTS`] is refused, so that a misspelt test cannot pass by doing nothing. The server refuses to listen beyond
//! loopback while [`armed`].
//!
//! The points in [`SAFEGUARDS`] are steps that make something durable; their one action is `skip`, which leaves the step
//! out. They are bugs kept in a jar: a test of durability that does not fail with one of them armed proves nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};

/// The environment variable from which `serve` arms fail points.
pub const ENVIRONMENT: &str = "TIDELOG_FAILPOINTS";

/// Every fail point there is: the numbered steps of docs/architecture.md. Add a name here to be able to arm it.
pub const POINTS: &[&str] = &[
    "produce.assigned",
    "topic.wanted",
    "topic.told",
    "topic.all_told",
    "topic.synced",
    "topic.changed",
    "node.numbered",
    "shard.begun",
    "shard.decided",
    "flush.segments",
    "flush.checkpoint",
    "flush.flushed",
    "pointer.before_write",
    "pointer.after_write",
    "purge.before",
    "purge.after",
    "truncate.after",
    "wal.begun",
    "wal.header",
    "wal.sync",
    "spare.renamed",
    "spare.filled",
    "archive.after_claim",
    "archive.after_files",
    "archive.after_archived",
    "gc.condemned",
    "gc.checkpoints",
    "backup.object",
    "backup.checkpoint",
    "backup.manifest",
    "restore.planned",
    "restore.object",
    "restore.checkpoint",
    "restore.incarnation",
    "rebuild.incarnation",
    "rebuild.checkpoint",
    "wal.append",
    "repair.later_files",
    "repair.cut",
    "apply.entry",
];

/// Steps that can be left out, each with what is then wrong.
pub const SAFEGUARDS: &[&str] = &[
    // An append is answered when it was written, without waiting for its `fdatasync`.
    "wal.await_sync",
    // The log goes on in another file without syncing the one before.
    "wal.sync_last_file",
    // The log goes on in a file without syncing the directory that names it.
    "wal.sync_directory",
    // Files of the log are given up without waiting for the sync of the purge.
    "purge.await_sync",
    // A PUT to a local bucket returns without syncing the directory that names the object.
    "bucket.sync_directory",
    // The log is purged up to a checkpoint without waiting for the pointer to it.
    "purge.await_pointer",
];

/// How often a paused caller looks whether it was released.
const PAUSE_POLL: Duration = Duration::from_millis(10);

static ARMED: AtomicBool = AtomicBool::new(false);
static TABLE: Mutex<BTreeMap<&'static str, Armed>> = Mutex::new(BTreeMap::new());

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Crash,
    Error,
    Panic,
    Pause,
    Sleep(Duration),
    Skip,
}

#[derive(Debug, Clone, Copy)]
struct Armed {
    action: Action,
    /// Fires at this hit only, counted from 1; `None` at every hit.
    at: Option<u64>,
    hits: u64,
}

/// Passes fail point `name` in synchronous code; `pause` and `sleep` block the thread.
///
/// # Errors
/// If the point is armed with `error`.
#[inline]
pub fn hit(name: &str) -> Result<()> {
    if ARMED.load(Ordering::Relaxed) { hit_armed(name) } else { Ok(()) }
}

/// Passes fail point `name` in asynchronous code.
///
/// # Errors
/// If the point is armed with `error`.
#[inline]
pub async fn hit_async(name: &str) -> Result<()> {
    if ARMED.load(Ordering::Relaxed) { hit_armed_async(name).await } else { Ok(()) }
}

/// Whether the step `name`, one of [`SAFEGUARDS`], is to be left out.
#[inline]
#[must_use]
pub fn skips(name: &str) -> bool {
    ARMED.load(Ordering::Relaxed) && fire(name).is_some()
}

/// Whether any fail point is armed.
#[must_use]
pub fn armed() -> bool {
    ARMED.load(Ordering::Relaxed)
}

/// Arms the points of `text`; see the module's head for its form.
///
/// # Errors
/// A sentence that says what is wrong; nothing is armed then.
pub fn arm(text: &str) -> Result<(), String> {
    let parsed = parse_all(text)?;
    insert(&mut table(), parsed);
    Ok(())
}

/// Arms exactly the points of `text`: all others are disarmed, and who is paused there goes on. One that was armed just so
/// before goes on counting its hits.
///
/// # Errors
/// As [`arm`]; nothing changes then.
pub fn replace(text: &str) -> Result<(), String> {
    let parsed = parse_all(text)?;
    let mut table = table();
    table.retain(|name, _| parsed.iter().any(|(named, _)| named == name));
    insert(&mut table, parsed);
    Ok(())
}

fn insert(table: &mut BTreeMap<&'static str, Armed>, parsed: Vec<(&'static str, Armed)>) {
    for (name, armed) in parsed {
        if table.get(name).is_some_and(|before| (before.action, before.at) == (armed.action, armed.at)) {
            continue;
        }
        tracing::warn!(name, action = ?armed.action, at = armed.at, "fail point armed");
        table.insert(name, armed);
    }
    ARMED.store(!table.is_empty(), Ordering::Relaxed);
}

/// Disarms `name`; who is paused there goes on.
pub fn disarm(name: &str) {
    let mut table = table();
    table.remove(name);
    ARMED.store(!table.is_empty(), Ordering::Relaxed);
}

/// How often `name` was hit since it was armed; 0 if it is not armed. Lets a test wait until a pause is reached.
#[must_use]
pub fn hits(name: &str) -> u64 {
    table().get(name).map_or(0, |armed| armed.hits)
}

fn table() -> MutexGuard<'static, BTreeMap<&'static str, Armed>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse_all(text: &str) -> Result<Vec<(&'static str, Armed)>, String> {
    text.split(';').map(str::trim).filter(|item| !item.is_empty()).map(parse).collect()
}

fn parse(item: &str) -> Result<(&'static str, Armed), String> {
    let (name, action) = item.split_once('=').ok_or_else(|| format!("{item:?} is not name=action"))?;
    let known = POINTS.iter().chain(SAFEGUARDS).find(|point| **point == name.trim());
    let name = known.ok_or_else(|| format!("there is no fail point {name:?}"))?;
    let (action, at) = match action.trim().split_once('@') {
        Some((action, at)) => (action, Some(at.parse().map_err(|_| format!("{at:?} is not a number of hits"))?)),
        None => (action.trim(), None),
    };
    let action = match action.split_once(':') {
        None if action == "skip" => Action::Skip,
        None if action == "crash" => Action::Crash,
        None if action == "error" => Action::Error,
        None if action == "panic" => Action::Panic,
        None if action == "pause" => Action::Pause,
        Some(("sleep", millis)) => {
            Action::Sleep(Duration::from_millis(millis.parse().map_err(|_| format!("{millis:?} is not a number"))?))
        }
        _ => return Err(format!("{action:?} is not crash, error, panic, pause, sleep:MILLIS or skip")),
    };
    if (action == Action::Skip) != SAFEGUARDS.contains(name) {
        return Err(format!("{name} can be skipped and nothing else, or anything but skipped"));
    }
    Ok((name, Armed { action, at, hits: 0 }))
}

/// Counts the hit; the action if it fires now.
fn fire(name: &str) -> Option<Action> {
    let action = {
        let mut table = table();
        let armed = table.get_mut(name)?;
        armed.hits += 1;
        armed.at.is_none_or(|at| at == armed.hits).then_some(armed.action)
    }?;
    tracing::warn!(name, ?action, "fail point fired");
    Some(action)
}

fn is_paused(name: &str) -> bool {
    table().contains_key(name)
}

#[cold]
fn hit_armed(name: &str) -> Result<()> {
    match fire(name) {
        None | Some(Action::Skip) => {}
        Some(Action::Crash) => crash(),
        Some(Action::Error) => return Err(failed(name)),
        Some(Action::Panic) => panic!("fail point {name}"),
        Some(Action::Sleep(time)) => std::thread::sleep(time),
        Some(Action::Pause) => {
            while is_paused(name) {
                std::thread::sleep(PAUSE_POLL);
            }
        }
    }
    Ok(())
}

#[cold]
async fn hit_armed_async(name: &str) -> Result<()> {
    match fire(name) {
        None | Some(Action::Skip) => {}
        Some(Action::Crash) => crash(),
        Some(Action::Error) => return Err(failed(name)),
        Some(Action::Panic) => panic!("fail point {name}"),
        Some(Action::Sleep(time)) => tokio::time::sleep(time).await,
        Some(Action::Pause) => {
            while is_paused(name) {
                tokio::time::sleep(PAUSE_POLL).await;
            }
        }
    }
    Ok(())
}

fn failed(name: &str) -> Error {
    Error::internal(format!("fail point {name}"))
}

/// Ends the process as `kill -9` does: no destructor, no buffer and no other thread gets a turn.
fn crash() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    // The table is the process's: the tests of this module use names of their own each.

    #[tokio::test]
    async fn an_armed_point_fails_at_its_hit_and_a_disarmed_one_never() {
        assert!(hit("truncate.after").is_ok());
        arm("truncate.after=error@2").unwrap();
        assert!(armed());
        assert!(hit("truncate.after").is_ok());
        assert!(hit_async("truncate.after").await.is_err());
        assert!(hit("truncate.after").is_ok());
        assert_eq!(hits("truncate.after"), 3);
        disarm("truncate.after");
        assert!(hit("truncate.after").is_ok());
    }

    #[tokio::test]
    async fn a_pause_lasts_until_it_is_disarmed() {
        arm("gc.checkpoints=pause").unwrap();
        let paused = tokio::spawn(hit_async("gc.checkpoints"));
        while hits("gc.checkpoints") == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!paused.is_finished());
        disarm("gc.checkpoints");
        assert!(paused.await.unwrap().is_ok());
    }

    #[test]
    fn a_step_is_skipped_only_while_it_is_armed() {
        assert!(!skips("bucket.sync_directory"));
        arm("bucket.sync_directory=skip").unwrap();
        assert!(skips("bucket.sync_directory"));
        disarm("bucket.sync_directory");
        assert!(!skips("bucket.sync_directory"));
    }

    #[test]
    fn the_table_lists_the_points_in_the_code() {
        let mut found = std::collections::BTreeSet::new();
        let mut pending = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        while let Some(path) = pending.pop() {
            if path.is_dir() {
                pending.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else if path.extension().is_some_and(|ext| ext == "rs") && !path.ends_with("failpoint.rs") {
                let text = std::fs::read_to_string(path).unwrap();
                for call in ["failpoint::hit(\"", "failpoint::hit_async(\"", "failpoint::skips(\""] {
                    let names = text.split(call).skip(1).filter_map(|rest| rest.split_once('"'));
                    found.extend(names.map(|(name, _)| name.to_owned()));
                }
            }
        }
        assert_eq!(found, POINTS.iter().chain(SAFEGUARDS).map(|name| (*name).to_owned()).collect());
    }

    #[test]
    fn replacing_disarms_what_is_not_named() {
        arm("repair.cut=error; repair.later_files=error").unwrap();
        assert!(replace("repair.cut=nonsense").is_err());
        assert!(hit("repair.later_files").is_err(), "a text that is refused changes nothing");
        arm("repair.cut=sleep:0").unwrap();
        disarm("repair.later_files");
        assert!(hit("repair.later_files").is_ok() && hit("repair.cut").is_ok());
        disarm("repair.cut");
    }

    #[test]
    fn misspelt_texts_are_refused_and_arm_nothing() {
        let malformed = ["purge.after", "purge.after=explode", "purge.after=sleep:x", "purge.after=error@x"];
        let misused = ["nosuch=error", "purge.after=skip", "wal.await_sync=error"];
        for text in malformed.iter().chain(&misused) {
            assert!(arm(text).is_err(), "{text}");
        }
        assert!(arm("purge.after=crash; nosuch=error").is_err());
        assert_eq!(hits("purge.after"), 0);
        assert!(hit("purge.after").is_ok());
    }
}
