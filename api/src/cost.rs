//! Body of `GET /v1/cost`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1/cost`: what one process used of the bucket and the network since its start, and an estimate of its price.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cost {
    /// Of all prices.
    pub currency: String,
    /// Since the start of the process.
    pub seconds: f64,
    /// Of everything.
    pub total: f64,
    /// The settings of the section `cost`.
    pub prices: CostPrices,
    /// By what it was for.
    pub jobs: Vec<CostOfJob>,
    /// To and from other nodes.
    pub peers: CostOfPeers,
    /// The topics with series of their own in the metrics, and `other`: each with its share of the price of the bytes that this
    /// process took and gave.
    pub topics: Vec<CostOfTopic>,
}

/// What things cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CostPrices {
    /// 1,000 calls that write or list.
    pub put_per_1000: f64,
    /// 1,000 calls that read.
    pub get_per_1000: f64,
    /// A GiB read from the bucket.
    pub read_per_gib: f64,
    /// A GiB written to it.
    pub written_per_gib: f64,
    /// A GiB sent to or received from other nodes.
    pub peer_per_gib: f64,
}

/// One kind of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CostOfJob {
    /// `flush`, `archive`, `fetch`, `gc` or `other`.
    pub job: String,
    /// PUTs, beginnings and ends of multipart uploads.
    pub puts: u64,
    /// Parts of multipart uploads.
    pub put_parts: u64,
    /// GETs and HEADs.
    pub gets: u64,
    /// Deleted objects.
    pub deletes: u64,
    /// Listings, each once.
    pub lists: u64,
    /// Bytes written to the bucket.
    pub written_bytes: u64,
    /// Bytes read from it.
    pub read_bytes: u64,
    /// Its price.
    pub price: f64,
}

/// The network between nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CostOfPeers {
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Their price.
    pub price: f64,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CostOfTopic {
    /// Its name.
    pub topic: String,
    /// Encoded bytes produced by way of this process.
    pub produced_bytes: u64,
    /// Encoded bytes fetched from it.
    pub fetched_bytes: u64,
    /// Its share: of flushes and conversions by the bytes produced, of reads by the bytes fetched.
    pub price: f64,
}
