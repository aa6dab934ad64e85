//! The name under which a run can be taken up again.
//!
//! Everything that decides which record becomes the n-th of which partition is in the name: topic, input, format, key,
//! partition count. A run with other options is another producer, so `--resume` cannot skip the wrong rows.

use std::path::Path;

use anyhow::{Context, Result};
use tidelog_api::topics::TopicDescription;
use xxhash_rust::xxh3::xxh3_64;

use crate::args::ProduceArgs;
use crate::input::Format;

/// Raised when the choice of partitions or the reading of a format changes.
const VERSION: u32 = 1;
/// Characters of a file's name that are kept for people who list producers.
const SHOWN_LEN: usize = 64;

/// The producer's name; `None` for standard input that nobody named.
pub(super) fn producer_name(
    args: &ProduceArgs,
    format: Format,
    description: &TopicDescription,
) -> Result<Option<String>> {
    let (shown, source) = match (&args.producer, &args.file) {
        (Some(name), _) => (name.clone(), name.clone()),
        (None, Some(file)) => {
            let path = file.canonicalize().with_context(|| format!("cannot open {}", file.display()))?;
            (shown(&path), path.to_string_lossy().into_owned())
        }
        (None, None) => return Ok(None),
    };
    let facts = format!(
        "{VERSION}|{}|{}|{format:?}|{:?}|{:?}|{source}",
        description.topic_id, description.settings.partitions, args.key_field, args.partition
    );
    Ok(Some(format!("{shown}#{:016x}", xxh3_64(facts.as_bytes()))))
}

/// The file's name without what a name of a producer may not hold.
fn shown(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    name.chars().take(SHOWN_LEN).map(plain).collect()
}
