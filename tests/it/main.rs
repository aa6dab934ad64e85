//! Integration tests against the real binary over HTTP: one test binary, one module for each subject.

#![allow(clippy::unwrap_used, clippy::too_many_lines)]

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod bucket;
mod client;
mod commands;
mod consume;
mod crash;
mod fetch;
mod idempotence;
mod power;
mod produce;
mod s3;
mod tiers;
mod topics;
