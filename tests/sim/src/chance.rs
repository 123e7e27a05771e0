//! Chance, all of it from the seed: also what the standard library and tokio ask the operating system for.
//!
//! `HashMap` iterates in the order of a random key, tokio wakes those that wait for one `watch` in a random order and
//! picks the branches of `select!` at random. All of that begins with `getrandom`, which this module puts its own
//! function in the place of. A thread that has called [`begin`] gets bytes made of its seed, every other thread those of
//! the kernel. The standard library asks once in the life of a thread, so that each run has a thread of its own.

use std::cell::Cell;

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on all randomness of this thread is made of `seed`.
pub fn begin(seed: u64) {
    STATE.set(Some(seed));
}

/// SplitMix64. Its state is a counter.
#[derive(Clone, Copy, Debug)]
pub struct Dice(u64);

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn fill(state: &mut u64, bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&next(state).to_le_bytes()[..chunk.len()]);
    }
}

impl Dice {
    /// The throws of one seed; another `purpose` gets others.
    #[must_use]
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut state = seed;
        let mixed = next(&mut state) ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93);
        Self(mixed)
    }

    /// 64 bits.
    pub fn word(&mut self) -> u64 {
        next(&mut self.0)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }

    /// A number in a range, its ends included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// True so many times in a thousand.
    pub fn per_mille(&mut self, times: u64) -> bool {
        self.below(1_000) < times
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        fill(&mut self.0, bytes);
    }
}

/// What libc calls so, for this program.
///
/// # Safety
///
/// `buffer` is valid for `length` bytes.
#[expect(
    unsafe_code,
    reason = "the standard library asks for randomness through this symbol of libc and no other way"
)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    if length == 0 {
        return 0;
    }
    // SAFETY: the caller hands over a buffer of this length, as libc's contract has it.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    let seeded = STATE.try_with(|state| {
        let mut seed = state.get()?;
        fill(&mut seed, bytes);
        state.set(Some(seed));
        Some(())
    });
    if let Ok(Some(())) = seeded {
        return isize::try_from(length).unwrap_or(-1);
    }
    match rustix::rand::getrandom(bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(filled) => isize::try_from(filled).unwrap_or(-1),
        Err(_) => -1,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    fn drawn(seed: Option<u64>) -> (u64, Vec<u64>, [u8; 16]) {
        let thread = std::thread::spawn(move || {
            if let Some(seed) = seed {
                begin(seed);
            }
            let mut bytes = [0; 16];
            rustix_free(&mut bytes);
            let order: HashSet<u64> = (0..50).collect();
            (RandomState::new().hash_one(7_u64), order.into_iter().collect(), bytes)
        });
        thread.join().unwrap()
    }

    /// As the client and the server ask for randomness.
    fn rustix_free(bytes: &mut [u8]) {
        vault_server::env::Env::real().entropy.fill(bytes);
    }

    #[test]
    fn a_seed_decides_all_randomness_of_its_thread_and_of_no_other() {
        assert_eq!(drawn(Some(1)), drawn(Some(1)));
        assert_ne!(drawn(Some(1)), drawn(Some(2)));
        assert_ne!(drawn(None), drawn(None));
    }
}
