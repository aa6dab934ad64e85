//! The model against sums made by hand, and against docs/cost.md.

#![allow(clippy::unwrap_used)]

use clap::Parser;

use super::model::{Bill, bill};
use super::prices::Prices;
use super::{CostArgs, lines, load, prices};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: CostArgs,
}

const DOCUMENT: &str = include_str!("../../../../docs/cost.md");

fn args(words: &str) -> CostArgs {
    Line::try_parse_from(words.split_whitespace()).unwrap().args
}

fn of(words: &str) -> Bill {
    let args = args(words);
    bill(&load(&args).unwrap(), &prices(&args).unwrap())
}

fn dollars(bill: &Bill, what: &str) -> f64 {
    bill.lines.iter().find(|line| line.what == what).unwrap().dollars
}

fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() <= expected.abs() * 1e-9, "{found}, not {expected}");
}

/// Every block of the document that begins with the command has what the command prints.
#[test]
fn the_document_shows_what_the_command_prints() {
    let mut blocks = 0;
    for block in DOCUMENT.split("```\n$ tidelog cost ").skip(1) {
        let (command, printed) = block.split_once('\n').unwrap();
        let printed = printed.split_once("\n```").unwrap().0;
        let bill = of(&format!("cost {command}"));
        assert_eq!(printed.lines().collect::<Vec<_>>(), lines(&bill), "tidelog cost {command}");
        blocks += 1;
    }
    assert!(blocks >= 4, "{blocks} blocks");
}

/// The rows of the document's comparison are sums of the command's lines.
#[test]
fn the_document_compares_with_what_the_command_says() {
    let bill = of("cost --rate 1074MB/s");
    let network = dollars(&bill, "bytes between zones");
    let sum = |lines: &[&str]| lines.iter().map(|line| dollars(&bill, line)).sum::<f64>();
    let machines = sum(&["voters", "gateways and compactors", "volumes of the log", "disks of the machines"]);
    let rest = sum(&["load balancer", "endpoints, logs, metrics"]);
    for dollars in [bill.dollars, network, dollars(&bill, "storage"), sum(&["PUT", "GET"]), machines, rest] {
        let shown = super::whole(dollars);
        assert!(DOCUMENT.lines().any(|line| line.starts_with("| Tidelog") && line.contains(&shown)), "{shown}");
    }
    let bill = of("cost --rate 30MB/s --fan-out 3");
    let shown = format!("{} of {}.", super::whole(dollars(&bill, "bytes between zones")), super::whole(bill.dollars));
    assert!(DOCUMENT.contains(&shown), "{shown}");
}

/// No more and no less, each with one of the numbered sources below the table, and every source with a price.
#[test]
fn the_document_has_every_price_and_its_source() {
    let (_, section) = DOCUMENT.split_once("\n## Prices\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let sources = section.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit())).count();
    let mut used = vec![false; sources];
    assert_eq!(rows.len(), Prices::default().all().len());
    for (row, price) in rows.iter().zip(Prices::default().all()) {
        let expected = format!("| `{}` | {} | {} | ", price.name, price.value, price.unit);
        let source = row.strip_prefix(&expected).unwrap_or_else(|| panic!("{row}\n{expected}"));
        let source: usize = source.trim_end_matches(" |").parse().unwrap();
        used[source - 1] = true;
    }
    assert_eq!(used, vec![true; used.len()], "sources of no price");
    assert!(section.contains(super::prices::DATE));
}

/// What running processes count with is what the model reckons with: both sides of a zone pay.
#[test]
fn the_settings_have_the_same_prices() {
    let (prices, settings) = (Prices::default(), tidelog::config::Cost::default());
    assert_eq!(settings.currency, "USD");
    near(prices.get("s3_put_1000"), settings.put_per_1000);
    near(prices.get("s3_get_1000"), settings.get_per_1000);
    near(prices.get("s3_gb_month_first"), settings.stored_per_gib_month);
    near(prices.get("cross_zone_gb"), 2.0 * settings.peer_per_gib);
}

#[test]
fn a_small_cluster_is_what_the_module_makes_at_least() {
    let bill = of("cost --rate 1MB/s");
    near(bill.clusters, 1.0);
    near(dollars(&bill, "voters"), 3.0 * 2.0 * 730.0 * 0.0408);
    near(dollars(&bill, "gateways and compactors"), 4.0 * 2.0 * 730.0 * 0.03625);
    near(dollars(&bill, "volumes of the log"), 3.0 * 100.0 * 0.08);
    // 1 MB/s is 2,628 GB a month; each byte crosses 2/3 + 2 + 2/3 times, and both sides pay.
    near(dollars(&bill, "bytes between zones"), 2_628.0 * (10.0 / 3.0) * 0.02);
    near(bill.dollars, bill.lines.iter().map(|line| line.dollars).sum());
    near(bill.dollars_per_gb, bill.dollars / 2_628.0);
}

/// Three shards with a flush every ten seconds: a segment and a checkpoint each, an index part for 64 segments, and once a minute
/// a file for each of ten topics.
#[test]
fn calls_of_a_small_cluster_are_those_of_its_clock() {
    let bill = of("cost --rate 1MB/s");
    let puts = 3.0 * (0.1 + 0.1 + 0.1 / 64.0 + 10.0 / 60.0) * 730.0 * 3_600.0;
    near(dollars(&bill, "PUT"), puts / 1_000.0 * 0.005);
    let gets = (3.0 * 0.1 + 1e6 / 1_048_576.0) * 730.0 * 3_600.0;
    near(dollars(&bill, "GET"), gets / 1_000.0 * 0.0004);
}

#[test]
fn storage_is_paid_by_tiers() {
    let days = 3.0 + (60.0 + 2.0 * 4_200.0) / 86_400.0 + 2.0;
    let gb = 1e9 * days * 86_400.0 / 1e9;
    assert!(gb > 50_000.0 && gb < 500_000.0);
    near(dollars(&of("cost --rate 1000MB/s"), "storage"), 50_000.0 * 0.023 + (gb - 50_000.0) * 0.022);
    let gb = gb * 10.0;
    let expected = 50_000.0 * 0.023 + 450_000.0 * 0.022 + (gb - 500_000.0) * 0.021;
    near(dollars(&of("cost --rate 10000MB/s"), "storage"), expected);
}

#[test]
fn what_makes_it_cheaper_does() {
    let base = of("cost --rate 100MB/s").dollars;
    for cheaper in [
        "--compression 4",
        "--fan-out 0",
        "--retention 1d",
        "--no-load-balancer",
        "--price cross_zone_gb=0.01",
        "--cold 1",
    ] {
        let found = of(&format!("cost --rate 100MB/s {cheaper}")).dollars;
        assert!(found < base, "{cheaper}: {found}, and {base} without");
    }
    for dearer in ["--fan-out 3", "--retention 30d", "--old-versions 7d", "--topics 1000"] {
        let found = of(&format!("cost --rate 100MB/s {dearer}")).dollars;
        assert!(found > base, "{dearer}: {found}, and {base} without");
    }
}

#[test]
fn a_log_that_is_too_fast_for_its_volume_is_several_clusters() {
    near(of("cost --rate 700MB/s").clusters, 1.0);
    near(of("cost --rate 701MB/s").clusters, 2.0);
    near(of("cost --rate 2800MB/s --compression 4").clusters, 1.0);
}

#[test]
fn wrong_arguments_are_refused() {
    for wrong in [
        "cost",
        "cost --rate 100MB",
        "cost --rate 0MB/s",
        "cost --rate x/s",
        "cost --rate 1MB/s --cold 2",
        "cost --rate 1MB/s --compression 0",
        "cost --rate 1MB/s --fan-out NaN",
        "cost --rate 1MB/s --price x",
        "cost --rate 1MB/s --topics 0",
    ] {
        assert!(Line::try_parse_from(wrong.split_whitespace()).is_err(), "{wrong}");
    }
    assert!(prices(&args("cost --rate 1MB/s --price nothing=1")).is_err());
    assert!(load(&args("cost --rate 1MB/s --flush-interval 0s")).is_err());
}
