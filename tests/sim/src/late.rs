//! Beats that land late.
//!
//! A follower takes a leader for dead whose page has not changed for a while. What the leader sent before it died may
//! change the page after it, and looks like a sign of life to everybody: it gets the whole time anew, and appends go on
//! that much later.

use vault_tests::history::Event;

/// Counts the time in which appends must go on from the last late beat in it. Until when they must stays as it is as long
/// as it can: behind it clients may come to their end.
pub(crate) fn put_off(events: &mut [Event], late_beats: &[u64]) {
    for event in events {
        let Event::GoesOn { from_ms, until_ms, within_ms, .. } = event else { continue };
        for beat in late_beats {
            if (*from_ms..=*from_ms + *within_ms).contains(beat) {
                *from_ms = *beat;
            }
        }
        *until_ms = (*until_ms).max(*from_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From when and until when appends must go on that had to from 1,000 to 1,500 ms.
    fn put_off_by(late_beats: &[u64]) -> (u64, u64) {
        let (stream, what) = ("s".to_owned(), "the leader died".to_owned());
        let mut events = [Event::GoesOn { stream, what, from_ms: 1_000, until_ms: 1_500, within_ms: 600 }];
        put_off(&mut events, late_beats);
        let [Event::GoesOn { from_ms, until_ms, .. }] = events else { panic!("{events:?}") };
        (from_ms, until_ms)
    }

    #[test]
    fn only_beats_that_land_while_appends_are_waited_for_put_them_off() {
        assert_eq!(put_off_by(&[]), (1_000, 1_500));
        assert_eq!(put_off_by(&[900, 1_700]), (1_000, 1_500));
        assert_eq!(put_off_by(&[900, 1_200, 1_700, 2_500]).0, 1_700);
    }

    #[test]
    fn until_when_appends_must_go_on_is_not_before_they_must() {
        assert_eq!(put_off_by(&[1_200]), (1_200, 1_500));
        assert_eq!(put_off_by(&[1_200, 1_700]), (1_700, 1_700));
    }
}
