//! The HTTP API of Tidelog as Rust types: bodies, error codes, cursors, header names and limits.
//!
//! Shared by the gateway, the client and the standalone compactor, so that the contract is spelled once. No I/O, no
//! async, nothing of the engine: a client links this crate and not the server. Bodies of requests refuse unknown members,
//! bodies of answers ignore them, so that `/v1` can gain members without breaking older clients.
//!
//! | module | what |
//! |---|---|
//! | [`code`] | every error code with its status and whether a retry may help |
//! | [`error`] | the one body of every error |
//! | [`topics`], [`produce`], [`fetch`], [`producers`], [`archive`], [`status`], [`cluster`], [`jobs`] | the bodies of each resource |
//! | [`cursor`] | positions in many partitions as an opaque text |
//! | [`headers`], [`limits`] | names and numbers of the contract |

pub mod archive;
pub mod cluster;
pub mod code;
pub mod cost;
pub mod cursor;
pub mod error;
pub mod fetch;
pub mod headers;
pub mod jobs;
pub mod limits;
pub mod produce;
pub mod producers;
mod raw;
pub mod status;
pub mod topics;

pub use code::ErrorCode;
pub use cursor::Cursor;
pub use error::{ErrorBody, ErrorDescription, Outcome};
