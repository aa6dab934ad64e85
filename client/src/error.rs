//! What can go wrong between a caller and the server.

use std::time::Duration;

use serde_json::{Map, Value};
use tidelog_api::error::ErrorDescription;
use tidelog_api::{ErrorCode, Outcome};

/// Result with the client's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with an error.
    #[error(transparent)]
    Api(Box<ApiError>),
    /// No connection could be made: nothing was sent.
    #[error("cannot reach {server}")]
    Connect {
        /// The server's URL.
        server: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The request or its answer broke on the way: what it wrote is unknown.
    #[error("the exchange with {server} broke off")]
    Broken {
        /// The server's URL.
        server: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The answer is not one of this API.
    #[error("{server} answered what is not Tidelog's API: {what}")]
    Protocol {
        /// The server's URL.
        server: String,
        /// What was found.
        what: String,
    },
    /// The arguments cannot be sent.
    #[error("{0}")]
    Invalid(String),
}

/// An error that the server answered.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{} ({})", .description.message, .description.code)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// The error body.
    pub description: ErrorDescription,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
}

impl Error {
    /// The server's stable code, if it answered.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.api().map(|error| error.description.code.as_str())
    }

    /// Whether the server answered with this code.
    #[must_use]
    pub fn is(&self, code: ErrorCode) -> bool {
        self.code() == Some(code.as_str())
    }

    /// The server's answer, if there was one.
    #[must_use]
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Api(error) => Some(error),
            _ => None,
        }
    }

    /// What the server's answer carries for programs.
    #[must_use]
    pub fn details(&self) -> Option<&Map<String, Value>> {
        self.api().map(|error| &error.description.details)
    }

    /// What was written; `None` when it was a read that the server answered.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Api(error) => error.description.outcome,
            Self::Connect { .. } | Self::Invalid(_) => Some(Outcome::NotWritten),
            Self::Broken { .. } | Self::Protocol { .. } => Some(Outcome::Unknown),
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Api(error) => error.description.retryable,
            Self::Connect { .. } | Self::Broken { .. } => true,
            Self::Protocol { .. } | Self::Invalid(_) => false,
        }
    }

    /// Whether another server of the same cluster may do better: this one is away, sees no leader, or did not get it done.
    pub(crate) fn is_of_the_server(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken { .. } => true,
            Self::Api(_) => {
                [ErrorCode::Unavailable, ErrorCode::NotLeader, ErrorCode::Timeout].iter().any(|code| self.is(*code))
            }
            Self::Protocol { .. } | Self::Invalid(_) => false,
        }
    }

    /// How long the server asks to wait before the next attempt.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.api().and_then(|error| error.retry_after)
    }
}
