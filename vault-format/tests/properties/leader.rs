//! The leader's page.

use proptest::prelude::*;
use vault_format::ids::Term;
use vault_format::leader::{InvalidLeaderPage, LeaderPage, LeaderState};
use vault_format::limits::{LEADER_PAGE_BYTES, MAX_ENDPOINT_BYTES};

prop_compose! {
    fn pages()(
        leading in any::<bool>(),
        term in 0..Term::UNUSED.0,
        deleting in any::<bool>(),
        beat in any::<u64>(),
        changes in any::<u64>(),
        endpoint in "\\PC{0,100}",
    ) -> LeaderPage {
        let state = if leading { LeaderState::Leading } else { LeaderState::Free };
        LeaderPage { state, term: Term(term), beat, changes, deleting, endpoint }
    }
}

proptest! {
    #[test]
    fn round_trip(page in pages()) {
        prop_assert_eq!(LeaderPage::decode(&page.encode()), Ok(page));
    }

    #[test]
    fn no_flipped_bit_passes(page in pages(), at in 0..LEADER_PAGE_BYTES, bit in 0..8u32) {
        let mut bytes = page.encode();
        bytes[at] ^= 1u8 << bit;
        prop_assert_eq!(LeaderPage::decode(&bytes), Err(InvalidLeaderPage::Damaged));
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..1024)) {
        prop_assert!(LeaderPage::decode(&bytes).is_err());
    }
}

#[test]
fn the_longest_endpoint_fits() {
    let endpoint = "e".repeat(MAX_ENDPOINT_BYTES);
    let page = LeaderPage {
        state: LeaderState::Free,
        term: Term(1),
        beat: 0,
        changes: 0,
        deleting: false,
        endpoint,
    };
    assert_eq!(LeaderPage::decode(&page.encode()), Ok(page));
}

#[test]
fn a_blank_page_and_a_later_version_are_told_apart_from_damage() {
    assert_eq!(LeaderPage::decode(&[0; LEADER_PAGE_BYTES]), Err(InvalidLeaderPage::Blank));
    let page = LeaderPage {
        state: LeaderState::Free,
        term: Term(1),
        beat: 0,
        changes: 0,
        deleting: false,
        endpoint: String::new(),
    };
    let mut bytes = page.encode();
    bytes[4] = 2;
    assert_eq!(LeaderPage::decode(&bytes), Err(InvalidLeaderPage::Damaged));
    let checksum = crc32c::crc32c(&bytes[..LEADER_PAGE_BYTES - 4]).to_le_bytes();
    bytes[LEADER_PAGE_BYTES - 4..].copy_from_slice(&checksum);
    assert_eq!(LeaderPage::decode(&bytes), Err(InvalidLeaderPage::TooNew(2)));
}

/// No leader has had it, and the next one could not rise above it.
#[test]
fn a_page_whose_term_is_above_every_term_says_nothing() {
    let page = |term| LeaderPage {
        state: LeaderState::Leading,
        term,
        beat: 1,
        changes: 0,
        deleting: false,
        endpoint: String::new(),
    };
    let last = page(Term(Term::UNUSED.0 - 1));
    assert_eq!(LeaderPage::decode(&last.encode()), Ok(last));
    for above in [Term::UNUSED, Term(u64::MAX)] {
        assert_eq!(LeaderPage::decode(&page(above).encode()), Err(InvalidLeaderPage::Damaged), "{above}");
    }
}
