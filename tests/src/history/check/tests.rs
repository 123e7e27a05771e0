//! Histories that keep the promises, and for each promise one that breaks it.

use super::*;
use crate::history::{Read, Stored};

const STREAM: &str = "s";

fn placed(offset: u64, id: &str) -> Placed {
    Placed { offset, timestamp: 1_000 + offset, id: id.to_owned() }
}

fn stored(ids: &[&str]) -> Event {
    let messages = (0..).zip(ids).map(|(offset, id)| placed(offset, id)).collect();
    Event::Stored(Stored { stream: STREAM.to_owned(), messages })
}

fn deleting(to: u64, at_ms: u64) -> Event {
    Event::Deleting { stream: STREAM.to_owned(), to, at_ms, in_vain: false }
}

fn append(ids: &[&str], times: (u64, u64), outcome: Outcome) -> Append {
    Append {
        stream: STREAM.to_owned(),
        session: None,
        begun_ms: times.0,
        ended_ms: times.1,
        messages: ids.iter().map(|id| (*id).to_owned()).collect(),
        outcome,
    }
}

fn done(ids: &[&str], times: (u64, u64), first_offset: u64) -> Event {
    Event::Append(append(ids, times, Outcome::Acknowledged { first_offset }))
}

fn read(messages: Vec<Placed>) -> Read {
    let (stream, reader) = (STREAM.to_owned(), "r".to_owned());
    Read { stream, reader, begun_ms: 50, ended_ms: 60, messages, ..Read::default() }
}

/// A strong read that showed nothing but the end.
fn strong(end: u64, times: (u64, u64)) -> Event {
    let (begun_ms, ended_ms) = times;
    Event::Read(Read { end_offset: Some(end), strong: true, begun_ms, ended_ms, ..read(Vec::new()) })
}

/// Whether exactly one promise is broken, in these words.
#[track_caller]
fn breaks(events: &[Event], words: &str) {
    let verdict = check(events);
    assert_eq!(verdict.broken.len(), 1, "{verdict:?}");
    assert!(verdict.broken[0].contains(words), "{verdict:?}");
}

#[track_caller]
fn holds(events: &[Event]) -> Verdict {
    let verdict = check(events);
    assert_eq!(verdict.broken, Vec::<String>::new());
    verdict
}

#[test]
fn what_is_acknowledged_stands_at_its_offset_once() {
    let log = stored(&["a", "b", "c"]);
    let verdict = holds(&[log.clone(), done(&["a"], (1, 2), 0), done(&["b", "c"], (1, 3), 1)]);
    assert_eq!((verdict.acknowledged, verdict.lost, verdict.repeated), (3, 0, 0));
    let moved = [log.clone(), done(&["a"], (1, 2), 0), done(&["c", "b"], (1, 3), 1)];
    breaks(&moved, "acknowledged, but");
    assert_eq!(check(&moved).lost, 2);
    let lost = [log.clone(), done(&["a"], (1, 2), 0), done(&["b", "c"], (1, 2), 1), done(&["d"], (1, 2), 3)];
    breaks(&lost, "acknowledged, but");
    let twice = [stored(&["a", "a"]), done(&["a"], (1, 2), 0)];
    breaks(&twice, "more than once");
    assert_eq!(check(&twice).repeated, 1);
    breaks(&[log, done(&["a"], (1, 2), 0), done(&["b"], (1, 2), 1)], "nobody sent");
}

#[test]
fn what_failed_appears_never_or_once_and_whole() {
    let refused = Event::Append(append(&["a"], (1, 2), Outcome::Refused));
    let unknown = Event::Append(append(&["b", "c"], (1, 2), Outcome::Unknown));
    holds(&[stored(&[]), refused.clone(), unknown.clone()]);
    holds(&[stored(&["b", "c"]), refused.clone(), unknown.clone()]);
    breaks(&[stored(&["a"]), refused, unknown.clone()], "refused, but");
    breaks(&[stored(&["b"]), unknown.clone()], "in part");
    breaks(&[stored(&["c", "b"]), unknown], "in part");
}

#[test]
fn what_was_acknowledged_before_another_began_stands_before_it() {
    let log = stored(&["a", "b"]);
    holds(&[log.clone(), done(&["b"], (1, 5), 1), done(&["a"], (5, 9), 0)]);
    breaks(&[log.clone(), done(&["b"], (1, 5), 1), done(&["a"], (6, 9), 0)], "before this began");
    let of_session = |id: &str, number: u64, first_offset: u64| {
        let session = Some(("p".to_owned(), number));
        Event::Append(Append { session, ..append(&[id], (1, 9), Outcome::Acknowledged { first_offset }) })
    };
    holds(&[log.clone(), of_session("a", 0, 0), of_session("b", 1, 1)]);
    breaks(&[log, of_session("a", 1, 0), of_session("b", 0, 1)], "out of order");
}

#[test]
fn offsets_have_no_gaps_and_time_does_not_run_backwards() {
    let log = |messages: Vec<Placed>| Event::Stored(Stored { stream: STREAM.to_owned(), messages });
    let all = [done(&["a"], (1, 2), 0), done(&["b"], (1, 2), 1)];
    let with = |messages| [vec![log(messages)], all.to_vec()].concat();
    holds(&with(vec![placed(0, "a"), placed(1, "b")]));
    breaks(&with(vec![placed(0, "a"), Placed { timestamp: 3, ..placed(1, "b") }]), "backwards");
    let verdict = check(&with(vec![placed(0, "a"), placed(2, "b")]));
    assert!(verdict.broken.iter().any(|broken| broken.contains("follows on")), "{verdict:?}");
}

#[test]
fn reads_show_what_is_stored() {
    let all = [stored(&["a", "b", "c"]), done(&["a", "b", "c"], (1, 9), 0)];
    let with = |read: Read| [all.to_vec(), vec![Event::Read(read)]].concat();
    holds(&with(read(vec![placed(1, "b"), placed(2, "c")])));
    breaks(&with(read(vec![placed(1, "c")])), "is stored");
    breaks(&with(read(vec![placed(3, "d")])), "is stored");
    breaks(&with(read(vec![placed(0, "a"), placed(2, "c")])), "a gap");
    let since = |since: u64, from: u64| {
        let messages = vec![placed(from, ["a", "b", "c"][usize::try_from(from).unwrap()])];
        with(Read { since: Some(since), ..read(messages) })
    };
    holds(&since(1_001, 1));
    breaks(&since(1_001, 0), "asked for");
    breaks(&since(1_001, 2), "asked for");
}

#[test]
fn strong_reads_miss_nothing_that_was_acknowledged_before() {
    let with = |end: u64, begun_ms: u64| {
        let appends = [done(&["a"], (1, 9), 0), done(&["b"], (1, 9), 1)];
        [vec![stored(&["a", "b"]), strong(end, (begun_ms, 60))], appends.to_vec()].concat()
    };
    holds(&with(0, 9));
    holds(&with(2, 10));
    breaks(&with(1, 10), "strongly");
    let untold = Read { strong: true, ..read(Vec::new()) };
    breaks(&[stored(&[]), Event::Read(untold)], "was not told the end");
}

#[test]
fn strong_reads_of_a_server_never_go_back() {
    let log = [stored(&["a", "b"]), done(&["a"], (1, 90), 0), done(&["b"], (1, 90), 1)];
    let of = |server: usize, event: Event| match event {
        Event::Read(read) => Event::Read(Read { server: Some(server), ..read }),
        other => other,
    };
    let with = |reads: [Event; 2]| [log.to_vec(), reads.to_vec()].concat();
    holds(&with([of(0, strong(2, (10, 20))), of(0, strong(1, (20, 30)))]));
    holds(&with([of(0, strong(1, (10, 20))), of(0, strong(2, (21, 30)))]));
    holds(&with([of(0, strong(2, (10, 20))), of(1, strong(1, (21, 30)))]));
    breaks(&with([of(0, strong(2, (10, 20))), of(0, strong(1, (21, 30)))]), "told of 2");
}

#[test]
fn strong_reads_tell_of_nothing_that_is_not_there() {
    let log = [stored(&["a", "b"]), done(&["a", "b"], (1, 9), 0)];
    let with = |end: u64| [log.to_vec(), vec![strong(end, (1, 60))]].concat();
    holds(&with(2));
    breaks(&with(3), "the log ends at 2");
    breaks(&with(1), "in the middle");
}

#[test]
fn what_was_shown_before_an_append_began_stands_before_it() {
    let with = |seen: Event, begun_ms: u64, outcome: Outcome| {
        let late = Event::Append(append(&["b"], (begun_ms, 99), outcome));
        let early = [done(&["a"], (1, 70), 0), done(&["c"], (1, 70), 2)];
        [vec![stored(&["a", "b", "c"]), seen, late], early.to_vec()].concat()
    };
    let third = || Event::Read(read(vec![placed(2, "c")]));
    for outcome in [Outcome::Acknowledged { first_offset: 1 }, Outcome::Unknown] {
        holds(&with(strong(2, (50, 60)), 60, outcome));
        breaks(&with(strong(2, (50, 60)), 61, outcome), "stands at 1");
        holds(&with(third(), 60, outcome));
        breaks(&with(third(), 61, outcome), "stands at 1");
        // Of the message itself it was shown that is to be appended later.
        let second = Event::Read(read(vec![placed(1, "b")]));
        breaks(&with(second, 61, outcome), "stands at 1");
    }
}

#[test]
fn what_nobody_knows_of_stands_behind_what_was_acknowledged_before_it_began() {
    let with = |begun_ms: u64| {
        let unknown = Event::Append(append(&["a"], (begun_ms, 9), Outcome::Unknown));
        [stored(&["a", "b"]), done(&["b"], (1, 5), 1), unknown]
    };
    holds(&with(5));
    breaks(&with(6), "before this began");
}

#[test]
fn reads_begin_and_end_where_they_are_to() {
    let all = [stored(&["a", "b", "c"]), done(&["a"], (1, 9), 0), done(&["b", "c"], (1, 9), 1)];
    let with = |read: Read| [all.to_vec(), vec![Event::Read(read)]].concat();
    let from = |from: u64| Read { from: Some(from), ..read(vec![placed(1, "b"), placed(2, "c")]) };
    holds(&with(from(1)));
    breaks(&with(from(0)), "go on at 0");
    breaks(&with(from(2)), "go on at 2");
    breaks(&with(Read { skips: true, ..from(2) }), "go on at 2");
    let answered =
        |up_to: u64, end: u64| Read { up_to: Some(up_to), end_offset: Some(end), strong: true, ..from(1) };
    assert_eq!(holds(&with(answered(3, 3))).strong_reads, 1);
    breaks(&with(answered(2, 3)), "to end at 2");
    let half = Read { messages: vec![placed(0, "a")], from: Some(0), ..answered(1, 3) };
    assert_eq!(holds(&with(half)).strong_reads, 0);
    breaks(&with(Read { messages: Vec::new(), ..answered(1, 3) }), "ends at 1");
    breaks(&with(Read { messages: Vec::new(), ..answered(3, 3) }), "to end at 3");
    breaks(&with(Read { strong: false, ..answered(3, 2) }), "ends at 3");
    let nothing = |up_to: u64| Read { messages: Vec::new(), skips: true, ..answered(up_to, 3) };
    let gone = |read: Read| [vec![deleting(3, 0)], with(read)].concat();
    holds(&gone(nothing(3)));
    breaks(&gone(nothing(2)), "ends at 2");
}

#[test]
fn only_what_is_being_deleted_is_passed_over() {
    let log = [stored(&["a", "b", "c"]), done(&["a", "b", "c"], (1, 9), 0), deleting(2, 60)];
    let with = |read: Read| [log.to_vec(), vec![Event::Read(read)]].concat();
    let from = |from: u64, messages: Vec<Placed>| Read { from: Some(from), skips: true, ..read(messages) };
    holds(&with(from(0, vec![placed(2, "c")])));
    breaks(&with(Read { ended_ms: 59, ..from(0, vec![placed(2, "c")]) }), "passed over 0..2 by 59 ms");
    // With nothing behind it.
    let ends = |end: u64, read: Read| Read { end_offset: Some(end), ..read };
    holds(&with(ends(2, from(0, vec![placed(0, "a")]))));
    breaks(&with(ends(3, from(0, vec![placed(0, "a")]))), "passed over 1..3");
    holds(&with(ends(2, from(1, Vec::new()))));
    breaks(&with(ends(3, from(1, Vec::new()))), "passed over 1..3");
    // An answer that ends sooner has passed over nothing behind it.
    holds(&with(Read { up_to: Some(2), ..ends(3, from(1, vec![placed(1, "b")])) }));
}

#[test]
fn nothing_is_deleted_before_it_is_old_enough() {
    let log = [stored(&["a", "b", "c"]), done(&["a"], (100, 190), 0), done(&["b", "c"], (200, 290), 1)];
    let with = |deletion: Event| {
        let keeps = Event::Keeps { stream: STREAM.to_owned(), for_ms: 1_000 };
        [log.to_vec(), vec![keeps, deletion]].concat()
    };
    // What counts is when the newest append began that is deleted whole.
    holds(&with(deleting(3, 1_200)));
    breaks(&with(deleting(3, 1_199)), "before 3 was being deleted at 1199 ms, not yet 1000 ms");
    holds(&with(deleting(2, 1_100)));
    breaks(&with(deleting(2, 1_099)), "before 2 was being deleted at 1099 ms");
    holds(&[log.to_vec(), vec![deleting(3, 300)]].concat());
    let other = Event::Keeps { stream: "other".to_owned(), for_ms: 1_000 };
    holds(&[log.to_vec(), vec![deleting(3, 300), other]].concat());
    // A deposed leader took it for blank.
    let in_vain = Event::Deleting { stream: STREAM.to_owned(), to: 3, at_ms: 300, in_vain: true };
    holds(&with(in_vain));
}

#[test]
fn a_run_without_strong_reads_has_not_tried_them() {
    let mut verdict = Verdict { strong_reads: 3, ..Verdict::default() };
    verdict.expect_strong_reads(3);
    assert_eq!(verdict.broken, Vec::<String>::new());
    verdict.expect_strong_reads(4);
    assert_eq!(verdict.broken, ["only 3 strong reads were answered, of 4 at least"]);
}

#[test]
fn a_term_has_one_holder_and_nothing_of_a_lower_one_lands_after_its_claim() {
    let term = |term, holder: &str| Event::Term { term, holder: holder.to_owned() };
    holds(&[term(1, "x"), term(2, "y"), term(2, "y")]);
    breaks(&[term(1, "x"), term(1, "y")], "both hold");
    let claim = |term| Event::Claim { blob: "b".to_owned(), term };
    let write = |fence, position, pages: &[u32]| {
        let (blob, pages) = ("b".to_owned(), pages.to_vec());
        Event::Write { blob, position, fence, pages }
    };
    holds(&[claim(1), write(1, 0, &[7]), write(1, 0, &[7]), claim(2), write(2, 0, &[8])]);
    breaks(&[claim(1), claim(2), write(1, 0, &[7])], "had claimed");
    breaks(&[claim(1), write(1, 0, &[7]), write(1, 0, &[8])], "two contents to 0");
    // A part of a batch is held against the whole.
    holds(&[claim(1), write(1, 512, &[6]), write(1, 0, &[7, 6, 5]), write(1, 1024, &[5])]);
    breaks(&[claim(1), write(1, 512, &[6]), write(1, 0, &[7, 7])], "two contents to 512");
    let clear = |fence, from, to| Event::Clear { blob: "b".to_owned(), from, to, fence };
    holds(&[claim(1), write(1, 0, &[7]), claim(2), clear(2, 0, 1024), write(2, 0, &[8])]);
    breaks(&[claim(1), claim(2), clear(1, 0, 512)], "cleared 0 to 512");
    holds(&[claim(1), write(1, 512, &[7]), clear(1, 0, 512), clear(1, 1024, 2048)]);
    breaks(&[claim(1), write(1, 512, &[7]), clear(1, 0, 1024)], "what it had written to 512");
}

/// Appends must go on from 100 ms on.
fn goes_on(until_ms: u64, within_ms: u64) -> Event {
    let (stream, what) = (STREAM.to_owned(), "healed".to_owned());
    Event::GoesOn { stream, what, from_ms: 100, until_ms, within_ms }
}

#[test]
fn appends_go_on_in_time() {
    let with = |begun, ended| [stored(&["a"]), done(&["a"], (begun, ended), 0), goes_on(100, 6_000)];
    assert_eq!(holds(&with(100, 6_100)).longest_gap_ms, 6_000);
    breaks(&with(100, 6_101), "paused for 6001 ms from 100 ms on");
    breaks(&with(99, 101), "not at all");
}

#[test]
fn appends_do_not_pause_again_once_they_have_gone_on() {
    let with = |first: u64, second: (u64, u64), until_ms: u64| {
        let appends = [done(&["a"], (100, first), 0), done(&["b"], second, 1)];
        [vec![stored(&["a", "b"]), goes_on(until_ms, 1_000)], appends.to_vec()].concat()
    };
    // The old leader takes one, and nobody another for a while. When that was begun makes no difference.
    assert_eq!(holds(&with(110, (111, 1_110), 1_000)).longest_gap_ms, 1_000);
    breaks(&with(110, (111, 1_111), 1_000), "paused for 1001 ms from 110 ms on");
    breaks(&with(110, (1_111, 1_111), 1_000), "paused for 1001 ms from 110 ms on");
    assert_eq!(check(&with(110, (111, 1_111), 1_000)).longest_gap_ms, 1_001);
    // A pause that begins before the end counts as a whole, one that begins at it does not.
    breaks(&with(1_099, (1_100, 2_100), 1_100), "paused for 1001 ms from 1099 ms on");
    assert_eq!(holds(&with(1_100, (1_100, 9_000), 1_100)).longest_gap_ms, 1_000);
    // Nor does anything behind the first where that alone is asked for.
    assert_eq!(holds(&with(110, (111, 9_000), 100)).longest_gap_ms, 10);
}

#[test]
fn appends_that_end_too_soon_have_not_gone_on() {
    let with = |ended: u64| [stored(&["a"]), done(&["a"], (100, ended), 0), goes_on(1_000, 1_000)];
    holds(&with(1_000));
    breaks(&with(999), "no more from 999 ms on");
}
