//! Damage of a disk.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rand::Rng as _;
use rand::rngs::StdRng;

use super::support::wal;

/// Bytes before the first frame of a file of the log.
const HEADER: usize = 4096;

/// Flips a bit somewhere in what a node that does not run has written to the log of one of its shards: in the file that it wrote
/// last up to where its frames end, or in any other file that is not only kept ready.
pub(crate) fn flip(data: &Path, random: &mut StdRng) -> PathBuf {
    let logs = wal::log_dirs(data);
    let log = &logs[random.random_range(0..logs.len())];
    let end = wal::end_of(log);
    let files: Vec<PathBuf> = wal::files_of(log).into_iter().filter(|path| *path <= end.path).collect();
    let path = files[random.random_range(0..files.len())].clone();
    let len = usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap();
    let written = if path == end.path { end.at.max(HEADER + 1) } else { len };
    let at = random.random_range(0..written) as u64;
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 1 << random.random_range(0..8);
    file.write_all_at(&byte, at).unwrap();
    path
}
