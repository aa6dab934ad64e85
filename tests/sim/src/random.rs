//! The numbers that a seed decides: SplitMix64, which needs no state but a counter and is the same on every machine.
//!
//! Not for secrets. A part of the simulation that draws a varying number of numbers gets a generator of its own
//! ([`Rng::fork`]), so that it does not shift what the others draw.

use std::ops::Range;

/// A generator; the same seed gives the same numbers.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The generator of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Self(seed ^ 0x5DEE_CE66_D1CE_4E5B);
        rng.next();
        rng
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`, which is above 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below 0");
        // The bias of the remainder is below 2^-40 for all that is drawn here.
        self.next() % bound
    }

    /// A number of `range`, which is not empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    /// Whether something happens that does so `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// One of `items`, which is not empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// The items in another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// A generator of its own for what `label` names.
    #[must_use]
    pub fn fork(&self, label: &str) -> Self {
        Self::new(self.0 ^ xxhash_rust::xxh3::xxh3_64(label.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_another_one_gives_others() {
        let numbers = |seed| {
            let mut rng = Rng::new(seed);
            std::array::from_fn::<u64, 8, _>(|_| rng.next())
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }

    #[test]
    fn a_fork_is_the_same_however_much_was_drawn_from_another_fork() {
        let rng = Rng::new(1);
        let mut other = rng.fork("b");
        let first = rng.fork("a").next();
        other.next();
        assert_eq!(rng.fork("a").next(), first);
        assert_ne!(rng.fork("b").next(), first);
    }

    #[test]
    fn bounds_hold_and_a_shuffle_keeps_all() {
        let mut rng = Rng::new(3);
        assert!((0..1000).all(|_| (5..9).contains(&rng.within(5..9))));
        let mut items: Vec<u32> = (0..50).collect();
        rng.shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
        assert!(!rng.chance(0) && rng.chance(1000));
    }
}
