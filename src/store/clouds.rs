//! Google's and Azure's object stores: `gs://bucket/prefix` and `az://container/prefix`.
//!
//! Credentials, account and endpoint come from the environment as for each cloud's own tools: `GOOGLE_APPLICATION_CREDENTIALS`,
//! `GOOGLE_SERVICE_ACCOUNT` or the machine's identity; `AZURE_STORAGE_ACCOUNT_NAME` with `AZURE_STORAGE_ACCOUNT_KEY`, a federated
//! token or a managed identity. Both make an object only if there is none (`PutMode::Create`), which is what the engine relies on.

use std::sync::Arc;

use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{ObjectStore, Result, RetryConfig};

use super::http::Connector;
use crate::config;

/// A cloud that is not S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cloud {
    Google,
    Azure,
}

impl Cloud {
    /// That of a URL, and what stands after the scheme.
    pub(super) fn of(url: &str) -> Option<(Self, &str)> {
        let google = url.strip_prefix("gs://").map(|place| (Self::Google, place));
        google.or_else(|| url.strip_prefix("az://").map(|place| (Self::Azure, place)))
    }

    /// Its scheme.
    pub(super) const fn scheme(self) -> &'static str {
        match self {
            Self::Google => "gs",
            Self::Azure => "az",
        }
    }

    /// A client of a bucket, or of a container as Azure says.
    pub(super) fn build(
        self,
        bucket: &str,
        retry: RetryConfig,
        settings: &config::Store,
    ) -> Result<Arc<dyn ObjectStore>> {
        let connector = Connector::new(settings);
        Ok(match self {
            Self::Google => Arc::new(
                GoogleCloudStorageBuilder::from_env()
                    .with_bucket_name(bucket)
                    .with_retry(retry)
                    .with_http_connector(connector)
                    .build()?,
            ),
            Self::Azure => Arc::new(
                MicrosoftAzureBuilder::from_env()
                    .with_container_name(bucket)
                    .with_retry(retry)
                    .with_http_connector(connector)
                    .build()?,
            ),
        })
    }
}
