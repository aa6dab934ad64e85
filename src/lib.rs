//! Tidelog: a durable log whose database is an object-storage bucket.
//!
//! Layers, lowest first; a module imports only downwards and never a sibling (`tests/tidy.rs` enforces it):
//!
//! | layer | modules | what |
//! |---|---|---|
//! | 0 | `error`, `clock`, `config`, `metrics`, `failpoint`, `planted`, `blocking`, `disk` | plain values and process-wide registries |
//! | 1 | `model`, `log_clock` | the nouns: records, batches, commands, checkpoints; what a leader stamps on commands |
//! | 2 | `format` | bytes to nouns and back; every decoder is bounded |
//! | 3 | `state` | the replicated state machine; pure and deterministic |
//! | 4 | `store`, `cache`, `peer` | the bucket, the block cache, calls between nodes |
//! | 5 | `raft`, `checkpoints` | the only place that names openraft; checkpoints read from the bucket |
//! | 6 | `produce`, `flush`, `fetch`, `archive`, `gc`, `verify`, `backup` | a pure plan beside its executor |
//! | 7 | `shard`, `queue` | one Raft group wired; the facade that everything above uses |

pub mod archive;
pub mod backup;
pub mod blocking;
pub mod cache;
pub mod checkpoints;
pub mod clock;
pub mod config;
pub mod disk;
pub mod error;
pub mod failpoint;
pub mod fetch;
pub mod flush;
pub mod format;
pub mod gc;
pub mod log_clock;
pub mod metrics;
pub mod model;
pub mod peer;
pub mod planted;
pub mod produce;
pub mod queue;
pub mod raft;
pub mod shard;
pub mod state;
pub mod store;
pub mod verify;
