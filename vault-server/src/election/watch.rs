//! What a follower makes of its looks at the leader's page. Pure: times are arguments.
//!
//! ```text
//!  look 1          look 2            look 9: sent 4 s after look 1 was answered, and the same ETag
//!  sent  answered
//!   |------|   |------|    ...   |------|  -> break the lease, if the blob is still in this state
//!          |<------- stale after ------>|
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use vault_format::leader::{InvalidLeaderPage, LeaderPage, LeaderState};

use crate::limits::{LOOK_EVERY, LOOK_GAP, RECENT_LOOKS, STALE_AFTER};
use crate::storage::ETag;

/// What one successful read of the page showed, with its times on the monotonic clock.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) sent: Duration,
    pub(crate) answered: Duration,
    pub(crate) etag: ETag,
    pub(crate) page: Result<LeaderPage, InvalidLeaderPage>,
}

/// What a follower should do now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Advice {
    /// The leader lives, or too little is known.
    Wait,
    /// The lease may be free: try to take it.
    Acquire,
    /// The leader has not been heard of for too long: break its lease if the blob is still in this state, and take it.
    Break(ETag),
}

/// Remembers since when the page has not changed, and how slow storage is.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    unchanged: Option<Unchanged>,
    /// How slow storage was of late.
    recent: VecDeque<Recent>,
}

/// Looks that were sent within [`LOOK_EVERY`]: where the leader is doubted there are several, and they must not push out of
/// memory what was slow a moment ago.
#[derive(Debug)]
struct Recent {
    sent: Duration,
    /// How long the slowest answer took.
    took: Duration,
}

#[derive(Debug)]
struct Unchanged {
    etag: ETag,
    /// When the first look that showed this state was answered.
    since: Duration,
    /// When the last one was.
    confirmed: Duration,
}

impl Watch {
    /// Takes a look into account.
    pub(crate) fn saw(&mut self, look: &Look) -> Advice {
        assert!(look.sent <= look.answered, "an answer comes after its question");
        let took = look.answered - look.sent;
        match self.recent.back_mut() {
            Some(recent) if look.sent < recent.sent + LOOK_EVERY => recent.took = recent.took.max(took),
            _ => self.recent.push_back(Recent { sent: look.sent, took }),
        }
        if self.recent.len() > RECENT_LOOKS {
            self.recent.pop_front();
        }
        let first = self.unchanged.is_none();
        match &mut self.unchanged {
            // After a longer time without an answer, storage may have been away for the leader as well: it gets the
            // time anew to show that it lives.
            Some(unchanged) if unchanged.etag == look.etag && look.sent <= unchanged.confirmed + LOOK_GAP => {
                unchanged.confirmed = look.answered;
                if look.sent >= unchanged.since + self.patience() {
                    return Advice::Break(look.etag.clone());
                }
            }
            unchanged => {
                let (since, confirmed) = (look.answered, look.answered);
                *unchanged = Some(Unchanged { etag: look.etag.clone(), since, confirmed });
            }
        }
        let leading = matches!(&look.page, Ok(page) if page.state == LeaderState::Leading);
        // A leader that died long ago has left a lease behind that ran out: one try tells.
        if first || !leading { Advice::Acquire } else { Advice::Wait }
    }

    /// How long a state may last before its leader is taken for dead.
    fn patience(&self) -> Duration {
        let slowest = self.recent.iter().map(|recent| recent.took).max().unwrap_or_default();
        STALE_AFTER.max(4 * slowest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vault_format::ids::Term;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn page(state: LeaderState) -> Result<LeaderPage, InvalidLeaderPage> {
        Ok(LeaderPage {
            state,
            term: Term(1),
            beat: 1,
            changes: 0,
            deleting: false,
            endpoint: "http://a".to_owned(),
        })
    }

    fn look(sent_ms: u32, took_ms: u32, etag: &str) -> Look {
        let (sent, etag) = (sent_ms * MS, ETag(etag.to_owned()));
        Look { sent, answered: sent + took_ms * MS, etag, page: page(LeaderState::Leading) }
    }

    /// The time of the look that advised to break, for looks every 500 ms.
    fn breaks_at(took_ms: u32, until_ms: u32, etag: impl Fn(u32) -> String) -> Option<u32> {
        let mut watch = Watch::default();
        (0..until_ms)
            .step_by(usize::try_from(500 + took_ms).unwrap())
            .find(|at| matches!(watch.saw(&look(*at, took_ms, &etag(*at))), Advice::Break(_)))
    }

    #[test]
    fn a_leader_that_beats_is_left_alone() {
        assert_eq!(breaks_at(5, 60_000, |at| (at / 1_000).to_string()), None);
    }

    #[test]
    fn a_leader_that_is_silent_for_four_seconds_is_deposed() {
        let at = breaks_at(5, 60_000, |_| "same".to_owned()).unwrap();
        assert!((4_005..5_000).contains(&at), "{at}");
    }

    #[test]
    fn where_storage_is_slow_a_leader_has_longer() {
        let at = breaks_at(1_500, 60_000, |_| "same".to_owned()).unwrap();
        assert!((7_500..11_000).contains(&at), "{at}");
    }

    #[test]
    fn looks_that_follow_each_other_soon_do_not_push_out_what_was_slow() {
        let mut watch = Watch::default();
        watch.saw(&look(0, 5, "same"));
        watch.saw(&look(500, 1_500, "same"));
        for at in (2_000..5_500).step_by(100) {
            assert_eq!(watch.saw(&look(at, 5, "same")), Advice::Wait, "{at}");
        }
    }

    #[test]
    fn a_time_without_answers_does_not_count() {
        let mut watch = Watch::default();
        watch.saw(&look(0, 5, "same"));
        assert_eq!(watch.saw(&look(30_000, 5, "same")), Advice::Wait);
        for at in (30_500..34_005).step_by(500) {
            assert_eq!(watch.saw(&look(at, 5, "same")), Advice::Wait, "{at}");
        }
        assert_eq!(watch.saw(&look(34_005, 5, "same")), Advice::Break(ETag("same".to_owned())));
    }

    #[test]
    fn a_lease_that_may_be_free_is_tried_at_once() {
        let mut watch = Watch::default();
        assert_eq!(watch.saw(&look(0, 5, "a")), Advice::Acquire, "nothing is known of it yet");
        assert_eq!(watch.saw(&look(500, 5, "b")), Advice::Wait);
        for free in [page(LeaderState::Free), Err(InvalidLeaderPage::Blank), Err(InvalidLeaderPage::Damaged)]
        {
            assert_eq!(watch.saw(&Look { page: free, ..look(1_000, 5, "c") }), Advice::Acquire);
        }
    }

    proptest! {
        /// Whatever the delays: who is deposed was silent for as long as it may be.
        #[test]
        fn nobody_is_deposed_who_showed_life(
            looks in prop::collection::vec((0..3_000u32, 0..3_000u32, 0..8u8), 1..60),
        ) {
            let mut watch = Watch::default();
            let mut now = 0;
            let mut last_change = None;
            let mut etag = 0u32;
            for (wait, took, change) in looks {
                now += wait;
                let changed = last_change.is_none() || change == 0;
                if changed {
                    etag += 1;
                    last_change = Some(now + took);
                }
                let advice = watch.saw(&look(now, took, &etag.to_string()));
                if matches!(advice, Advice::Break(_)) {
                    let since = last_change.unwrap_or_default();
                    prop_assert!(now >= since + 4_000 && now >= since + 4 * took);
                }
                now += took;
            }
        }
    }
}
