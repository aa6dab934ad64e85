//! Programs of measured lines: what they are told, and what they print: a line for each figure, with what it is held against.

use clap::{Parser, ValueEnum};

/// Measures on this machine; exits 101 if a target is missed.
#[derive(Debug, Parser)]
struct Arguments<L: ValueEnum + Send + Sync + 'static> {
    /// What is measured [default: all]
    #[arg(value_enum)]
    lines: Vec<L>,
    /// A factor for durations, sizes and repetitions; figures are kept only of 1
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
}

/// The lines that the arguments of this process ask for, in their order, and a table for them.
pub(crate) fn asked_for<L: ValueEnum + Send + Sync + 'static>() -> (Vec<L>, Table) {
    let Arguments { lines, scale } = Arguments::<L>::parse();
    (if lines.is_empty() { L::value_variants().to_vec() } else { lines }, Table::new(scale))
}

/// The lines so far.
#[derive(Debug)]
pub(crate) struct Table {
    scale: f64,
    missed: bool,
}

/// What a ratio has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// It is only told.
    None,
}

impl Table {
    /// An empty one for a run of this scale.
    fn new(scale: f64) -> Self {
        println!("{:10} {:66} {:56} {:>8}  target", "line", "measured", "beside it", "ratio");
        Self { scale, missed: false }
    }

    /// A factor for durations and sizes.
    pub(crate) fn scale(&self) -> f64 {
        self.scale
    }

    /// So many of something, at the scale of the run; at least one.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
    pub(crate) fn scaled(&self, count: u64) -> u64 {
        ((count as f64 * self.scale).round() as u64).max(1)
    }

    /// Prints a line.
    pub(crate) fn line(&mut self, line: &str, measured: &str, beside: &str, (ratio, target): (f64, Target)) {
        let (told, holds) = match target {
            Target::AtMost(most) => (format!("<= {most}"), ratio <= most),
            Target::AtLeast(least) => (format!(">= {least}"), ratio >= least),
            Target::None => (String::new(), true),
        };
        let verdict = match (target, holds) {
            (Target::None, _) => "reported",
            (_, true) => "ok",
            (_, false) => "MISSED",
        };
        self.missed |= !holds;
        let ratio = if ratio.is_finite() { format!("{ratio:.2}") } else { "-".to_owned() };
        println!("{line:10} {measured:66} {beside:56} {ratio:>8}  {told:8} {verdict}");
    }

    /// Prints a line of something that is only told.
    pub(crate) fn told(&mut self, line: &str, measured: &str, beside: &str) {
        self.line(line, measured, beside, (f64::NAN, Target::None));
    }

    /// Notes that a target was missed that somebody else told of.
    pub(crate) fn miss(&mut self) {
        self.missed = true;
    }

    /// Whether a target was missed.
    pub(crate) fn missed(&self) -> bool {
        self.missed
    }
}
