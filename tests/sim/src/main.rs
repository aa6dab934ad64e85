//! Runs seeds: each in a process of its own, since what a process counts for all its threads has to be the same for a seed
//! whatever ran before it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use clap::Parser;
use sim::profile::Profile;
use sim::run::{Report, run_alone};

/// Runs seeds of the simulation.
#[derive(Debug, Parser)]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 40)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Only this one, in this process.
    #[arg(long)]
    seed: Option<u64>,
    /// A bug to plant; needs the feature `planted-bugs`.
    #[arg(long)]
    bug: Option<String>,
    /// What the runs are like; that of the bug by default, else mixed.
    #[arg(long)]
    profile: Option<String>,
    /// Seeds beside each other.
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    /// Ends at the first seed that fails: with a bug planted, that is the one that catches it.
    #[arg(long)]
    until_caught: bool,
    /// Prints all that happens (of one seed).
    #[arg(long)]
    print: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let name = args.profile.clone().or_else(|| args.bug.clone()).unwrap_or_else(|| "mixed".to_owned());
    let Some(profile) = Profile::named(&name) else {
        eprintln!("there is no profile {name}; there are {}", Profile::names().join(", "));
        return ExitCode::from(2);
    };
    if let Some(bug) = &args.bug
        && !sim::bugs::exists(bug)
    {
        eprintln!("there is no bug {bug}, or this was built without the feature planted-bugs");
        return ExitCode::from(2);
    }
    match args.seed {
        Some(seed) => one(seed, &profile, &args),
        None => many(&args),
    }
}

/// Runs one seed here and prints what the parent reads.
fn one(seed: u64, profile: &Profile, args: &Args) -> ExitCode {
    sim::bugs::plan(args.bug.as_deref());
    std::panic::set_hook(Box::new({
        let print = args.print;
        move |panic| {
            if print {
                eprintln!("{panic}");
            }
        }
    }));
    let (report, took) = run_alone(seed, profile, args.print);
    println!("{}", sim::report::line(&report));
    if args.print {
        eprintln!("{report:#?}\n{took:?}");
    }
    if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs seeds in processes beside each other.
fn many(args: &Args) -> ExitCode {
    let begun = Instant::now();
    let next = Arc::new(AtomicU64::new(args.from));
    let reports: Arc<Mutex<BTreeMap<u64, Report>>> = Arc::default();
    let workers: Vec<_> = (0..args.jobs.max(1))
        .map(|_| {
            let (next, reports, own) = (Arc::clone(&next), Arc::clone(&reports), arguments(args));
            let (end, until_caught) = (args.from + args.seeds, args.until_caught);
            std::thread::spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let report = child(seed, &own);
                    let failed = !report.failures.is_empty();
                    if failed {
                        eprintln!("seed {seed} failed: sim --seed {seed} {}", own.join(" "));
                        report.failures.iter().for_each(|failure| eprintln!("    {failure}"));
                    }
                    reports.lock().unwrap_or_else(PoisonError::into_inner).insert(seed, report);
                    if failed && until_caught {
                        next.store(end, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        if worker.join().is_err() {
            return ExitCode::from(2);
        }
    }
    let reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
    let failed = sim::report::print(reports.values(), begun.elapsed());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a child is told besides its seed.
fn arguments(args: &Args) -> Vec<String> {
    let bug = args.bug.iter().flat_map(|bug| ["--bug".to_owned(), bug.clone()]);
    let profile = args.profile.iter().flat_map(|profile| ["--profile".to_owned(), profile.clone()]);
    bug.chain(profile).collect()
}

/// Runs a seed in a process of its own.
fn child(seed: u64, arguments: &[String]) -> Report {
    let failed = |why: String| Report { seed, failures: vec![why], ..Report::default() };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return failed(format!("this program is not found: {error}")),
    };
    let child = Command::new(program)
        .args(["--seed", &seed.to_string()])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return failed(format!("no process: {error}")),
    };
    let lines = child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(Result::ok);
    let report = lines.filter_map(|line| sim::report::read(&line)).last();
    match (child.wait(), report) {
        (_, Some(report)) => report,
        (status, None) => failed(format!("the process ended without a report: {status:?}")),
    }
}
