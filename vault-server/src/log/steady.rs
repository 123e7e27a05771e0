//! The time that retention goes by, and the time that messages are stamped with. Pure.
//!
//! A wall clock that jumps ahead would make every message look old, and what is deleted does not come back. Stamped on one
//! message, it would make the stream forget its producers, and hold all timestamps up until that time has come. So time
//! that has jumped ahead against the monotonic clock counts only after it has stood for an hour; until then time goes on
//! as the monotonic clock does. A jump backwards counts at once: it only keeps messages longer, and timestamps do not fall.
//!
//! A machine that was asleep looks like one whose clock has jumped ahead. What a jump is, each of the two clocks has a
//! tolerance of its own for: retention can wait for an hour, timestamps should be right after a night's sleep.
//!
//! What a server that has just started finds is believed: there is nothing to hold it against. Messages that were
//! appended while the clock was ahead carry such times, and are kept until they are old by the right time.

use std::time::Duration;

use vault_format::ids::Timestamp;

use crate::limits::CLOCK_JUMP_STANDS;

/// A wall clock that does not jump ahead. Monotonic times are of one clock.
#[derive(Clone, Debug)]
pub(crate) struct SteadyClock {
    /// What is ahead by no more than this is believed at once.
    tolerance: Duration,
    /// The wall time that was last believed, and when that was.
    wall: Timestamp,
    at: Duration,
    ahead: Option<Ahead>,
}

/// A jump that is not believed yet.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    by_ms: u64,
    since: Duration,
}

impl SteadyClock {
    /// Believes what the clocks show first.
    pub(crate) fn new(tolerance: Duration, wall: Timestamp, monotonic: Duration) -> Self {
        Self { tolerance, wall, at: monotonic, ahead: None }
    }

    /// The time, given what the clocks show now.
    pub(crate) fn now(&mut self, wall: Timestamp, monotonic: Duration) -> Timestamp {
        let jump_ms = u64::try_from(self.tolerance.as_millis()).unwrap_or(u64::MAX);
        let passed = u64::try_from(monotonic.saturating_sub(self.at).as_millis()).unwrap_or(u64::MAX);
        let expected = Timestamp(self.wall.0.saturating_add(passed));
        let by_ms = wall.0.saturating_sub(expected.0);
        if by_ms > jump_ms {
            // A jump that goes on is another one.
            let same = self.ahead.filter(|ahead| by_ms.abs_diff(ahead.by_ms) <= jump_ms);
            let ahead = same.unwrap_or(Ahead { by_ms, since: monotonic });
            if monotonic.saturating_sub(ahead.since) < CLOCK_JUMP_STANDS {
                self.ahead = Some(ahead);
                return expected;
            }
        }
        *self = Self::new(self.tolerance, wall, monotonic);
        wall
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{CLOCK_JUMP, STAMPING_CLOCK_JUMP};

    const START: u64 = 1_700_000_000_000;
    const HOUR: u64 = 3_600_000;
    const YEAR: u64 = 365 * 24 * HOUR;

    /// A clock that has begun at `START`, and what it shows when the wall clock and the monotonic one are so far on.
    struct Case(SteadyClock);

    impl Case {
        fn tolerating(tolerance: Duration) -> Self {
            Self(SteadyClock::new(tolerance, Timestamp(START), Duration::ZERO))
        }

        fn new() -> Self {
            Self::tolerating(CLOCK_JUMP)
        }

        fn shows(&mut self, wall: u64, monotonic: u64) -> i64 {
            let shown = self.0.now(Timestamp(START + wall), Duration::from_millis(monotonic));
            i64::try_from(shown.0).unwrap() - i64::try_from(START).unwrap()
        }
    }

    #[test]
    fn small_steps_are_followed() {
        let mut clock = Case::new();
        assert_eq!(clock.shows(1_000, 1_000), 1_000);
        assert_eq!(clock.shows(61_000, 2_000), 61_000);
        assert_eq!(clock.shows(YEAR, YEAR), i64::try_from(YEAR).unwrap(), "nobody need look all the time");
    }

    #[test]
    fn a_jump_ahead_counts_after_an_hour() {
        let mut clock = Case::new();
        assert_eq!(clock.shows(YEAR, 1_000), 1_000);
        assert_eq!(clock.shows(YEAR + HOUR - 1, HOUR + 999), i64::try_from(HOUR).unwrap() + 999);
        assert_eq!(clock.shows(YEAR + HOUR, HOUR + 1_000), i64::try_from(YEAR + HOUR).unwrap());
    }

    #[test]
    fn a_jump_that_is_taken_back_or_goes_on_begins_its_hour_anew() {
        let mut clock = Case::new();
        assert_eq!(clock.shows(YEAR, 1_000), 1_000);
        assert_eq!(clock.shows(2_000, 2_000), 2_000);
        assert_eq!(clock.shows(YEAR, HOUR + 3_000), i64::try_from(HOUR).unwrap() + 3_000);
        // And another year ahead half an hour later.
        let later = HOUR + HOUR / 2 + 3_000;
        assert_eq!(clock.shows(2 * YEAR, later), i64::try_from(later).unwrap());
        assert!(clock.shows(2 * YEAR + HOUR - 1, later + HOUR - 1) < i64::try_from(YEAR).unwrap());
        assert!(clock.shows(2 * YEAR + HOUR, later + HOUR) >= i64::try_from(YEAR).unwrap());
    }

    #[test]
    fn what_is_tolerated_is_believed_at_once() {
        let night = 12 * HOUR;
        let mut clock = Case::tolerating(STAMPING_CLOCK_JUMP);
        assert_eq!(clock.shows(8 * HOUR, 1_000), i64::try_from(8 * HOUR).unwrap());
        assert_eq!(clock.shows(8 * HOUR + night, 1_000), i64::try_from(8 * HOUR + night).unwrap());
        let more = 8 * HOUR + 2 * night + 1;
        assert_eq!(clock.shows(more, 1_000), i64::try_from(8 * HOUR + night).unwrap());
    }

    #[test]
    fn a_jump_backwards_counts_at_once() {
        let mut clock = Case(SteadyClock::new(CLOCK_JUMP, Timestamp(START + YEAR), Duration::ZERO));
        assert_eq!(clock.shows(0, 1_000), 0);
        assert_eq!(clock.shows(YEAR, 2_000), 1_000, "and the way back is a jump ahead");
    }
}
