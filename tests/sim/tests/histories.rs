//! What clients of a run put down is what the checker needs: nothing that it is to look at may be missing.

use std::collections::BTreeMap;

use vault_server::limits::HANDOVER_GRACE;
use vault_sim::run::{Manner, Outcome, run};
use vault_tests::history::{Event, Read, check};

/// A seed in which segments are deleted while they are followed.
const SEED: u64 = 5;

fn reads(outcome: &Outcome) -> impl Iterator<Item = &Read> {
    outcome.events.iter().filter_map(|event| match event {
        Event::Read(read) => Some(read),
        _ => None,
    })
}

#[test]
fn readers_are_held_against_where_they_were_to_begin_and_to_end() {
    let outcome = run(SEED, Manner::default(), None);
    assert!(outcome.is_well(), "{}", outcome.told());
    let mut followed: BTreeMap<&str, Vec<&Read>> = BTreeMap::new();
    let mut strong = 0;
    for read in reads(&outcome) {
        if read.reader.starts_with("follower-") {
            followed.entry(&read.reader).or_default().push(read);
        }
        if read.reader.starts_with("reader-") && read.strong {
            strong += 1;
            assert!(read.from.is_some() && read.up_to.is_some() && read.server.is_some(), "{read:?}");
        }
    }
    assert!(strong >= 6 && outcome.verdict.strong_reads >= 6, "{strong}");
    assert_eq!(followed.len(), 2);
    for (name, parts) in &followed {
        let mut next = 0;
        for part in parts {
            assert_eq!(part.from, Some(next), "{name}");
            next = part.messages.last().map_or(next, |last| last.offset + 1);
        }
        let last = parts.last().unwrap();
        assert!(parts.len() > 3 && last.strong && last.end_offset == Some(next), "{name}");
        let acknowledged = outcome.events.iter().filter_map(|event| match event {
            Event::Append(append) if append.stream == last.stream => Some(append.ended_ms),
            _ => None,
        });
        assert!(acknowledged.max().unwrap() < last.begun_ms, "{name}");
    }
}

#[test]
fn what_lands_and_what_is_cleared_is_put_down_by_pages() {
    let of = |seed: u64| run(seed, Manner::default(), None).events;
    let (mut torn, mut cleared) = (false, false);
    for seed in 0..20 {
        let events = of(seed);
        let mut whole = BTreeMap::new();
        for event in &events {
            match event {
                Event::Write { blob, position, pages, .. } if pages.len() > 1 => {
                    whole.insert((blob, *position), pages.len() as u64);
                }
                _ => {}
            }
        }
        // A page inside of what was written whole.
        torn |= events.iter().any(|event| match event {
            Event::Write { blob, position, pages, .. } if pages.len() == 1 => whole
                .range(..(blob, *position))
                .next_back()
                .is_some_and(|((of, from), count)| *of == blob && from + count * 512 > *position),
            _ => false,
        });
        cleared |= events.iter().any(|event| matches!(event, Event::Clear { .. }));
        if torn && cleared {
            return;
        }
    }
    panic!("torn: {torn}, cleared: {cleared}");
}

/// A run whose history holds what is looked for, and that; all is well in it.
fn first_with<T>(look: impl Fn(&[Event]) -> Option<T>) -> (Outcome, T) {
    let mut runs = (0..20).map(|seed| run(seed, Manner::default(), None));
    let found = runs.find_map(|outcome| look(&outcome.events).map(|found| (outcome, found)));
    let (outcome, found) = found.expect("it is in every second seed or third");
    assert!(outcome.is_well(), "{}", outcome.told());
    (outcome, found)
}

#[test]
fn a_hand_over_that_takes_too_long_is_noticed_although_the_old_leader_takes_appends_at_first() {
    let (outcome, from_ms) = first_with(|events| {
        events.iter().find_map(|event| match event {
            Event::GoesOn { what, from_ms, .. } if what == "the leader ended in order" => Some(*from_ms),
            _ => None,
        })
    });
    let goes_ms = from_ms + u64::try_from(HANDOVER_GRACE.as_millis()).unwrap();
    let mut events = outcome.events;
    for event in &mut events {
        if let Event::Append(append) = event
            && append.begun_ms >= from_ms
            && append.ended_ms > goes_ms
        {
            append.ended_ms = append.ended_ms.max(goes_ms + 1_001);
        }
    }
    let broken = check(&events).broken;
    assert!(!broken.is_empty() && broken.iter().all(|it| it.contains("paused for")), "{broken:?}");
}

#[test]
fn deletions_are_held_against_what_retention_keeps() {
    let (outcome, at) = first_with(|events| {
        let deletes = |event: &Event| matches!(event, Event::Deleting { in_vain: false, .. });
        let keeps = events.iter().position(|event| matches!(event, Event::Keeps { .. }));
        keeps.filter(|_| events.iter().any(deletes))
    });
    let mut events = outcome.events;
    let Event::Keeps { for_ms, .. } = &mut events[at] else { unreachable!("it was found there") };
    // More than clocks are apart and deletions late.
    *for_ms += 120_000;
    let broken = check(&events).broken;
    assert!(!broken.is_empty() && broken.iter().all(|it| it.contains("was being deleted at")), "{broken:?}");
}
