//! Power cuts for the real binary: `power.c` writes down what the server does to its data directory (`journal`), and after
//! a kill the directory is rebuilt as a disk would have kept it (`disk`).
//!
//! After every kill the directory has to be exactly what the journal says, so nothing that changes a file goes by unseen.
//! A kill without a cut may come first, several times: what an earlier process did not sync is then still at stake.
//! The random choices of a cut follow from the seed; when the process is killed does not.

mod disk;
mod journal;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use rand::SeedableRng;
use rand::rngs::StdRng;
use tempfile::TempDir;

use disk::Disk;
use journal::{Journal, Op};

use super::server::Settings;

/// The longest that a sync takes. Real ones take a few tenths of a millisecond to tens of them; it is while they are under
/// way that a cut is worth most.
const SYNC_DELAY_US: u32 = 2_000;

/// A directory on a disk whose power can be cut, and what watches the processes that use it.
#[derive(Debug)]
pub(crate) struct Power {
    dir: Arc<TempDir>,
    /// The journal and the count of operations: never part of what a cut changes.
    outside: TempDir,
    disk: Disk,
    random: StdRng,
}

impl Power {
    /// A new and empty directory; cuts choose by `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        // The library compares paths as the kernel knows them.
        let temporary = std::env::temp_dir().canonicalize().unwrap();
        let dir = Arc::new(tempfile::tempdir_in(&temporary).unwrap());
        let outside = tempfile::tempdir_in(&temporary).unwrap();
        std::fs::write(outside.path().join("cut"), 0_i64.to_ne_bytes()).unwrap();
        File::create(outside.path().join("journal")).unwrap();
        let disk = Disk::of(dir.path());
        Self { dir, outside, disk, random: StdRng::seed_from_u64(seed) }
    }

    /// The directory.
    pub(crate) fn dir(&self) -> Arc<TempDir> {
        Arc::clone(&self.dir)
    }

    /// What cuts and tests choose with.
    pub(crate) fn random(&mut self) -> &mut StdRng {
        &mut self.random
    }

    /// The environment of a process to watch.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        vec![
            ("LD_PRELOAD".to_owned(), path(library().to_owned())),
            ("POWER_ROOT".to_owned(), path(self.dir.path().to_owned())),
            ("POWER_JOURNAL".to_owned(), path(self.journal())),
            ("POWER_CUT".to_owned(), path(self.outside.path().join("cut"))),
            ("POWER_SYNC_DELAY_US".to_owned(), SYNC_DELAY_US.to_string()),
        ]
    }

    /// The settings of a server to watch.
    pub(crate) fn watch(&self, settings: Settings) -> Settings {
        self.environment().iter().fold(settings, |settings, (name, value)| settings.env(name, value))
    }

    /// Where a process is told to kill itself.
    pub(crate) fn switch(&self) -> Switch {
        Switch(self.outside.path().join("cut"))
    }

    /// Takes in what processes that have ended did, and that the directory is what it has to be.
    pub(crate) fn ended(&mut self) {
        self.switch().kill_after(0);
        let bytes = std::fs::read(self.journal()).unwrap();
        File::create(self.journal()).unwrap();
        let journal = Journal::read(&bytes);
        journal.ops.iter().for_each(|op| self.disk.apply(op));
        let compared = match (self.disk.compare(self.dir.path()), journal.unfinished) {
            (Err(_), Some(op)) => self.finish(op),
            (compared, _) => compared,
        };
        if let Err(difference) = compared {
            panic!("something changed a file unseen: {difference}");
        }
    }

    /// The process ended within `op`, and it was done.
    fn finish(&mut self, op: Op) -> Result<(), String> {
        let op = match op {
            Op::Write { fd, offset, mut bytes } => {
                let before = usize::try_from(offset).unwrap();
                // Of a write that appends, as all large ones do, the length tells how much was done.
                if let Some(len) = self.written(fd)
                    && len > before
                {
                    bytes.truncate(len - before);
                }
                Op::Write { fd, offset, bytes }
            }
            op => op,
        };
        self.disk.apply(&op);
        self.disk.compare(self.dir.path())
    }

    /// The length of the file that was open as `fd`.
    fn written(&self, fd: i32) -> Option<usize> {
        let path = self.disk.path_of(fd)?;
        Some(usize::try_from(self.dir.path().join(path).metadata().ok()?.len()).unwrap())
    }

    /// The power goes, after all processes have ended: the directory is what a disk would have kept.
    pub(crate) fn cut(&mut self) {
        self.ended();
        self.disk = self.disk.cut(&mut self.random);
        self.disk.write_to(self.dir.path());
    }

    fn journal(&self) -> PathBuf {
        self.outside.path().join("journal")
    }
}

/// Tells a process that is watched when to kill itself.
#[derive(Debug, Clone)]
pub(crate) struct Switch(PathBuf);

impl Switch {
    /// Instead of its `operations`th operation from now on; 0: not at all.
    pub(crate) fn kill_after(&self, operations: u32) {
        let file = OpenOptions::new().write(true).open(&self.0).unwrap();
        file.write_all_at(&i64::from(operations).to_ne_bytes(), 0).unwrap();
    }

    /// How many operations are left.
    pub(crate) fn left(&self) -> u32 {
        let bytes = std::fs::read(&self.0).unwrap();
        u32::try_from(i64::from_ne_bytes(bytes.try_into().unwrap())).unwrap()
    }
}

/// `power.c`, built once for each test process.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/power/power.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("power-{}.so", std::process::id()));
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source).output();
        let built = built.expect("the power tests need a C compiler, cc");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        library
    })
}
