//! From stored records to bodies, written by hand into one buffer: no value is built for a record on its way out.
//!
//! Invariants: what is written is valid JSON whatever the stored bytes are; a rendered JSON record has no CR or LF, so it
//! is a line of NDJSON and a `data:` of an event as it is; a page is clipped to its `[start, next_offset)`.

pub(crate) mod batch;
pub(crate) mod json;
pub(crate) mod page;
pub(crate) mod record;
