#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::{Direction, Kind, Metric, all, install, job_succeeded, render, topic_traffic};

#[test]
fn names_have_units_and_occur_once() {
    let mut names = BTreeSet::new();
    for Metric { name, kind, help, labels } in all() {
        assert!(names.insert(name), "{name} occurs twice");
        assert!(name.starts_with("tidelog_") && !help.is_empty() && !help.ends_with('.'), "{name}");
        assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
        // Prometheus has labels of these names for whom it scrapes, and renames ours.
        assert!(labels.iter().all(|(label, _)| !["job", "instance"].contains(label)), "{name}");
    }
}

#[test]
fn everything_is_registered_at_start() {
    install(200).unwrap();
    install(200).unwrap();
    job_succeeded("flush", 0);
    topic_traffic("flights", Direction::Produced, 3, 100);
    let text = render();
    for metric in all() {
        assert!(text.contains(&format!("# HELP {} ", metric.name)), "{} is not rendered", metric.name);
        assert!(text.contains(&format!("\n{}", metric.name)), "{} has no series", metric.name);
    }
    for series in [
        "tidelog_bucket_calls_total{kind=\"put\",outcome=\"timeout\"}",
        "tidelog_job_last_success_age_seconds{task=\"gc\"}",
        "tidelog_build_info{version=",
        "tidelog_topic_produced_records_total{namespace=\"default\",topic=\"flights\"} 3",
    ] {
        assert!(text.contains(series), "{series} is not in\n{text}");
    }
}

#[test]
fn the_operations_page_lists_every_metric() {
    let page = include_str!("../../docs/operations.md");
    for metric in all() {
        let labels: Vec<_> = metric.labels.iter().map(|(name, _)| format!("`{name}`")).collect();
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let line = format!("| `{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.help);
        assert!(page.contains(&line), "docs/operations.md does not have this line:\n{line}");
    }
}
