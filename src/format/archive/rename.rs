//! Another topic id in the footer of an archive file, for a restored bucket, whose topics are others than those of the backup.
//!
//! An id is text of a fixed length in the key-value metadata, so that it can be replaced where it is: nothing else of the footer
//! moves or changes, and the rows stay byte for byte what they were. What results is read again as any footer is.

use bytes::Bytes;

use super::metadata::KEY_TOPIC_ID;
use super::reader::ArchiveReader;
use crate::error::{Error, Result};
use crate::model::{ArchiveFile, TopicId};

/// A field of type binary whose number is one more than the one before it, in Thrift's compact protocol; its length follows.
const NEXT_FIELD_BINARY: u8 = 0x18;

/// `file` and its footer as of `topic`. `footer` was read as [`ArchiveReader::open`] does.
///
/// # Errors
/// `corrupt` if the id of the file's topic is not where a writer of this version puts it.
pub fn renamed(file: &ArchiveFile, footer: &[u8], topic: TopicId) -> Result<(ArchiveFile, Bytes)> {
    let pair = |topic: TopicId| {
        let (key, id) = (KEY_TOPIC_ID.as_bytes(), topic.to_string());
        // Both are shorter than 128 bytes, so that their lengths are one byte.
        let mut pair = vec![NEXT_FIELD_BINARY, key.len() as u8];
        pair.extend_from_slice(key);
        pair.extend_from_slice(&[NEXT_FIELD_BINARY, id.len() as u8]);
        pair.extend_from_slice(id.as_bytes());
        pair
    };
    let (old, new) = (pair(file.topic), pair(topic));
    // The last one: statistics, which may hold any bytes of users, come before the key-value metadata.
    let at = footer.windows(old.len()).rposition(|window| window == old);
    let at =
        at.ok_or_else(|| Error::corrupt(format!("the footer of archive file {} does not name its topic", file.id)))?;
    let mut bytes = footer.to_vec();
    bytes[at..at + new.len()].copy_from_slice(&new);
    let file = ArchiveFile { topic, footer_crc32c: crc32c::crc32c(&bytes), ..file.clone() };
    let bytes = Bytes::from(bytes);
    ArchiveReader::open(&file, bytes.clone())?;
    Ok((file, bytes))
}
