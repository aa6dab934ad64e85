//! Which fault comes next: all of them once in a random order, and so on. A leader is killed every few faults besides.

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::Fault;

/// After a fault the leader is killed with a probability of one in so many, once each fault has been.
const LEADER_TOO: u32 = 2;

/// The faults that are left of this turn.
#[derive(Debug)]
pub(crate) struct Schedule {
    faults: Vec<Fault>,
    left: Vec<Fault>,
    turns: u64,
    random: StdRng,
}

impl Schedule {
    /// Faults whose name has `part` in it.
    pub(crate) fn new(seed: u64, part: &str) -> Self {
        let faults: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| fault.name().contains(part)).collect();
        assert!(!faults.is_empty(), "no fault has {part:?} in its name");
        Self { faults, left: Vec::new(), turns: 0, random: StdRng::seed_from_u64(!seed) }
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> Fault {
        let leader = Fault::LeaderKilled;
        if self.turns > 1 && self.faults.contains(&leader) && self.random.random_ratio(1, LEADER_TOO) {
            return leader;
        }
        if self.left.is_empty() {
            self.left.clone_from(&self.faults);
            self.left.shuffle(&mut self.random);
            self.turns += 1;
        }
        self.left.pop().unwrap_or(leader)
    }
}
