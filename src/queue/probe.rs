//! A look at the bucket before a process starts: what is wrong with it is said in one sentence, by whoever can put it right.
//!
//! A store that refuses what this process has to do with it (no such bucket, a right that is lacking, another region, a clock
//! that is off) will refuse it until somebody changes something: the start ends, so that a bad setting ends the first restart
//! of a rolling one and not the last. `store.probe = "warn"` is for starting all the same. A store that is away is no
//! reason: a node with a log starts without it, and a gateway follows nodes. A node without a log has nothing else to start
//! from: it waits for the look to end, and whether what the bucket answers is enough for a start is decided there.

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
/// `unavailable` with the sentence if the bucket refuses.
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
        Ok(Err(unusable)) => decide(unusable, config.store.probe),
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

fn decide(unusable: Unusable, mode: StartProbe) -> Result<()> {
    if mode == StartProbe::Refuse && unusable.refused {
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
    fn only_a_refusal_ends_a_start_and_only_if_it_is_to() {
        for (mode, refused, starts) in [
            (StartProbe::Refuse, true, false),
            (StartProbe::Refuse, false, true),
            (StartProbe::Warn, true, true),
            (StartProbe::Warn, false, true),
        ] {
            assert_eq!(decide(unusable(refused), mode).is_ok(), starts, "{mode:?} {refused}");
        }
    }
}
