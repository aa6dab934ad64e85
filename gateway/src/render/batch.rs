//! A page as whole record batches of format v2, each with its base offset.

use bytes::Bytes;
use tidelog::error::Result;
use tidelog::model::{FetchPage, Offset};
use tidelog::queue::placed_batches;

use super::page::end_of;

/// The batches of a page, in pieces, and the offset after the last. The first may begin before the page and the last
/// end after it.
pub(crate) fn batches(page: &FetchPage) -> Result<(Vec<Bytes>, Offset)> {
    let end = page.chunks.last().map_or(0, end_of);
    let pieces = placed_batches(page)?.into_iter().flat_map(|(head, rest)| [head, rest]).collect();
    Ok((pieces, page.next_offset.max(end)))
}
