//! Tests of the state machine.
#![allow(clippy::unwrap_used, clippy::panic)]

mod append;
mod history;
mod naive;
mod objects;
mod topics;
mod world;
