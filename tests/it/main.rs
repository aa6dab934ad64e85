//! Integration tests against the real binary over HTTP: one test binary, one module for each subject.

#![allow(clippy::unwrap_used, clippy::too_many_lines)]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod asleep;
mod bad_input;
mod bench;
mod bucket;
mod client;
mod clock;
mod cluster;
mod commands;
mod consume;
mod corrupt;
mod crash;
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
