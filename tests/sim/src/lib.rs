//! Tidelog's simulation.
//!
//! Several whole nodes run in one process, on one thread, on disks, a network and a bucket that lie as real ones do; a seed
//! decides everything that happens. First there are faults, then they heal, then everything must converge, and a checker
//! holds all that clients saw against the promises.
//!
//! | module | what |
//! |---|---|
//! | `random`, `entropy` | the numbers of a seed, and the system's randomness answered from it |
//! | `history`, `checker` | what clients saw, and the promises held against it; pure |
//! | `bucket` | a reader of the bucket that shares nothing with the engine's |
//! | `plan`, `profile`, `bugs` | what goes wrong and when; what runs are like; planted bugs |
//! | `machine`, `net`, `store`, `web` | a node; between nodes; the bucket; between clients and nodes |
//! | `clients` | who produces, reads and operates |
//! | `world`, `faults`, `errands` | all of it, and what is done to it |
//! | `run`, `report`, `trace` | a seed from beginning to end, and what is told of it |

pub mod bucket;
pub mod bugs;
pub mod checker;
#[cfg(feature = "simulation")]
pub mod clients;
pub mod entropy;
#[cfg(feature = "simulation")]
pub mod errands;
#[cfg(feature = "simulation")]
pub mod faults;
pub mod history;
#[cfg(feature = "simulation")]
pub mod machine;
#[cfg(feature = "simulation")]
pub mod net;
pub mod plan;
pub mod profile;
pub mod random;
#[cfg(feature = "simulation")]
pub mod report;
#[cfg(feature = "simulation")]
pub mod run;
#[cfg(feature = "simulation")]
pub mod store;
#[cfg(feature = "simulation")]
pub mod trace;
#[cfg(feature = "simulation")]
pub mod web;
#[cfg(feature = "simulation")]
pub mod world;
