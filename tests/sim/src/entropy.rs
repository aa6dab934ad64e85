//! The randomness of the operating system, answered from the seed within a simulation's thread.
//!
//! Hash maps, UUIDs, tokio's choice among ready branches, jitter and election timeouts all begin with the C library's
//! `getrandom`. A program may define that function itself, which is what this module does: in a thread that called [`enter`] it
//! answers from the seed, in every other it asks the kernel. So the engine is not changed for the simulation, and whatever a
//! library draws is the seed's too.
//!
//! Generators that a thread keeps (of hash maps, of `rand`) are seeded once: a simulation begins in a thread of its own, with
//! [`enter`] before anything else. What a process counts or seeds for all threads (tokio numbers its runtimes) is the same
//! only in a process of its own, which is why the binary starts itself for each seed.

#![allow(unsafe_code, reason = "the C library's function is answered, which takes a pointer")]

use std::cell::RefCell;
use std::ffi::{c_uint, c_void};

use crate::random::Rng;

thread_local! {
    static SEEDED: RefCell<Option<Rng>> = const { RefCell::new(None) };
}

/// From now on this thread draws from `seed` whatever it asks the operating system for.
pub fn enter(seed: u64) {
    SEEDED.with(|seeded| *seeded.borrow_mut() = Some(Rng::new(seed).fork("entropy")));
}

/// Runs `work` in a thread of its own whose randomness is the seed's, and returns what it returned.
///
/// # Panics
/// If `work` does.
pub fn in_thread<T: Send + 'static>(seed: u64, work: impl FnOnce() -> T + Send + 'static) -> std::thread::Result<T> {
    // The engine's futures are deep in an unoptimised build.
    let builder = std::thread::Builder::new().name(format!("seed-{seed}")).stack_size(64 << 20);
    let thread = builder.spawn(move || {
        enter(seed);
        work()
    });
    match thread {
        Ok(thread) => thread.join(),
        Err(error) => panic!("no thread for seed {seed}: {error}"),
    }
}

/// Fills `buffer` from the seed; false if this thread has none.
fn fill(buffer: &mut [u8]) -> bool {
    let filled = SEEDED.try_with(|seeded| {
        let mut seeded = seeded.try_borrow_mut().ok()?;
        let rng = seeded.as_mut()?;
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&rng.next().to_le_bytes()[..chunk.len()]);
        }
        Some(())
    });
    matches!(filled, Ok(Some(())))
}

/// As the C library's: fills `length` bytes at `buffer` and returns how many.
///
/// # Safety
/// As there: `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    if buffer.is_null() || length == 0 {
        return 0;
    }
    // SAFETY: the caller promises that so many bytes may be written there; they are set before they are read.
    let bytes = unsafe {
        std::ptr::write_bytes(buffer.cast::<u8>(), 0, length);
        std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length)
    };
    if !fill(bytes) {
        // By a system call of its own, not by the function that this one stands for.
        let mut filled = 0;
        while filled < length {
            match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return -1,
            }
        }
    }
    length.cast_signed()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// What each source of randomness says in a new thread.
    fn drawn() -> (Vec<u32>, u64, uuid::Uuid) {
        let map: HashMap<u32, ()> = (0..100).map(|key| (key, ())).collect();
        (map.into_keys().collect(), rand::random(), uuid::Uuid::new_v4())
    }

    #[test]
    fn every_source_of_randomness_is_the_seeds() {
        let of = |seed| in_thread(seed, drawn).unwrap();
        let (first, second, other) = (of(1), of(1), of(2));
        assert_eq!(first, second);
        assert!(first.0 != other.0 && first.1 != other.1 && first.2 != other.2);
    }

    #[test]
    fn other_threads_have_the_systems() {
        let (first, second) = (std::thread::spawn(drawn).join().unwrap(), std::thread::spawn(drawn).join().unwrap());
        assert_ne!(first.1, second.1);
        assert_ne!(first.2, second.2);
    }
}
