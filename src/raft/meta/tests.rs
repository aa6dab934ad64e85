//! The local files.
