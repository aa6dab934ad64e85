//! Reports between processes, one line each, and what is printed of many.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::run::Report;

/// A report as a line.
#[must_use]
pub fn line(report: &Report) -> String {
    let Report { seed, hash, events, requests, acknowledged, calls, evaluated, time, counts, failures } = report;
    json!({
        "seed": seed, "hash": hash, "events": events, "requests": requests, "acknowledged": acknowledged, "calls": calls,
        "evaluated": evaluated, "time": time, "counts": counts, "failures": failures,
    })
    .to_string()
}

/// The report of a line; `None` if it is another one.
#[must_use]
pub fn read(line: &str) -> Option<Report> {
    let value: Value = serde_json::from_str(line).ok()?;
    let number = |name: &str| value[name].as_u64();
    let counts = value["counts"].as_object()?.iter();
    let failures = value["failures"].as_array()?.iter();
    Some(Report {
        seed: number("seed")?,
        hash: number("hash")?,
        events: number("events")?,
        requests: number("requests")?,
        acknowledged: number("acknowledged")?,
        calls: number("calls")?,
        evaluated: number("evaluated")?,
        time: number("time")?,
        counts: counts.filter_map(|(kind, count)| Some((kind.clone(), count.as_u64()?))).collect(),
        failures: failures.filter_map(|failure| Some(failure.as_str()?.to_owned())).collect(),
    })
}

/// Prints the sums of reports; returns how many failed.
pub fn print<'a>(reports: impl Iterator<Item = &'a Report> + Clone, took: Duration) -> usize {
    let sum = |of: fn(&Report) -> u64| reports.clone().map(of).sum::<u64>();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for report in reports.clone() {
        for (kind, count) in &report.counts {
            *counts.entry(kind).or_default() += count;
        }
    }
    let failed: Vec<u64> =
        reports.clone().filter(|report| !report.failures.is_empty()).map(|report| report.seed).collect();
    let seeds: Vec<u64> = reports.clone().map(|report| report.seed).collect();
    println!("seeds        {} ({:?} to {:?})", seeds.len(), seeds.first(), seeds.last());
    println!("commit       {}", commit());
    println!("simulated    {} s", sum(|report| report.time) / 1000);
    println!("requests     {}", sum(|report| report.requests));
    println!("acknowledged {} records", sum(|report| report.acknowledged));
    println!("peer calls   {}", sum(|report| report.calls));
    println!("events       {}", sum(|report| report.events));
    println!("evaluated    {} promises", sum(|report| report.evaluated));
    println!(
        "happened     {}",
        counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
    );
    println!("wall time    {:.1} s", took.as_secs_f64());
    println!("failed       {} {failed:?}", failed.len());
    failed.len()
}

/// The commit that this is run in, if git says so.
fn commit() -> String {
    let output = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.map_or_else(|| "unknown".to_owned(), |text| String::from_utf8_lossy(&text).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = Report {
            seed: 7,
            hash: u64::MAX,
            counts: [("crash".to_owned(), 2)].into(),
            failures: vec!["a \"b\"".to_owned()],
            ..Report::default()
        };
        assert_eq!(read(&line(&report)), Some(report));
        assert_eq!(read("something else"), None);
    }
}
