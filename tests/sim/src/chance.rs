//! Chance, all of it from the seed: also what the standard library and tokio ask the operating system for.
//!
//! `HashMap` iterates in the order of a random key, tokio wakes those that wait for one `watch` in a random order and
//! picks the branches of `select!` at random. All of that begins with `getrandom`, which this module puts its own
//! function in the place of. A thread that has called [`begin`] gets bytes made of its seed, every other thread those of
//! the kernel. The standard library asks once in the life of a thread, so that each run has a thread of its own.

use std::cell::Cell;

pub use vault_tests::chance::Dice;

thread_local! {
    static STATE: Cell<Option<Dice>> = const { Cell::new(None) };
}

/// From now on all randomness of this thread is made of `seed`.
pub fn begin(seed: u64) {
    STATE.set(Some(Dice::from_state(seed)));
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
        let mut dice = state.get()?;
        dice.fill(bytes);
        state.set(Some(dice));
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
