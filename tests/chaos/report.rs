//! What a run was and what became of it, in lines that docs/reliability.md takes its figures from.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::Verdict;
use super::faults::Fault;
use super::verdict::Verdicts;

/// What was done so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// How often, and the longest time in microseconds without an acknowledgement each time.
    faults: BTreeMap<Fault, Vec<u64>>,
    converged: u64,
}

impl Report {
    /// A fault was injected and mended.
    pub(crate) fn injected(&mut self, fault: Fault, pause: u64) {
        self.faults.entry(fault).or_default().push(pause);
    }

    /// All nodes were found in the same state.
    pub(crate) fn converged(&mut self) {
        self.converged += 1;
    }

    /// Prints all of it; false if a promise was broken, or never put to the test.
    pub(crate) fn print(&self, seed: u64, took: Duration, verdicts: &Verdicts) -> bool {
        println!("\n{:62} {:>6} {:>14} {:>14}", "fault", "times", "median pause", "longest pause");
        for fault in Fault::ALL {
            let mut pauses = self.faults.get(&fault).cloned().unwrap_or_default();
            pauses.sort_unstable();
            let told =
                |pause: Option<&u64>| pause.map_or_else(|| "-".to_owned(), |pause| format!("{} ms", pause / 1_000));
            let median = pauses.get(pauses.len() / 2);
            println!("{:62} {:>6} {:>14} {:>14}", fault.name(), pauses.len(), told(median), told(pauses.last()));
        }
        let count = |of: fn(Fault) -> u64| -> u64 {
            self.faults.iter().map(|(fault, times)| of(*fault) * times.len() as u64).sum()
        };
        println!("\n{:98} {:>10} {:>7}", "invariant", "evaluated", "broken");
        for Verdict { invariant, evaluated, broken } in &verdicts.invariants {
            println!("{invariant:98} {evaluated:>10} {:>7}", broken.len());
        }
        for verdict in &verdicts.invariants {
            verdict.broken.iter().for_each(|broken| println!("BROKEN {}: {broken}", verdict.invariant));
        }
        println!(
            "\nchaos: seed {seed}, {} s, {} faults, {} leader kills, {} records sent, {} acknowledged, {} there, {} read by \
             consumers, all nodes in the same state {} times, {} invariants evaluated {} times",
            took.as_secs(),
            count(|_| 1),
            count(Fault::leader_kills),
            verdicts.sent,
            verdicts.acknowledged,
            verdicts.there,
            verdicts.read,
            self.converged,
            verdicts.invariants.len(),
            verdicts.invariants.iter().map(|verdict| verdict.evaluated).sum::<u64>(),
        );
        let untried = verdicts.invariants.iter().filter(|verdict| verdict.evaluated == 0);
        untried.clone().for_each(|verdict| println!("UNTRIED {}", verdict.invariant));
        untried.count() == 0 && verdicts.invariants.iter().all(|verdict| verdict.broken.is_empty())
    }
}
