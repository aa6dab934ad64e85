//! `tidelog cost`: what a cluster costs on AWS, as a table. No server and no account is asked; the formulas are in [`model`], the
//! prices in [`prices`], and both with their reasons in docs/cost.md.

mod model;
mod prices;
#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::Result;
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use serde::Serialize;

use self::model::{Bill, Load, bill, whole};
use self::prices::{DATE, Price, Prices};
use crate::args::parse_duration;
use crate::exit::usage;
use crate::output::{self, Out, Table};

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// Arguments of `cost`.
#[derive(Debug, Args)]
pub(crate) struct CostArgs {
    /// What producers send, before compression, such as 100MB/s
    #[arg(long, value_name = "SIZE/s", value_parser = parse_rate)]
    pub rate: ByteSize,
    /// How often each record is read
    #[arg(long, default_value_t = 1.0, value_name = "N", value_parser = parse_number)]
    pub fan_out: f64,
    /// The share of reads that come later than the last flushes, 0 to 1
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = parse_share)]
    pub cold: f64,
    /// Bytes of producers for one byte stored, as zstd makes it
    #[arg(long, default_value_t = 1.0, value_name = "RATIO", value_parser = parse_ratio)]
    pub compression: f64,
    /// How long records are kept
    #[arg(long, default_value = "3d", value_name = "DURATION", value_parser = parse_duration)]
    pub retention: Duration,
    /// How long deleted objects are kept: the module's old_versions_days
    #[arg(long, default_value = "1d", value_name = "DURATION", value_parser = parse_duration)]
    pub old_versions: Duration,
    /// Topics that are written
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub topics: u32,
    /// flush.bytes
    #[arg(long, default_value = "64MiB", value_name = "SIZE", value_parser = parse_size)]
    pub flush_bytes: ByteSize,
    /// flush.interval
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = parse_duration)]
    pub flush_interval: Duration,
    /// cluster.shards of each cluster
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub shards: u32,
    /// Clients are given the gateways of their zone instead of the load balancer
    #[arg(long)]
    pub no_load_balancer: bool,
    /// Another price in US dollars, such as cross_zone_gb=0.01; may be repeated. --output json has all names
    #[arg(long = "price", value_name = "NAME=VALUE", value_parser = parse_price)]
    pub prices: Vec<(String, f64)>,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    pub output: Format,
}

/// How the bill is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs, with the prices
    Json,
}

/// What `--output json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    prices_of: &'static str,
    currency: &'static str,
    load: &'a Load,
    bill: &'a Bill,
    prices: &'a [Price],
}

/// Prints the bill.
pub(super) fn run(args: &CostArgs) -> Result<()> {
    let load = load(args)?;
    let prices = prices(args)?;
    let bill = bill(&load, &prices);
    if args.output == Format::Json {
        let report = Report { prices_of: DATE, currency: "USD", load: &load, bill: &bill, prices: prices.all() };
        return output::json(&report);
    }
    let mut out = Out::new();
    lines(&bill).iter().try_for_each(|line| out.line(line))?;
    out.finish()
}

/// The load that the arguments say.
fn load(args: &CostArgs) -> Result<Load> {
    if args.flush_interval.is_zero() {
        return Err(usage("--flush-interval must not be 0"));
    }
    Ok(Load {
        rate: bytes(args.rate),
        fan_out: args.fan_out,
        cold: args.cold,
        compression: args.compression,
        retention_days: args.retention.as_secs_f64() / DAY,
        old_versions_days: args.old_versions.as_secs_f64() / DAY,
        topics: f64::from(args.topics),
        flush_bytes: bytes(args.flush_bytes),
        flush_interval: args.flush_interval.as_secs_f64(),
        shards: f64::from(args.shards),
        load_balancer: !args.no_load_balancer,
    })
}

fn prices(args: &CostArgs) -> Result<Prices> {
    let mut prices = Prices::default();
    for (name, value) in &args.prices {
        prices.set(name, *value).map_err(usage)?;
    }
    Ok(prices)
}

/// The table and what follows it.
fn lines(bill: &Bill) -> Vec<String> {
    let mut table = Table::new(&["WHAT", "HOW MUCH", "US$ A MONTH"]);
    for line in &bill.lines {
        table.row([line.what.to_owned(), line.how_much.clone(), whole(line.dollars)]);
    }
    table.row(["total".to_owned(), String::new(), whole(bill.dollars)]);
    let mut lines = table.lines();
    let clusters = if bill.clusters > 1.0 {
        format!("; {} clusters, as one log takes no more", bill.clusters)
    } else {
        String::new()
    };
    lines.push(format!(
        "US$ {:.4} a GB produced; {:.0} PUT and {:.0} GET a GiB stored{clusters}",
        bill.dollars_per_gb, bill.puts_per_gib, bill.gets_per_gib
    ));
    lines
}

/// Sizes are far below 2^53, so nothing is lost.
#[allow(clippy::cast_precision_loss)]
fn bytes(size: ByteSize) -> f64 {
    size.as_u64() as f64
}

pub(super) fn parse_rate(text: &str) -> Result<ByteSize, String> {
    let size = text.strip_suffix("/s").ok_or_else(|| format!("{text:?} is not a rate such as 100MB/s"))?;
    parse_size(size)
}

fn parse_size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|_| format!("{text:?} is not a size such as 64MiB"))?;
    // A thousandth of an exabyte a second is more than anybody has.
    if (1..=1_000_000_000_000_000).contains(&size.as_u64()) {
        Ok(size)
    } else {
        Err(format!("{text:?} is out of range"))
    }
}

fn parse_number(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if (0.0..=10_000.0).contains(&number) { Ok(number) } else { Err(format!("{text:?} is not between 0 and 10000")) }
}

fn parse_share(text: &str) -> Result<f64, String> {
    parse_number(text).and_then(|share| if share <= 1.0 { Ok(share) } else { Err(format!("{text:?} is above 1")) })
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    parse_number(text).and_then(|ratio| if ratio >= 0.1 { Ok(ratio) } else { Err(format!("{text:?} is below 0.1")) })
}

fn parse_price(text: &str) -> Result<(String, f64), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), parse_number(value)?))
}
