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

pub mod bucket;
pub mod checker;
pub mod entropy;
pub mod history;
pub mod random;
