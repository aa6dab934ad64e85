//! A local bucket that is taken away and brought back.

use std::path::PathBuf;

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// A bucket that is away: where its directory was is a file, so that nothing can be read, written or made there. It comes back
/// when this is dropped.
#[derive(Debug)]
pub(crate) struct Away {
    bucket: PathBuf,
    kept: PathBuf,
}

impl Away {
    /// Takes a bucket away, in one step.
    pub(crate) fn take(bucket: PathBuf) -> Self {
        let kept = bucket.with_file_name("bucket-away");
        std::fs::write(&kept, "").unwrap();
        let away = Self { bucket, kept };
        away.exchange();
        away
    }

    fn exchange(&self) {
        renameat_with(CWD, &self.bucket, CWD, &self.kept, RenameFlags::EXCHANGE).unwrap();
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        self.exchange();
        std::fs::remove_file(&self.kept).unwrap();
    }
}
