//! Credentials and region as Amazon's own tools find them: environment, profiles (SSO, a process, an assumed role), web
//! identity, the role of a container or of an instance.
//!
//! Keys in the environment do not come here: `object_store` takes those itself. The rest is looked for anew each time, so that
//! a profile that changed is read again.

use std::time::Duration;

use async_trait::async_trait;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use object_store::Result;
use object_store::aws::AwsCredential;

use super::credentials::{Issued, Issuer, not_issued};
use super::error::said_by;

/// How long a start waits for the region of a machine that was not told one.
const REGION_PATIENCE: Duration = Duration::from_secs(3);
/// Says that there are none, as the probe of the bucket knows it.
pub(super) const NO_CREDENTIALS: &str = "no credentials are found";

/// Amazon's chain of places.
#[derive(Debug)]
pub(super) struct Chain {
    region: String,
    /// PEM of authorities that are believed besides the well-known ones.
    authorities: Option<Vec<u8>>,
}

impl Chain {
    /// For calls in `region`.
    pub(super) const fn new(region: String, authorities: Option<Vec<u8>>) -> Self {
        Self { region, authorities }
    }
}

/// Settings of the chain: the environment, and a client whose TLS is that of the rest of the tree.
fn config(authorities: Option<&[u8]>) -> Result<ProviderConfig> {
    let mut trust = TrustStore::default();
    if let Some(pem) = authorities {
        trust.add_pem_certificate(pem);
    }
    let tls = TlsContext::builder().with_trust_store(trust).build();
    let tls = tls.map_err(|error| not_issued(format!("there is no client for credentials: {error}")))?;
    let client = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(tls).build_https();
    Ok(ProviderConfig::default().with_http_client(client).with_behavior_version(Some(BehaviorVersion::latest())))
}

#[async_trait]
impl Issuer for Chain {
    async fn issue(&self) -> Result<Issued> {
        let config = config(self.authorities.as_deref())?;
        let chain = DefaultCredentialsChain::builder().configure(config).region(Region::new(self.region.clone()));
        let found = chain.build().await.provide_credentials().await;
        let found = found.map_err(|error| not_issued(format!("{NO_CREDENTIALS}: {}", said_by(&error))))?;
        let expiry = found.expiry().and_then(|end| end.duration_since(std::time::UNIX_EPOCH).ok());
        let credential = AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(ToOwned::to_owned),
        };
        let expiry = expiry.map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        Ok(Issued { credential: credential.into(), expiry })
    }
}

/// The region of the profile, or of the instance if `on_aws`; none if nobody says. Waits a few seconds at most.
pub(super) fn region(on_aws: bool) -> Option<String> {
    let find = async move {
        let config = config(None).ok()?;
        let profile = ProfileFileRegionProvider::builder().configure(&config).build();
        if let Some(region) = aws_config::meta::region::ProvideRegion::region(&profile).await {
            return Some(region.to_string());
        }
        if !on_aws {
            return None;
        }
        let region = ImdsRegionProvider::builder().configure(&config).build().region().await;
        region.map(|region| region.to_string())
    };
    // Opening a bucket is no async call, and a runtime cannot be entered twice in one thread.
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(async { tokio::time::timeout(REGION_PATIENCE, find).await.ok().flatten() })
    });
    thread.join().ok().flatten()
}
