//! What nodes say to each other about shards, as bytes: one postcard value, which takes all of them and is of bounded size.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The bytes of `value`.
///
/// # Errors
/// `internal`; there is no such value.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Bytes> {
    let bytes = postcard::to_allocvec(value);
    bytes.map(Bytes::from).map_err(|error| Error::internal("a message to a peer cannot be encoded").with_source(error))
}

/// The value of `bytes`, which are at most `limit`.
///
/// # Errors
/// `peer_message` for what no node sends.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T> {
    let malformed = |why: String| Error::invalid("peer_message", format!("a message of a peer is malformed: {why}"));
    if bytes.len() > limit {
        return Err(malformed(format!("it has {} bytes", bytes.len())));
    }
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(malformed("it is too long".to_owned())),
        Err(error) => Err(malformed(error.to_string())),
    }
}
