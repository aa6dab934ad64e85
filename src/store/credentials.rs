//! Credentials that end, renewed before they do.
//!
//! While the ones at hand are good, nobody waits: one caller renews them and the others go on with them, and if they cannot be
//! renewed now, that one goes on too and somebody asks again a little later. Only without any that are good do callers wait
//! for an answer, all for the same one. A caller that is given up leaves nothing behind: the next one asks anew.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::metrics::gauge;
use async_trait::async_trait;
use object_store::aws::AwsCredential;
use object_store::{CredentialProvider, Error, Result};
use tokio::time::timeout;

use crate::clock::{Clock, Millis};
use crate::metrics::BUCKET_CREDENTIALS_EXPIRY;

/// They are renewed so long before they end, or when three quarters of their time are over, whichever is later.
const MARGIN: Duration = Duration::from_secs(300);
/// Between two attempts to renew some that are still good.
const PAUSE: Duration = Duration::from_secs(5);
/// How long renewing some that are still good may take: a call waits for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Credentials of which nobody says when they end are looked at so often: the file that they are in may have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// Credentials as they come from where they are made.
#[derive(Debug, Clone)]
pub(super) struct Issued {
    pub(super) credential: Arc<AwsCredential>,
    /// Wall time; none if they do not end.
    pub(super) expiry: Option<Millis>,
}

/// Where credentials come from.
#[async_trait]
pub(super) trait Issuer: fmt::Debug + Send + Sync + 'static {
    /// Asks for new ones.
    async fn issue(&self) -> Result<Issued>;
}

/// The provider for a store; see the module's head.
#[derive(Debug)]
pub(super) struct Renewed<I> {
    issuer: I,
    clock: Clock,
    held: Mutex<Option<Held>>,
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Held {
    issued: Issued,
    /// Wall time from which on they are to be renewed.
    due: Millis,
}

impl<I: Issuer> Renewed<I> {
    pub(super) fn new(issuer: I, clock: Clock) -> Self {
        Self { issuer, clock, held: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    fn held(&self) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those that need not be renewed yet.
    fn fresh(&self) -> Option<Arc<AwsCredential>> {
        let now = self.clock.wall();
        self.held().filter(|held| now < held.due).map(|held| held.issued.credential)
    }

    /// Those that are good for now.
    fn good(&self) -> Option<Arc<AwsCredential>> {
        let now = self.clock.wall();
        let held = self.held().filter(|held| held.issued.expiry.is_none_or(|expiry| now < expiry));
        held.map(|held| held.issued.credential)
    }

    fn keep(&self, issued: Issued) -> Arc<AwsCredential> {
        let (now, credential) = (self.clock.wall(), Arc::clone(&issued.credential));
        let due = match issued.expiry {
            Some(expiry) => {
                let left = expiry.saturating_sub(now);
                now + left.saturating_sub(millis(MARGIN)).max(left / 4 * 3)
            }
            None => now + millis(LOOK_AGAIN),
        };
        gauge!(BUCKET_CREDENTIALS_EXPIRY).set(issued.expiry.unwrap_or_default() as f64 / 1e3);
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Held { issued, due });
        credential
    }

    /// They could not be renewed and are good: somebody asks again a little later.
    fn postpone(&self) {
        if let Some(held) = self.held.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            held.due = self.clock.wall() + millis(PAUSE);
        }
    }
}

fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[async_trait]
impl<I: Issuer> CredentialProvider for Renewed<I> {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        if let Some(fresh) = self.fresh() {
            return Ok(fresh);
        }
        let _asking = match self.good() {
            Some(good) => match self.asking.try_lock() {
                Ok(asking) => asking,
                Err(_) => return Ok(good),
            },
            None => self.asking.lock().await,
        };
        // Whoever asked before may have got them.
        if let Some(fresh) = self.fresh() {
            return Ok(fresh);
        }
        let issued = match self.good() {
            // An issuer that does not answer is one that fails: this call has what it needs.
            Some(_) => timeout(PATIENCE, self.issuer.issue())
                .await
                .unwrap_or_else(|_| Err(not_issued(format!("no answer within {PATIENCE:?}")))),
            None => self.issuer.issue().await,
        };
        match (issued, self.good()) {
            (Ok(issued), _) => Ok(self.keep(issued)),
            (Err(error), Some(good)) => {
                tracing::warn!(%error, "the credentials for the bucket could not be renewed");
                self.postpone();
                Ok(good)
            }
            (Err(error), None) => Err(error),
        }
    }
}

/// An error of whoever issues credentials: it may be gone the next time.
pub(super) fn not_issued(said: String) -> Error {
    Error::Generic { store: "credentials", source: said.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    const HOUR: Millis = 3_600_000;
    const START: Millis = 1_000 * HOUR;

    /// Issues numbered credentials that are good for an hour; each takes a permit, if they are counted.
    #[derive(Debug, Clone)]
    struct Numbered {
        clock: Clock,
        issued: Arc<AtomicU64>,
        fails: Arc<AtomicBool>,
        permits: Arc<Semaphore>,
        life: Option<Millis>,
    }

    #[async_trait]
    impl Issuer for Numbered {
        async fn issue(&self) -> Result<Issued> {
            self.permits.acquire().await.unwrap().forget();
            if self.fails.load(Ordering::Relaxed) {
                return Err(not_issued("nobody is there".to_owned()));
            }
            let number = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
            let credential = AwsCredential { key_id: number.to_string(), secret_key: String::new(), token: None };
            Ok(Issued { credential: Arc::new(credential), expiry: self.life.map(|life| self.clock.wall() + life) })
        }
    }

    fn numbered(life: Option<Millis>) -> (Arc<Renewed<Numbered>>, Numbered) {
        let clock = Clock::manual(START);
        let permits = Arc::new(Semaphore::new(1_000));
        let issuer = Numbered { clock: clock.clone(), issued: Arc::default(), fails: Arc::default(), permits, life };
        (Arc::new(Renewed::new(issuer.clone(), clock)), issuer)
    }

    async fn key(provider: &Renewed<Numbered>) -> String {
        provider.get_credential().await.unwrap().key_id.clone()
    }

    #[tokio::test]
    async fn they_are_renewed_before_they_end_and_not_sooner() {
        let (provider, issuer) = numbered(Some(HOUR));
        assert_eq!(key(&provider).await, "1");
        issuer.clock.advance(HOUR - millis(MARGIN) - 1);
        assert_eq!(key(&provider).await, "1");
        issuer.clock.advance(1);
        assert_eq!(key(&provider).await, "2");
        // Short ones have a margin that suits them.
        let (provider, issuer) = numbered(Some(8_000));
        assert_eq!(key(&provider).await, "1");
        issuer.clock.advance(5_999);
        assert_eq!(key(&provider).await, "1");
        issuer.clock.advance(1);
        assert_eq!(key(&provider).await, "2");
    }

    #[tokio::test]
    async fn ones_without_an_end_are_looked_at_now_and_then() {
        let (provider, issuer) = numbered(None);
        assert_eq!(key(&provider).await, "1");
        issuer.clock.advance(millis(LOOK_AGAIN));
        assert_eq!(key(&provider).await, "2");
        issuer.fails.store(true, Ordering::Relaxed);
        issuer.clock.advance(100 * HOUR);
        assert_eq!(key(&provider).await, "2", "the file is gone, and they are good all the same");
    }

    #[tokio::test]
    async fn ones_that_cannot_be_renewed_are_used_to_their_end_and_asked_for_now_and_then() {
        let (provider, issuer) = numbered(Some(HOUR));
        assert_eq!(key(&provider).await, "1");
        issuer.fails.store(true, Ordering::Relaxed);
        issuer.clock.advance(HOUR - 10_000);
        let before = issuer.permits.available_permits();
        assert_eq!((key(&provider).await, key(&provider).await), ("1".to_owned(), "1".to_owned()));
        assert_eq!(before - issuer.permits.available_permits(), 1, "not asked for at every call");
        issuer.clock.advance(millis(PAUSE));
        assert_eq!(key(&provider).await, "1");
        assert_eq!(before - issuer.permits.available_permits(), 2);
        issuer.clock.advance(10_000);
        assert!(provider.get_credential().await.unwrap_err().to_string().contains("nobody is there"));
        issuer.fails.store(false, Ordering::Relaxed);
        assert_eq!(key(&provider).await, "2");
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_does_not_answer_costs_calls_with_good_ones_a_moment_now_and_then() {
        let (provider, issuer) = numbered(Some(HOUR));
        assert_eq!(key(&provider).await, "1");
        issuer.clock.advance(HOUR - 10_000);
        issuer.permits.forget_permits(usize::MAX);
        let begun = tokio::time::Instant::now();
        assert_eq!((key(&provider).await, key(&provider).await), ("1".to_owned(), "1".to_owned()));
        assert_eq!(begun.elapsed(), PATIENCE, "asked once, in paused time");
        issuer.clock.advance(millis(PAUSE));
        issuer.permits.add_permits(1);
        assert_eq!(key(&provider).await, "2");
    }

    #[tokio::test]
    async fn nobody_waits_while_there_are_good_ones_and_one_asks_for_all() {
        let (provider, issuer) = numbered(Some(HOUR));
        assert_eq!(key(&provider).await, "1");
        issuer.clock.advance(HOUR - 1_000);
        issuer.permits.forget_permits(usize::MAX);
        let mut renewing = Box::pin(provider.get_credential());
        assert!(futures::poll!(&mut renewing).is_pending());
        assert_eq!(key(&provider).await, "1", "another caller goes on with what is there");
        // They end: now both wait, and one answer is enough.
        issuer.clock.advance(1_000);
        let mut waiting = Box::pin(provider.get_credential());
        assert!(futures::poll!(&mut waiting).is_pending());
        issuer.permits.add_permits(1);
        assert_eq!(renewing.await.unwrap().key_id, "2");
        assert_eq!(waiting.await.unwrap().key_id, "2");
        assert_eq!(issuer.permits.available_permits(), 0);
    }
}
