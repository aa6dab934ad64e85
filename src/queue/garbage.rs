//! What the garbage collection of a bucket would delete, for those who ask without a node.

pub use crate::gc::survey::{Fate, Group, Judged, Survey, survey};
