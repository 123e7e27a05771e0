//! The protocol keeps its promises in every order of events; without any one of its rules it does not.

use vault_model::bounds::Bounds;
use vault_model::check::check;
use vault_model::mutation::Mutation;
use vault_model::promises::{I1, I2, I3, I4, I5, I7, NO_FALSE_ALARM, TERMS};
use vault_model::state::Protocol;

#[track_caller]
fn keeps(bounds: Bounds) {
    let outcome = check(Protocol { bounds, mutation: None }, None);
    if let Some((promise, trace)) = outcome.broken.first_key_value() {
        panic!("{}: broken: {promise}\n{trace}", bounds.name);
    }
    assert!(outcome.never.is_empty(), "{}: never: {:?}", bounds.name, outcome.never);
}

#[track_caller]
fn breaks(bounds: Bounds, mutation: Mutation, promise: &'static str) {
    let outcome = check(Protocol { bounds, mutation: Some(mutation) }, Some(promise));
    let broken: Vec<_> = outcome.broken.keys().collect();
    assert!(outcome.broken.contains_key(promise), "{mutation:?}, {}: only {broken:?}", bounds.name);
}

#[test]
fn appends_that_are_lost_and_late_keep_the_promises() {
    keeps(Bounds::APPENDING);
}

#[test]
fn three_leaders_one_after_the_other_keep_the_promises() {
    keeps(Bounds::TAKEOVERS);
}

#[test]
fn torn_puts_keep_the_promises() {
    keeps(Bounds::TORN);
}

#[test]
fn segments_that_roll_over_keep_the_promises() {
    keeps(Bounds::SEGMENTS);
}

#[test]
fn reads_keep_the_promises() {
    keeps(Bounds::READS);
}

#[test]
fn retention_keeps_the_promises() {
    keeps(Bounds::RETENTION);
}

#[test]
fn segments_that_are_made_late_count_for_nobody() {
    keeps(Bounds::LATE);
}

#[test]
fn claims_and_segments_that_come_twice_keep_the_promises() {
    keeps(Bounds::TWICE);
}

#[test]
fn a_leftover_that_is_written_to_is_kept() {
    keeps(Bounds::LEFTOVERS);
}

#[test]
fn damage_is_told_from_the_tail() {
    keeps(Bounds::DAMAGE);
}

#[test]
fn every_rule_is_needed() {
    let needed = [
        (Bounds::APPENDING, Mutation::NoFence, I4),
        (Bounds::APPENDING, Mutation::NoFence, I2),
        (Bounds::APPENDING, Mutation::ScanBeforeClaim, I1),
        (Bounds::APPENDING, Mutation::OtherContent, I1),
        (Bounds::APPENDING, Mutation::AcknowledgeUnstored, I1),
        (Bounds::APPENDING, Mutation::AcknowledgeUnstored, I2),
        (Bounds::APPENDING, Mutation::AcknowledgeOutOfOrder, I1),
        (Bounds::TAKEOVERS, Mutation::NoClearNoFenceOrder, I3),
        (Bounds::APPENDING, Mutation::ClearAgain, I1),
        (Bounds::APPENDING, Mutation::UnansweredTerm, TERMS),
        (Bounds::APPENDING, Mutation::UnconditionalTerm, TERMS),
        (Bounds::APPENDING, Mutation::RefuseUnknown, I5),
        (Bounds::TORN, Mutation::NoChecksum, I3),
        (Bounds::READS, Mutation::StrongFromMemory, I3),
        (Bounds::SEGMENTS, Mutation::NoSeal, I1),
        (Bounds::SEGMENTS, Mutation::EarlyRollOver, NO_FALSE_ALARM),
        (Bounds::SEGMENTS, Mutation::ClaimUnproven, I4),
        (Bounds::RETENTION, Mutation::NoGuardOfOldest, I4),
        (Bounds::RETENTION, Mutation::DeleteUnproven, NO_FALSE_ALARM),
        (Bounds::RETENTION, Mutation::DeleteWithoutFoothold, NO_FALSE_ALARM),
        (Bounds::RETENTION, Mutation::DeleteUnrecorded, NO_FALSE_ALARM),
        (Bounds::RETENTION, Mutation::MadeAsUsed, NO_FALSE_ALARM),
        (Bounds::LATE, Mutation::MadeAsUsed, I3),
        (Bounds::RETENTION, Mutation::ClaimUnproven, NO_FALSE_ALARM),
        (Bounds::TWICE, Mutation::ClaimBlindly, I1),
        (Bounds::TWICE, Mutation::ClaimBlindly, I4),
        (Bounds::RETENTION, Mutation::MadeAsLowest, NO_FALSE_ALARM),
        (Bounds::LATE, Mutation::FollowMadeAnew, I3),
        (Bounds::LEFTOVERS, Mutation::LeftoverUnseen, I7),
        (Bounds::LEFTOVERS, Mutation::LeftoverUnclaimed, I7),
        (Bounds::DAMAGE, Mutation::DamageIsTail, I7),
    ];
    for (bounds, mutation, promise) in needed {
        breaks(bounds, mutation, promise);
    }
    let enough_without = [Mutation::NoClear, Mutation::NoFenceOrder];
    let is_tried =
        |rule: &Mutation| enough_without.contains(rule) || needed.iter().any(|(_, it, _)| it == rule);
    assert!(Mutation::ALL.iter().all(is_tried), "every rule is tried");
}

/// What lies beyond the tail is cleared, and would not be valid if it were not: either is enough.
#[test]
fn clearing_and_the_order_of_fences_stand_in_for_each_other() {
    for mutation in [Mutation::NoClear, Mutation::NoFenceOrder] {
        let outcome = check(Protocol { bounds: Bounds::TAKEOVERS, mutation: Some(mutation) }, None);
        assert!(outcome.broken.is_empty(), "{mutation:?}: {:?}", outcome.broken);
    }
}
