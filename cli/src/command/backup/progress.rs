//! A bar on standard error while objects are copied, if that is a terminal.

use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tidelog::backup::pace::Progress;

const REDRAW: Duration = Duration::from_millis(125);

/// Runs `work` to its end and shows how far it is.
pub(super) async fn shown<T>(quiet: bool, work: impl AsyncFnOnce(&Progress) -> T) -> T {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(0), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}  {elapsed} elapsed, {eta} left") {
        bar.set_style(style);
    }
    let progress = Progress::default();
    let mut work = std::pin::pin!(work(&progress));
    let mut ticks = tokio::time::interval(REDRAW);
    let result = loop {
        tokio::select! {
            biased;
            result = &mut work => break result,
            _ = ticks.tick() => draw(&bar, &progress),
        }
    };
    bar.finish_and_clear();
    result
}

fn draw(bar: &ProgressBar, progress: &Progress) {
    let (known, done, copied) = (progress.known(), progress.done(), progress.copied());
    bar.set_length(known.bytes);
    bar.set_position(done.bytes);
    let objects = format!("{} of {} objects", done.objects, known.objects);
    bar.set_message(format!("{objects}, {} copied", HumanBytes(copied.bytes)));
}
