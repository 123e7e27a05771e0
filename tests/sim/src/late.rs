//! Beats that land late.
//!
//! A follower takes a leader for dead whose page has not changed for a while. What the leader sent before it died may
//! change the page after it, and looks like a sign of life to everybody: it gets the whole time anew, and appends go on
//! that much later.

use vault_tests::history::Event;

/// Counts the time in which appends must go on from the last late beat in it.
pub(crate) fn put_off(events: &mut [Event], late_beats: &[u64]) {
    for event in events {
        let Event::GoesOn { from_ms, within_ms, .. } = event else { continue };
        for beat in late_beats {
            if (*from_ms..=*from_ms + *within_ms).contains(beat) {
                *from_ms = *beat;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_beats_that_land_while_appends_are_waited_for_put_them_off() {
        let from = |late_beats: &[u64]| {
            let (stream, what) = ("s".to_owned(), "the leader died".to_owned());
            let mut events = [Event::GoesOn { stream, what, from_ms: 1_000, within_ms: 600 }];
            put_off(&mut events, late_beats);
            let [Event::GoesOn { from_ms, .. }] = events else { panic!("{events:?}") };
            from_ms
        };
        assert_eq!(from(&[]), 1_000);
        assert_eq!(from(&[900, 1_700]), 1_000);
        assert_eq!(from(&[900, 1_200, 1_700, 2_500]), 1_700);
    }
}
