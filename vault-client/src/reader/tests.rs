//! Readers against answers that no server gives when it is asked to. Time is paused and passes by itself.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;
use tokio::time::Instant;
use vault_format::batch::BatchWriter;
use vault_format::chain::Chain;
use vault_format::codec::{Codec, Compressed};
use vault_format::header::Header;
use vault_format::ids::{Position, StreamId, Term};

use super::*;
use crate::error::{Error, SideEffects};
use crate::run::Run;
use crate::scripted::{Reply, Scripted, Sent};

pub(super) const ID: StreamId = StreamId([7; 16]);

/// The bytes of a segment: a block for each of the lists, filled up but for the last, with a batch for each of its numbers that
/// holds so many messages. The messages count on from 0.
pub(super) fn segment(stream: StreamId, blocks: &[&[u32]], codec: Codec) -> Vec<u8> {
    let (mut chain, mut out) = (Chain::at_segment_start(stream, Offset(0)), Vec::new());
    for (number, batches) in blocks.iter().enumerate() {
        let mut block = Vec::new();
        let mut writer =
            BatchWriter { chain: &mut chain, fence: Term(1), committed: Position(0), out: &mut block };
        writer.snapshot(&[]);
        for count in *batches {
            let first = writer.chain.next_offset.0;
            let texts = (first..first + u64::from(*count)).map(text);
            let records = Run::of(texts).unwrap().into_records();
            match Compressed::of(codec, &records) {
                Some(compressed) => writer.compressed_messages(&compressed, *count, Timestamp(1_000 + first)),
                None => writer.messages([&records[..]], *count, Timestamp(1_000 + first)),
            };
        }
        writer.commit();
        if number + 1 < blocks.len() {
            writer.filler();
            block.resize(4 << 20, 0);
        }
        out.extend(block);
    }
    out
}

pub(super) fn text(offset: u64) -> String {
    format!("{offset} and so on and on and on and on")
}

/// The batches, as a server sends them.
pub(super) fn batches(mut segment: &[u8]) -> Vec<(Header, Bytes)> {
    let mut batches = Vec::new();
    while let Ok(header) = Header::decode(segment) {
        let written = usize::try_from(header.written_bytes()).unwrap();
        batches.push((header, Bytes::copy_from_slice(&segment[..written])));
        segment = &segment[header.total_bytes as usize..];
    }
    batches
}

/// A server's answer about a stream of these batches.
fn answer(sent: &Sent, batches: &[(Header, Bytes)]) -> Reply {
    let end = batches.last().map_or(0, |(header, _)| header.next_offset().0);
    let from = match sent.parameter("from").unwrap_or("earliest") {
        "earliest" => 0,
        "latest" => end,
        number => number.parse().unwrap(),
    };
    if from > end {
        return Reply::problem(416, "beyond_tail", false);
    }
    let holds = |header: &Header| header.next_offset().0 > from;
    let body = batches.iter().filter(|(header, _)| holds(header)).map(|(_, bytes)| Ok(bytes.clone()));
    let body = if from == end { Vec::new() } else { body.collect() };
    let reply = Reply::Answer { status: 200, headers: Vec::new(), body };
    let reply = reply.header("message-vault-next-offset", end).header("message-vault-end-offset", end);
    match sent.parameter("wait") {
        Some(seconds) if from == end => reply.late(Duration::from_secs(seconds.parse().unwrap())),
        _ => reply,
    }
}

fn some() -> Vec<(Header, Bytes)> {
    batches(&segment(ID, &[&[3, 1, 5], &[2, 9]], Codec::None))
}

/// What a reader shows of a server that answers by `script`, until it ends.
async fn read(
    script: impl FnMut(&Sent) -> Reply + Send + 'static,
    build: impl FnOnce(ReaderBuilder) -> ReaderBuilder,
) -> (Vec<u64>, Option<ReadError>, usize) {
    let scripted = Scripted::new(script);
    let mut reader = build(scripted.client().reader("orders")).start();
    let mut offsets = Vec::new();
    let mut error = None;
    while let Some(message) = reader.next().await {
        match message {
            Ok(message) => {
                assert_eq!(message.value(), text(message.offset().0).as_bytes());
                offsets.push(message.offset().0);
            }
            Err(found) => error = Some(found),
        }
    }
    assert!(reader.next().await.is_none() && reader.next().await.is_none(), "the end is the end");
    let requests = scripted.seen().len();
    (offsets, error, requests)
}

fn broken_after(reply: Reply, bytes: usize, with_error: bool) -> Reply {
    let Reply::Answer { status, headers, body } = reply else { panic!("an answer") };
    let whole: Vec<u8> = body.into_iter().flat_map(|piece| piece.unwrap()).collect();
    let mut body = vec![Ok(Bytes::copy_from_slice(&whole[..bytes.min(whole.len())]))];
    if with_error {
        body.push(Err("it broke off".to_owned()));
    }
    Reply::Answer { status, headers, body }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Answers that break off anywhere, again and again, at the first attempts or at all that bring something.
    #[test]
    fn answers_that_break_off_leave_neither_gap_nor_repeat(cuts in proptest::collection::vec(0_usize..9_000, 0..8), from in 0_u64..20) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let (all, mut cuts) = (some(), cuts.into_iter());
            let script = move |sent: &Sent| match cuts.next() {
                Some(cut) => broken_after(answer(sent, &all), cut, true),
                None => answer(sent, &all),
            };
            let (offsets, error, _) = read(script, |builder| builder.from(Offset(from))).await;
            assert_eq!((offsets, error), ((from..20).collect::<Vec<_>>(), None));
        });
    }
}

#[tokio::test(start_paused = true)]
async fn what_ends_in_the_middle_of_a_batch_is_asked_for_once_more() {
    for (times, read_to) in [(1, 20), (2, 3)] {
        let (all, mut left) = (some(), times);
        let script = move |sent: &Sent| {
            left -= 1;
            // Behind the first batch.
            let cut = if sent.parameter("from") == Some("earliest") { 512 + 100 } else { 100 };
            if left >= 0 { broken_after(answer(sent, &all), cut, false) } else { answer(sent, &all) }
        };
        let (offsets, error, requests) = read(script, |builder| builder).await;
        // Who comes to the end asks whether it is one.
        let asked = if times == 1 { 3 } else { 2 };
        assert_eq!((offsets, requests), ((0..read_to).collect::<Vec<_>>(), asked));
        assert_eq!(error.is_some(), times == 2);
        assert!(matches!(error, None | Some(ReadError::Damaged { offset: Offset(3), .. })), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_bytes_are_asked_for_once_more_and_then_told() {
    for (times, read_to) in [(1, 20), (2, 4)] {
        let (all, mut left) = (some(), times);
        let script = move |sent: &Sent| {
            left -= 1;
            let mut spoilt = all.clone();
            if left >= 0 {
                let batch = spoilt.iter_mut().find(|(header, _)| header.record_count == 5).unwrap();
                let mut bytes = batch.1.to_vec();
                bytes[200] ^= 1;
                batch.1 = bytes.into();
            }
            answer(sent, &spoilt)
        };
        let (offsets, error, requests) = read(script, |builder| builder).await;
        // Who comes to the end asks whether it is one.
        let asked = if times == 1 { 3 } else { 2 };
        assert_eq!((offsets, requests), ((0..read_to).collect::<Vec<_>>(), asked));
        assert_eq!(error.is_some(), times == 2);
        assert!(matches!(error, None | Some(ReadError::Damaged { offset: Offset(4), .. })), "{error:?}");
    }
    let html = |_: &Sent| Reply::html(200).header("message-vault-next-offset", 1);
    let (offsets, error, requests) = read(html, |builder| builder).await;
    assert!(
        offsets.is_empty() && requests == 2 && matches!(error, Some(ReadError::Damaged { .. })),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_told() {
    let script = |sent: &Sent| {
        let mut all = some();
        all.retain(|(header, _)| header.base_offset != Offset(4));
        answer(sent, &all)
    };
    let (offsets, error, requests) = read(script, |builder| builder).await;
    assert_eq!((offsets.len(), requests), (4, 2));
    let gap = ReadError::Damaged { offset: Offset(4), reason: Damage::Gap(Offset(9)) };
    assert_eq!(error, Some(gap));
}

#[tokio::test(start_paused = true)]
async fn what_was_there_already_is_passed_over() {
    // Whatever it is asked for, this one begins at the beginning.
    let script = |sent: &Sent| {
        let from = Sent { path: "/?from=0".to_owned(), ..sent.clone() };
        broken_after(answer(&from, &some()), if sent.path.contains("from=9") { 99_999 } else { 1_600 }, true)
    };
    let (offsets, ..) = read(script, |builder| builder.to(Offset(20))).await;
    assert_eq!(offsets, (0..20).collect::<Vec<_>>());
    // Nor need the batch that comes next begin where the last one ended.
    let script = |sent: &Sent| {
        if sent.path.contains("from=e") {
            return broken_after(answer(sent, &some()), 512, true);
        }
        answer(sent, &batches(&segment(ID, &[&[5, 15]], Codec::None)))
    };
    assert_eq!(read(script, |builder| builder).await.0, (0..20).collect::<Vec<_>>());
    let script = |sent: &Sent| answer(&Sent { path: "/?from=0".to_owned(), ..sent.clone() }, &some());
    assert_eq!(read(script, |builder| builder.from(Offset(2))).await.0, (2..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn another_stream_is_not_taken_for_this_one() {
    let other = StreamId([8; 16]);
    let script = move |sent: &Sent| {
        if sent.parameter("from") == Some("earliest") {
            return broken_after(answer(sent, &some()), 512, true);
        }
        answer(sent, &batches(&segment(other, &[&[20]], Codec::None)))
    };
    let (offsets, error, _) = read(script, |builder| builder).await;
    assert_eq!((offsets.len(), error), (3, Some(ReadError::Replaced { known: ID, found: other })));
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_is_told_or_skipped() {
    let script = |sent: &Sent| {
        let kept = |offset: u64| offset >= 9;
        if sent.parameter("from").is_some_and(|from| from.parse().is_ok_and(|from| !kept(from))) {
            if sent.parameter("clamp") != Some("true") {
                let problem = json!({ "status": 410, "code": "below_first", "detail": "gone", "retryable": false,
                    "side_effects": "none", "first_offset": 9 });
                return Reply::json(410, &problem);
            }
            let from = Sent { path: "/?from=9".to_owned(), ..sent.clone() };
            return answer(&from, &some()).header("message-vault-first-offset", 9);
        }
        // Overtaken in the middle.
        broken_after(answer(sent, &some()), if sent.path.contains("from=e") { 512 } else { 99_999 }, true)
    };
    let (offsets, error, _) = read(script, |builder| builder.to(Offset(20))).await;
    assert_eq!(offsets, [0, 1, 2]);
    assert_eq!(error, Some(ReadError::BelowFirst { wanted: Offset(3), first_offset: Offset(9) }));
    let (offsets, error, _) = read(script, |builder| builder.to(Offset(20)).skip_deleted()).await;
    assert_eq!((offsets, error), ([0, 1, 2].into_iter().chain(9..20).collect(), None));
}

#[tokio::test(start_paused = true)]
async fn answers_that_say_nothing_are_no_hot_loop() {
    // Nothing but success: a proxy's.
    let nothing = |_: &Sent| Reply::json(200, &json!(""));
    let (_, error, requests) = read(nothing, |builder| builder).await;
    assert!(matches!(error, Some(ReadError::Request(Error::Nonsense { .. }))) && requests == 1, "{error:?}");
    // The stream goes on, and nothing of it comes.
    let stuck = |_: &Sent| {
        let reply = Reply::Answer { status: 200, headers: Vec::new(), body: Vec::new() };
        reply.header("message-vault-next-offset", 3).header("message-vault-end-offset", 9)
    };
    let begun = Instant::now();
    let (_, error, requests) = read(stuck, |builder| builder.from(Offset(3))).await;
    assert!(error.is_some() && requests < 100 && begun.elapsed().as_secs() >= 50, "{requests} {error:?}");
    // At the end, and nobody waits.
    static REQUESTS: AtomicU32 = AtomicU32::new(0);
    let script = |sent: &Sent| {
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        answer(&Sent { path: sent.path.replace("wait", "no"), ..sent.clone() }, &some())
    };
    let following = read(script, |builder| builder.from(Offset(20)).follow());
    assert!(tokio::time::timeout(Duration::from_secs(60), following).await.is_err());
    assert!((100..700).contains(&REQUESTS.load(Ordering::Relaxed)), "{REQUESTS:?}");
}

#[tokio::test(start_paused = true)]
async fn who_follows_outlives_servers_that_fall_silent() {
    let (mut served, mut grown) = (0, some());
    let script = move |sent: &Sent| {
        served += 1;
        match served {
            // It waits for ever; the other one answers. In the end it stops in the middle of a batch.
            2 => Reply::Silence,
            4 => {
                grown = batches(&segment(ID, &[&[3, 1, 5], &[2, 9, 4]], Codec::None));
                let Reply::Answer { status, headers, body } = broken_after(answer(sent, &grown), 200, false)
                else {
                    panic!("an answer")
                };
                Reply::Answer { status, headers, body: [body, vec![Err("stalled".to_owned())]].concat() }
            }
            _ => answer(sent, &grown),
        }
    };
    let begun = Instant::now();
    let (offsets, error, _) = read(script, |builder| builder.to(Offset(24)).follow()).await;
    assert_eq!((offsets, error), ((0..24).collect::<Vec<_>>(), None));
    assert!(begun.elapsed().as_secs() < 45, "that is noticed soon: {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_nobody_polled_for_long_tries_again_as_others_do() {
    let mut served = 0;
    let scripted = Scripted::new(move |sent| {
        served += 1;
        match served {
            1 => broken_after(answer(sent, &some()), 1_536, true),
            2..5 => Reply::Broken(SideEffects::None),
            _ => answer(sent, &some()),
        }
    });
    let mut reader = scripted.client().reader("orders").start();
    assert_eq!(reader.next().await.unwrap().unwrap().offset(), Offset(0));
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let mut offsets = Vec::new();
    while let Some(message) = reader.next().await {
        offsets.push(message.unwrap().offset().0);
    }
    assert_eq!(offsets, (1..20).collect::<Vec<_>>());
    let servers: Vec<_> = scripted.seen().iter().map(|sent| sent.server).collect();
    assert_eq!(servers, [0, 1, 0, 1, 0, 0], "each failure turns to another server");
}

#[tokio::test(start_paused = true)]
async fn damage_is_not_taken_for_the_end_of_the_stream() {
    // Where a server knows of damage, it shows the stream up to there.
    let script = |sent: &Sent| match sent.parameter("from") {
        Some("20") => Reply::problem(500, "corrupt", false),
        _ => answer(sent, &some()),
    };
    let (offsets, error, requests) = read(script, |builder| builder).await;
    assert_eq!((offsets.len(), requests), (20, 2));
    assert!(
        matches!(&error, Some(ReadError::Request(error)) if error.code() == Some("corrupt")),
        "{error:?}"
    );
    // Whoever wanted no more than that is not told.
    let (offsets, error, requests) = read(script, |builder| builder.to(Offset(20))).await;
    assert_eq!((offsets.len(), error, requests), (20, None, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ends_reading_and_says_why() {
    for (status, code) in [(404, "stream_not_found"), (403, "forbidden"), (500, "corrupt")] {
        let (offsets, error, requests) =
            read(move |_| Reply::problem(status, code, false), |builder| builder.follow()).await;
        let Some(ReadError::Request(error)) = error else { panic!("{error:?}") };
        assert_eq!((offsets.len(), error.code(), requests), (0, Some(code), 1));
    }
    let busy = |_: &Sent| Reply::problem(503, "overloaded", true).header("retry-after", 1);
    let (_, error, requests) = read(busy, |builder| builder.retry_time(Some(Duration::from_secs(9)))).await;
    assert!(
        matches!(error, Some(ReadError::Request(Error::Refused(_)))) && (4..10).contains(&requests),
        "{requests}"
    );
}
