//! A look at the bucket before a process starts: what is wrong with it is said in one sentence, by whoever can put it right.
//!
//! A store that refuses what this process has to do with it (no such bucket, a right that is lacking, another region, a clock
//! that is off) will refuse it until somebody changes something: the start ends, so that a bad setting ends the first restart
//! of a rolling one and not the last. `store.probe = "warn"` is for starting all the same. A store that is away is no
//! reason: a node with a log starts without it, and a gateway follows nodes. A node without a log has nothing else to start
//! from, and waits as long as any call.

use std::time::Duration;

use tracing::{error, info, warn};

use crate::config::{Config, StartProbe};
use crate::error::{Error, Result};
use crate::raft::NodeIdentity;
use crate::store::{Bucket, Unusable, Usage};

/// How long a start that can do without the bucket waits for its answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Tries the bucket as `store.probe` says.
///
/// # Errors
/// `unavailable` with the sentence if the bucket refuses, or is away and there is no log to start from.
pub(super) async fn at_start(bucket: &Bucket, config: &Config) -> Result<()> {
    if config.store.probe == StartProbe::Off {
        return Ok(());
    }
    let has_log = NodeIdentity::load(&config.wal_dir())?.is_some_and(|identity| identity.opened);
    let needs_bucket = config.cluster.keeps_log() && !has_log;
    let (probed, usage) = (bucket.clone(), usage(config));
    // In a task of its own, so that it removes its object also if nobody waits for it any more.
    let mut probe = tokio::spawn(async move { probed.probe_for(usage).await });
    let done = if needs_bucket {
        (&mut probe).await
    } else if let Ok(done) = tokio::time::timeout(PATIENCE, &mut probe).await {
        done
    } else {
        warn!(bucket = bucket.url(), "the bucket does not answer: starting without it");
        tokio::spawn(tell_later(probe));
        return Ok(());
    };
    match done {
        Ok(Ok(())) => {
            info!(bucket = bucket.url(), ?usage, "the bucket can be used");
            Ok(())
        }
        Ok(Err(unusable)) => decide(unusable, config.store.probe, needs_bucket),
        Err(broken) => Err(Error::internal("the look at the bucket broke off").with_source(broken)),
    }
}

/// What this process does with the bucket.
fn usage(config: &Config) -> Usage {
    if config.cluster.keeps_log() {
        Usage::Everything
    } else if config.cluster.is_compactor() && config.archive.enabled {
        Usage::Converts
    } else {
        Usage::Reads
    }
}

fn decide(unusable: Unusable, mode: StartProbe, needs_bucket: bool) -> Result<()> {
    if mode == StartProbe::Refuse && (unusable.refused || needs_bucket) {
        return Err(unusable.into());
    }
    warn!("{unusable}: starting all the same");
    Ok(())
}

/// The process serves already: it is not ended for what is found now.
async fn tell_later(probe: tokio::task::JoinHandle<Result<(), Unusable>>) {
    match probe.await {
        Ok(Ok(())) => info!("the bucket answers, and can be used"),
        Ok(Err(unusable)) if unusable.refused => error!("{unusable}"),
        Ok(Err(unusable)) => warn!("{unusable}"),
        Err(broken) => warn!(%broken, "the look at the bucket broke off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unusable(refused: bool) -> Unusable {
        Unusable { message: "bucket s3://b cannot be written: no".to_owned(), refused }
    }

    #[test]
    fn only_a_refusal_or_the_lack_of_anything_to_start_from_ends_a_start() {
        for (mode, refused, needs_bucket, starts) in [
            (StartProbe::Refuse, true, false, false),
            (StartProbe::Refuse, true, true, false),
            (StartProbe::Refuse, false, true, false),
            (StartProbe::Refuse, false, false, true),
            (StartProbe::Warn, true, false, true),
            (StartProbe::Warn, true, true, true),
        ] {
            let decided = decide(unusable(refused), mode, needs_bucket);
            assert_eq!(decided.is_ok(), starts, "{mode:?} {refused} {needs_bucket}");
        }
    }
}
