//! Bodies of the producer routes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// `POST /v1/producers`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterProducer {
    /// The same name again raises the epoch and fences the older holder; absent means a fresh id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What to send as `Producer-Id` and `Producer-Epoch`; sequences begin at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProducerRegistered {
    /// Stays the same for a name.
    pub producer_id: u64,
    /// Raised by each registration.
    pub epoch: u16,
}

/// `GET /v1/producers/{id}?topic=`: where a producer stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProducerState {
    /// The producer.
    pub producer_id: u64,
    /// The topic.
    #[schema(value_type = String, format = "uuid")]
    pub topic_id: Uuid,
    /// The partitions that remember it, by number.
    pub partitions: Vec<ProducerPartition>,
}

/// What one partition remembers of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProducerPartition {
    /// The partition.
    pub partition: u32,
    /// The newest epoch seen.
    pub epoch: u16,
    /// Sequence of the last record written under that epoch.
    pub last_sequence: u32,
    /// Offset of that record.
    pub last_offset: u64,
}
