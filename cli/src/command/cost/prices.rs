//! What AWS charges: the inputs of the model, in US dollars. docs/cost.md has the same table, with where each is from. Those that
//! running processes count with are the defaults of the settings.

use serde::Serialize;
use tidelog::config::Cost;

/// When the prices were put together; they are those of us-east-1, on demand, without taxes and discounts.
pub(super) const DATE: &str = "2026-11-27";

/// A price by its name.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Price {
    /// As `--price NAME=VALUE` takes it.
    pub(super) name: &'static str,
    /// US dollars.
    pub(super) value: f64,
    /// What is paid for.
    pub(super) unit: &'static str,
}

/// All prices.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(super) struct Prices(Vec<Price>);

/// Name, value, unit.
const DEFAULTS: [(&str, f64, &str); 17] = [
    ("voter_vcpu_hour", 0.0408, "vCPU of an m7g machine, an hour"),
    ("worker_vcpu_hour", 0.03625, "vCPU of a c7g machine, an hour"),
    ("ebs_gb_month", 0.08, "GB of a gp3 volume, a month"),
    ("ebs_mbps_month", 0.04, "MB/s of a gp3 volume above 125, a month"),
    ("cross_zone_gb", 2.0 * Cost::CROSS_ZONE_GB, "GB from one zone to another, paid by both sides"),
    ("s3_put_1000", Cost::S3_PUT_1000, "1,000 PUT, multipart parts and LIST among them"),
    ("s3_get_1000", Cost::S3_GET_1000, "1,000 GET, HEAD among them"),
    ("s3_gb_month_first", Cost::S3_GB_MONTH, "GB in S3 Standard, a month, up to 50 TB"),
    ("s3_gb_month_next", 0.022, "GB in S3 Standard, a month, from 50 to 500 TB"),
    ("s3_gb_month_rest", 0.021, "GB in S3 Standard, a month, above 500 TB"),
    ("load_balancer_hour", 0.0225, "hour of a network load balancer"),
    ("load_balancer_gb", 0.006, "GB through it (one capacity unit for an hour)"),
    ("endpoint_hour", 0.01, "hour of an interface endpoint in one zone"),
    ("log_gb", 0.5, "GB of logs taken by CloudWatch"),
    ("metric_month", 0.3, "metric of CloudWatch, a month"),
    ("alarm_month", 0.1, "alarm of CloudWatch, a month"),
    ("root_gb_month", 0.08, "GB of the machines' own disks, a month"),
];

impl Default for Prices {
    fn default() -> Self {
        Self(DEFAULTS.into_iter().map(|(name, value, unit)| Price { name, value, unit }).collect())
    }
}

impl Prices {
    /// All of them, in the order of the documentation.
    pub(super) fn all(&self) -> &[Price] {
        &self.0
    }

    /// Replaces a price; what is wrong if there is none by that name.
    pub(super) fn set(&mut self, name: &str, value: f64) -> Result<(), String> {
        match self.0.iter_mut().find(|price| price.name == name) {
            Some(price) => price.value = value,
            None => {
                let names: Vec<&str> = self.0.iter().map(|price| price.name).collect();
                return Err(format!("there is no price {name}; there are {}", names.join(", ")));
            }
        }
        Ok(())
    }

    /// A price that is known to be there.
    pub(super) fn get(&self, name: &str) -> f64 {
        let found = self.0.iter().find(|price| price.name == name);
        debug_assert!(found.is_some(), "no price {name}");
        found.map_or(f64::NAN, |price| price.value)
    }
}
