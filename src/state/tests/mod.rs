//! Tests of the state machine.
#![allow(clippy::unwrap_used, clippy::panic)]

mod append;
mod cluster;
mod converge;
mod history;
mod keyed;
mod naive;
mod objects;
mod refused;
mod shards;
mod topics;
mod world;
