//! Every bug of the engine's list is found within twenty seeds of the profile that is aimed at it, by the promise that it
//! breaks, and the same seeds without the bug keep all promises. With the feature `planted-bugs` only:
//! `cargo test -p sim --features planted-bugs --test planted -- --nocapture` prints what was found.
//!
//! For each bug the seed that has caught it goes first. The long form searches 300 seeds: `sim --bug NAME --until-caught`,
//! with `--profile mixed` if it is to be found without being aimed at.
#![cfg(feature = "planted-bugs")]

use std::fmt::Write as _;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sim::run::Report;
use tidelog::planted::Bug;

/// Seeds that are tried.
const SEEDS: u64 = 20;
/// A run that takes longer has found nothing.
const DEADLINE: Duration = Duration::from_secs(120);

/// A bug, the seed that has caught it, and what the promises that it breaks begin with: one of them has to be broken.
struct Case(&'static str, u64, &'static [&'static str]);

/// What was acknowledged is gone.
const LOST: &[&str] = &["AcknowledgedIsThere", "OneOffset", "ReadsStay", "Order"];

const CASES: &[Case] = &[
    Case("ack-before-sync", 2, LOST),
    Case("ack-on-one-of-three", 1, LOST),
    Case("skip-producers-on-restore", 1, &["ReplicasAgree", "Once", "SequencesAscend"]),
    // A log that begins behind its checkpoint is not taken for a whole one: the node does not start any more.
    Case("purge-past-checkpoint", 1, &["not converged"]),
    Case("stale-flush-accepted", 1, &["BucketIsWhole"]),
    Case("offset-at-propose", 1, &["OneOffset", "AcknowledgedIsThere"]),
    Case("wall-clock-in-apply", 1, &["ReplicasAgree"]),
    Case("stale-leader-read", 1, &["Monotonic"]),
    Case("collect-named", 1, &["BucketIsWhole", "AcknowledgedIsThere", "ObjectIsInTheBucket"]),
    Case("archive-drops-range", 1, &["BucketIsWhole", "AcknowledgedIsThere"]),
    Case("install-keeps-tail", 1, &["ReplicasAgree"]),
    // What was torn is replicated as an entry, and is no command or has a batch that is damaged: nodes end, or it is never flushed.
    Case(
        "torn-tail-accepted",
        1,
        &["what is there cannot be flushed", "fresh writes", "not converged", "AcknowledgedIsThere"],
    ),
    Case("late-flush-after-collection", 1, &["BucketIsWhole", "AcknowledgedIsThere", "ObjectIsInTheBucket"]),
    Case("stale-clean-checkpoint", 1, &["a bucket that was not closed", "AcknowledgedIsThere"]),
    Case("discarded-is-forwarded", 1, &["Once", "RefusedIsNotThere"]),
    Case("object-for-unflushed-duplicate", 1, &["ObjectIsInTheBucket"]),
    Case("clock-year-ahead", 1, &["LogTime", "Retention"]),
    Case("purge-without-keep", 1, &["not converged"]),
    Case("trim-during-flush-forgotten", 1, &["Monotonic", "ReadsStay"]),
    Case("archive-goes-with-log", 1, &["ArchiveRetention"]),
];

/// What came of a case.
struct Found {
    seed: Option<u64>,
    broken: String,
    others: Vec<String>,
    control: Vec<String>,
    took: Duration,
}

/// What else a failure has to say, so that a run is not taken for one that caught the bug because something else went wrong: here that
/// what a group which was torn had of an entry was read for one.
const SAYS: &[(&str, &[&str])] = &[("torn-tail-accepted", &["a log entry is not a command", "damaged", "checksum"])];

/// Runs a seed in a process of its own; `None` if it took too long.
fn run(arguments: &[&str], seed: u64) -> Option<Report> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(arguments)
        .args(["--seed", &seed.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let reading = thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text)
    });
    let begun = Instant::now();
    while !reading.is_finished() {
        if begun.elapsed() > DEADLINE {
            child.kill().unwrap();
        }
        thread::park_timeout(Duration::from_millis(20));
    }
    child.wait().unwrap();
    let text = reading.join().unwrap().unwrap();
    text.lines().filter_map(sim::report::read).next_back()
}

/// Whether the run broke one of the promises that the bug breaks.
fn broken<'a>(report: &'a Report, bug: &str, promises: &[&str]) -> Option<&'a str> {
    let says = SAYS.iter().find(|(of, _)| *of == bug).map_or(&[][..], |(_, says)| says);
    let of_bug = |failure: &&String| {
        promises.iter().any(|promise| failure.starts_with(promise))
            && (says.is_empty() || says.iter().any(|said| failure.contains(said)))
    };
    report.failures.iter().find(of_bug).map(String::as_str)
}

fn search(Case(bug, first, promises): &Case) -> Found {
    let begun = Instant::now();
    let (mut tried, mut others) = (Vec::new(), Vec::new());
    let mut found =
        Found { seed: None, broken: String::new(), others: Vec::new(), control: Vec::new(), took: Duration::ZERO };
    for seed in [*first].into_iter().chain((1..=SEEDS).filter(|seed| seed != first)).take(SEEDS as usize) {
        tried.push(seed);
        match run(&["--bug", bug], seed) {
            None => others.push(format!("seed {seed} took more than {} s", DEADLINE.as_secs())),
            Some(report) => {
                if let Some(failure) = broken(&report, bug, promises) {
                    (found.seed, found.broken) = (Some(seed), failure.to_owned());
                    break;
                }
                others.extend(report.failures.first().map(|failure| format!("seed {seed}: {failure}")));
            }
        }
    }
    for seed in tried {
        match run(&["--profile", bug], seed) {
            None => found.control.push(format!("seed {seed} took more than {} s", DEADLINE.as_secs())),
            Some(report) => {
                found.control.extend(report.failures.iter().map(|failure| format!("seed {seed}: {failure}")))
            }
        }
    }
    Found { others, took: begun.elapsed(), ..found }
}

fn table(found: &[(usize, Found)]) -> String {
    let mut table =
        String::from("| bug | caught at seed | promise that was broken | control | s |\n|---|---|---|---|---|\n");
    for (at, Found { seed, broken, control, took, .. }) in found {
        let seed = seed.map_or("not caught".to_owned(), |seed| seed.to_string());
        let broken: String = broken.chars().take(100).collect();
        let control = if control.is_empty() { "holds" } else { "BROKEN" };
        let _ = writeln!(table, "| {} | {seed} | {broken} | {control} | {} |", CASES[*at].0, took.as_secs());
    }
    table
}

#[test]
fn every_planted_bug_is_caught_and_its_control_holds() {
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = CASES.get(at) else { return };
                    let found = search(case);
                    all.lock().unwrap().push((at, found));
                }
            });
        }
    });
    let mut all = all.into_inner().unwrap();
    all.sort_by_key(|(at, _)| *at);
    println!("{}", table(&all));
    for (at, found) in &all {
        let (bug, others, control) = (CASES[*at].0, &found.others, &found.control);
        assert!(found.seed.is_some(), "{bug} is not caught; other failures: {others:#?}\n{}", table(&all));
        assert!(control.is_empty(), "the profile of {bug} fails without the bug: {control:#?}\n{}", table(&all));
    }
}

#[test]
fn every_bug_has_its_case() {
    let cases: Vec<&str> = CASES.iter().map(|case| case.0).collect();
    let bugs: Vec<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
    assert_eq!(cases, bugs);
}
