//! The local copy of the newest checkpoint: what a restart begins with when the bucket is away.
//!
//! Immutable files named by object id, and one file `pointer` that names the checkpoint in use. The pointer is replaced
//! only after everything that its checkpoint names is on disk, and the log is purged only after the pointer is. A file
//! that the pointer's checkpoint does not name is left over and goes with the next adoption.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::files;
use super::options::CheckpointFiles;
use super::types::{LogId, StoredMembership, log_id, term_of};
use super::wal::{decode_membership, encode_membership};
use super::wire::{CheckpointFile, PIECE_BYTES};
use crate::disk::{self, File};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint;
use crate::format::checkpoint;
use crate::model::{Checkpoint, CheckpointRef, ObjectId, SegmentRange};
use crate::state::State;

const POINTER: &str = "pointer";
/// Why this log must not be used any more.
const LOST: &str = "lost";
const POINTER_MAGIC: &[u8; 8] = b"TLGPOINT";
const RANGES_MAGIC: &[u8; 8] = b"TLGRANGE";
const VERSION: u16 = 1;
/// A pointer is some hundred bytes, the ranges of a segment some ten for each partition.
const MAX_BYTES: u64 = 1 << 30;

/// What `pointer` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer {
    /// The checkpoint.
    pub(crate) reference: CheckpointRef,
    /// The log id of the entry at the checkpoint's index.
    pub(crate) last: LogId,
    /// The membership as of that entry.
    pub(crate) membership: StoredMembership,
}

/// As it is on disk; field order is the format.
#[derive(Serialize, Deserialize)]
struct PointerLayout {
    reference: CheckpointRef,
    term: u64,
    membership_at: Option<(u64, u64)>,
    membership: Vec<u8>,
}

/// The directory of the local copies.
#[derive(Debug, Clone)]
pub(crate) struct MetaDir {
    dir: PathBuf,
}

impl MetaDir {
    /// Uses `dir`, which exists.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Why the log beside these files must not be used any more, if somebody said so.
    pub(crate) fn lost(&self) -> Result<Option<String>> {
        if !disk::try_exists(&self.dir.join(LOST)).map_err(|error| self.failed(&error))? {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&self.read(LOST)?).into_owned()))
    }

    /// Says durably that the log beside these files must not be used any more, and why.
    pub(crate) fn write_lost(&self, why: &str) -> Result<()> {
        self.write(LOST, why.as_bytes())
    }

    /// The pointer, if there is one.
    pub(crate) fn pointer(&self) -> Result<Option<Pointer>> {
        let path = self.dir.join(POINTER);
        if !disk::try_exists(&path).map_err(|error| self.failed(&error))? {
            return Ok(None);
        }
        let layout: PointerLayout = self.unframe(POINTER, POINTER_MAGIC)?;
        let membership = decode_membership(&layout.membership).map_err(|error| damaged(&path, error))?;
        Ok(Some(Pointer {
            last: log_id(layout.term, layout.reference.index),
            reference: layout.reference,
            membership: StoredMembership::new(
                layout.membership_at.map(|(term, index)| log_id(term, index)),
                membership,
            ),
        }))
    }

    /// The state at the checkpoint `reference`, from local files alone.
    pub(crate) fn restore(&self, reference: CheckpointRef) -> Result<State> {
        let name = checkpoint_name(reference.id);
        let found =
            checkpoint::decode_checkpoint(&self.read(&name)?).map_err(|error| damaged(&self.dir.join(&name), error))?;
        if found.self_ref != reference {
            return Err(damaged(&self.dir.join(&name), "it is another checkpoint than its name says"));
        }
        let mut parts = Vec::new();
        for part in &found.parts {
            let name = part_name(part.id);
            let bytes = self.read(&name)?;
            parts.push(checkpoint::decode_part(&bytes).map_err(|error| damaged(&self.dir.join(&name), error))?);
        }
        let mut footers = Vec::new();
        for segment in found.footer_segments() {
            footers.push((segment.id, self.unframe(&ranges_name(segment.id), RANGES_MAGIC)?));
        }
        State::restore(found, parts, footers).map_err(|error| damaged(&self.dir.join(&name), error))
    }

    /// Writes what is not there yet of `files`, durably. Nothing names it yet.
    ///
    /// # Errors
    /// `missing_files` if the checkpoint names a file that is neither in `files` nor here. What was written before the
    /// failure is gone: on a full disk it would be in the way of the next attempt.
    pub(crate) fn stage(&self, files: &CheckpointFiles) -> Result<Checkpoint> {
        let mut written = Vec::new();
        self.stage_noting(files, &mut written).inspect_err(|_| {
            for name in written {
                let _ = disk::remove_file(&self.dir.join(name));
            }
        })
    }

    /// The same, noting each file that it writes.
    fn stage_noting(&self, files: &CheckpointFiles, written: &mut Vec<String>) -> Result<Checkpoint> {
        let name = checkpoint_name(files.reference.id);
        let checkpoint =
            checkpoint::decode_checkpoint(&files.checkpoint).map_err(|error| damaged(&self.dir.join(&name), error))?;
        if checkpoint.self_ref != files.reference {
            return Err(Error::internal("the checkpoint to keep is another than its reference says"));
        }
        self.write_missing(files, &checkpoint, written)?;
        if !disk::is_file(&self.dir.join(&name)) {
            self.write(&name, &files.checkpoint)?;
            written.push(name);
        }
        Ok(checkpoint)
    }

    /// Stages `files` and replaces the pointer, durably. Afterwards a restart begins there.
    ///
    /// # Errors
    /// Those of [`MetaDir::stage`]; the old pointer then holds.
    pub(crate) fn adopt(&self, files: &CheckpointFiles, pointer: &Pointer) -> Result<()> {
        if files.reference != pointer.reference {
            return Err(Error::internal("the pointer names another checkpoint than the one to adopt"));
        }
        let checkpoint = self.stage(files)?;
        let membership = encode_membership(pointer.membership.membership()).map_err(|error| self.failed(&error))?;
        let layout = PointerLayout {
            reference: pointer.reference,
            term: term_of(&pointer.last),
            membership_at: pointer.membership.log_id().as_ref().map(|id| (term_of(id), id.index)),
            membership: membership.to_vec(),
        };
        failpoint::hit("pointer.before_write")?;
        self.write(POINTER, &frame(POINTER_MAGIC, &layout)?)?;
        failpoint::hit("pointer.after_write")?;
        self.clean(&checkpoint);
        Ok(())
    }

    fn write_missing(&self, files: &CheckpointFiles, checkpoint: &Checkpoint, written: &mut Vec<String>) -> Result<()> {
        let mut missing = Vec::new();
        for part in &checkpoint.parts {
            let name = part_name(part.id);
            if disk::is_file(&self.dir.join(&name)) {
                continue;
            }
            match files.parts.iter().find(|(id, _)| *id == part.id) {
                Some((_, bytes)) => {
                    self.write(&name, bytes)?;
                    written.push(name);
                }
                None => missing.push(name),
            }
        }
        for segment in checkpoint.footer_segments() {
            let name = ranges_name(segment.id);
            if disk::is_file(&self.dir.join(&name)) {
                continue;
            }
            match files.ranges.iter().find(|(id, _)| *id == segment.id) {
                Some((_, ranges)) => {
                    self.write(&name, &frame(RANGES_MAGIC, ranges)?)?;
                    written.push(name);
                }
                None => missing.push(name),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let missing = missing.join(" ");
        Err(Error::new(
            ErrorKind::Conflict,
            "missing_files",
            format!("the checkpoint names files that are not here: {missing}"),
        )
        .with_text("files", missing))
    }

    /// Removes what the checkpoint in use does not name. What cannot be removed now is tried again the next time.
    fn clean(&self, checkpoint: &Checkpoint) {
        let mut named: BTreeSet<String> = checkpoint.parts.iter().map(|part| part_name(part.id)).collect();
        named.extend(checkpoint.footer_segments().iter().map(|segment| ranges_name(segment.id)));
        named.insert(checkpoint_name(checkpoint.self_ref.id));
        named.extend([POINTER, LOST].map(str::to_owned));
        let Ok(paths) = disk::read_dir(&self.dir) else { return };
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str());
            let unnamed = name.is_some_and(|name| !named.contains(name));
            if unnamed && let Err(error) = disk::remove_file(&path) {
                tracing::warn!(file = %path.display(), %error, "cannot remove a file that is no longer needed");
            }
        }
    }

    /// Whether `file` is here.
    pub(crate) fn has(&self, file: CheckpointFile) -> bool {
        disk::is_file(&self.dir.join(file_name(file)))
    }

    /// The length of `file`, and its bytes from `offset` on, at most [`PIECE_BYTES`].
    ///
    /// # Errors
    /// `checkpoint_gone` if it is not here, or no more: a newer checkpoint took its place.
    pub(crate) fn piece(&self, file: CheckpointFile, offset: u64) -> Result<(u64, Bytes)> {
        let name = file_name(file);
        let read = || -> io::Result<(u64, Vec<u8>)> {
            let file = File::open(self.dir.join(&name))?;
            let total = file.len()?;
            let len = total.saturating_sub(offset).min(PIECE_BYTES);
            let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, offset)?;
            Ok((total, bytes))
        };
        match read() {
            Ok((total, bytes)) => Ok((total, bytes.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::new(ErrorKind::NotFound, "checkpoint_gone", format!("{name} is not here")))
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.dir.join(name);
        let found = disk::len(&path).and_then(|len| match len {
            len if len > MAX_BYTES => Err(io::Error::other(format!("it has {len} bytes"))),
            _ => disk::read(&path),
        });
        found.map_err(|error| {
            let message = format!("cannot read {}, which the local checkpoint needs", path.display());
            match error.kind() {
                io::ErrorKind::NotFound => Error::corrupt(message).with_source(error),
                _ => Error::internal(message).with_source(error),
            }
        })
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        files::replace(&self.dir, name, content).map_err(|error| self.failed(&error))
    }

    fn unframe<T: DeserializeOwned>(&self, name: &str, magic: &[u8; 8]) -> Result<T> {
        let bytes = self.read(name)?;
        unframe(&bytes, magic).map_err(|why| damaged(&self.dir.join(name), why))
    }

    fn failed(&self, error: &io::Error) -> Error {
        Error::internal(format!("cannot use {}", self.dir.display()))
            .with_source(io::Error::new(error.kind(), error.to_string()))
    }
}

/// The ranges in a file of ranges that a peer sent.
pub(crate) fn decode_ranges(bytes: &[u8]) -> Result<Vec<SegmentRange>> {
    unframe(bytes, RANGES_MAGIC).map_err(|why| Error::corrupt(format!("the ranges of a segment are damaged: {why}")))
}

fn file_name(file: CheckpointFile) -> String {
    match file {
        CheckpointFile::Checkpoint(id) => checkpoint_name(id),
        CheckpointFile::Part(id) => part_name(id),
        CheckpointFile::Ranges(segment) => ranges_name(segment),
    }
}

fn checkpoint_name(id: ObjectId) -> String {
    format!("{id}.ckpt")
}

fn part_name(id: ObjectId) -> String {
    format!("{id}.idx")
}

fn ranges_name(segment: ObjectId) -> String {
    format!("{segment}.ranges")
}

fn damaged(path: &Path, why: impl ToString) -> Error {
    Error::corrupt(format!("{} is damaged: {}", path.display(), why.to_string()))
}

/// `magic (8) | version u16 LE | postcard | CRC-32C u32 LE` over all before it.
fn frame<T: Serialize>(magic: &[u8; 8], content: &T) -> Result<Vec<u8>> {
    let mut bytes = magic.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    let mut bytes = postcard::to_extend(content, bytes)
        .map_err(|error| Error::internal("a local file cannot be encoded").with_source(error))?;
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend(checksum.to_le_bytes());
    Ok(bytes)
}

fn unframe<T: DeserializeOwned>(bytes: &[u8], magic: &[u8; 8]) -> Result<T, String> {
    let (covered, checksum) = bytes.split_last_chunk::<4>().ok_or("it is cut short")?;
    if crc32c::crc32c(covered) != u32::from_le_bytes(*checksum) {
        return Err("its checksum does not match".to_owned());
    }
    let rest = covered.strip_prefix(magic).ok_or("it does not begin as expected")?;
    let (version, content) = rest.split_first_chunk::<2>().ok_or("it is cut short")?;
    match u16::from_le_bytes(*version) {
        VERSION => {}
        other => return Err(format!("it has version {other}, this build knows version {VERSION}")),
    }
    match postcard::take_from_bytes(content) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err("it is too long".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
