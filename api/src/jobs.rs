//! Bodies of the routes through which `tidelog compact --server` claims and finishes archive jobs. What a job is, is the
//! engine's: it passes through here as it is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST /v1/archive-jobs:claim`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// A name for people.
    pub worker: String,
}

/// `POST /v1/archive-jobs:abandon`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Abandon<J> {
    /// Names the job.
    #[schema(value_type = Object)]
    pub job: J,
    /// Why, for people.
    pub reason: String,
}
