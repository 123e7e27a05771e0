//! Throws that a seed decides.

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

    /// The throws that follow on this state.
    #[must_use]
    pub fn from_state(state: u64) -> Self {
        Self(state)
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

    /// The number of one of so many things.
    pub fn index(&mut self, of: usize) -> usize {
        usize::try_from(self.below(of as u64)).expect("it is less than a usize")
    }

    /// True so many times in a thousand.
    pub fn per_mille(&mut self, times: u64) -> bool {
        self.below(1_000) < times
    }

    /// Puts things in another order, each order as likely as any other.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.index(last + 1));
        }
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        fill(&mut self.0, bytes);
    }
}
