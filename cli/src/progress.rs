//! A bar for commands that go over many bytes. It is on standard error and only if that is a terminal: scripts see nothing
//! of it, and what a command prints on standard output stays clean.
//!
//! The one who works calls [`Bar::show`] as often as it likes, from any thread; drawing is bounded by indicatif.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const REDRAWS_PER_SECOND: u8 = 8;
const UNKNOWN: &str = "{spinner} {msg}  {elapsed} elapsed";
const KNOWN: &str =
    "{bar:30} {percent:>3}%  {msg}  {binary_bytes}/{binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";

/// A bar; it is removed when it is dropped.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar that knows no total yet; `quiet`: none even on a terminal.
    pub(crate) fn new(quiet: bool) -> Self {
        let target =
            if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND) };
        let bar = ProgressBar::with_draw_target(None, target);
        set_template(&bar, UNKNOWN);
        Self(bar)
    }

    /// Shows how much is done: bytes of a total, which may grow (0: not known yet), and in words what it is at.
    pub(crate) fn show(&self, bytes: u64, total: u64, what: impl Into<String>) {
        if total > 0 && self.0.length() != Some(total) {
            if self.0.length().is_none() {
                set_template(&self.0, KNOWN);
                // The time before the total was known says nothing of the speed.
                self.0.reset_eta();
            }
            self.0.set_length(total);
        }
        self.0.set_message(what.into());
        self.0.set_position(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn set_template(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_valid_and_totals_may_come_late_and_grow() {
        for template in [UNKNOWN, KNOWN] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
        let bar = Bar::new(true);
        bar.show(0, 0, "listing");
        assert_eq!((bar.0.length(), bar.0.position()), (None, 0));
        bar.show(5, 10, "segments");
        bar.show(12, 20, "segments");
        assert_eq!((bar.0.length(), bar.0.position(), bar.0.message()), (Some(20), 12, "segments".to_owned()));
    }
}
