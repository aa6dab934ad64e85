//! Tests of the state machine.
#![allow(clippy::unwrap_used, clippy::panic)]

mod history;
mod world;
