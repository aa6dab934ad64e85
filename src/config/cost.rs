//! `[cost]`: what calls and bytes cost, for the estimate in the metrics and `GET /v1/cost`. Nothing is done because of it.

use serde::{Deserialize, Serialize};

use super::Config;

/// `[cost]`: prices, all in one currency. The defaults are those of Amazon S3 Standard in us-east-1, from a machine in the
/// same region, with nodes in several zones; docs/cost.md says where they are from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cost {
    /// Of all prices; only shown.
    pub currency: String,
    /// Of 1,000 calls that write or list.
    pub put_per_1000: f64,
    /// Of 1,000 calls that read.
    pub get_per_1000: f64,
    /// Of a GiB read from the bucket.
    pub read_per_gib: f64,
    /// Of a GiB written to the bucket.
    pub written_per_gib: f64,
    /// Of a GiB that this process sends to other nodes, and of one that it receives from them.
    pub peer_per_gib: f64,
    /// Of a GiB that is stored for a month.
    pub stored_per_gib_month: f64,
}

/// The defaults, in US dollars: `tidelog cost` reckons with the same, and with others besides.
impl Cost {
    /// Of 1,000 calls that write or list.
    pub const S3_PUT_1000: f64 = 0.005;
    /// Of 1,000 calls that read.
    pub const S3_GET_1000: f64 = 0.0004;
    /// Of a GB that is stored for a month, below 50 TB.
    pub const S3_GB_MONTH: f64 = 0.023;
    /// Of a GB from one zone to another, on either side.
    pub const CROSS_ZONE_GB: f64 = 0.01;
}

impl Default for Cost {
    fn default() -> Self {
        Self {
            currency: "USD".to_owned(),
            put_per_1000: Self::S3_PUT_1000,
            get_per_1000: Self::S3_GET_1000,
            read_per_gib: 0.0,
            written_per_gib: 0.0,
            peer_per_gib: Self::CROSS_ZONE_GB,
            stored_per_gib_month: Self::S3_GB_MONTH,
        }
    }
}

impl Config {
    /// The rules of `[cost]`.
    pub(super) fn check_cost(&self, problems: &mut Vec<String>) {
        let Cost { put_per_1000, get_per_1000, read_per_gib, written_per_gib, peer_per_gib, .. } = self.cost;
        let stored_per_gib_month = self.cost.stored_per_gib_month;
        for (key, price) in [
            ("put_per_1000", put_per_1000),
            ("get_per_1000", get_per_1000),
            ("read_per_gib", read_per_gib),
            ("written_per_gib", written_per_gib),
            ("peer_per_gib", peer_per_gib),
            ("stored_per_gib_month", stored_per_gib_month),
        ] {
            if !price.is_finite() || price < 0.0 {
                problems.push(format!("cost.{key}: {price} is no price"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_a_number_of_at_least_nothing() {
        let mut config = Config::default();
        config.cost.put_per_1000 = -0.1;
        config.cost.peer_per_gib = f64::NAN;
        let mut problems = Vec::new();
        config.check_cost(&mut problems);
        assert_eq!(problems, ["cost.put_per_1000: -0.1 is no price", "cost.peer_per_gib: NaN is no price"]);
    }
}
