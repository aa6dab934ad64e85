//! Integration tests against the real binary over HTTP: one test binary, one module for each subject.

#![allow(clippy::unwrap_used, clippy::too_many_lines)]

#[path = "../support/mod.rs"]
mod support;

/// The checker of `tests/chaos`, whose own tests run here: that program has a `main`.
#[path = "../chaos/check.rs"]
#[allow(dead_code, reason = "the program uses all of it")]
mod check;
#[path = "../chaos/check_tests.rs"]
mod check_tests;
#[path = "../chaos/journal.rs"]
#[allow(dead_code, reason = "the program uses all of it")]
mod journal;

mod access;
mod asleep;
mod backup;
mod bad_input;
mod bench;
mod bucket;
mod bucket_check;
mod bucket_start;
mod calls;
mod client;
mod clock;
mod cluster;
mod commands;
mod consume;
mod corrupt;
mod crash;
mod credentials;
mod disk_full;
mod fatal;
mod fetch;
mod idempotence;
mod kill;
mod logs;
mod outage;
mod power;
mod produce;
mod purge;
mod s3;
mod slow_clients;
mod steps;
mod stop;
mod tiers;
mod topics;
mod torn;
