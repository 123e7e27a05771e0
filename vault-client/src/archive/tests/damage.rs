//! Damage of every kind is found in its place, and all else is kept.

use vault_format::header::Header;
use vault_server::log::inspect::Gap;

use super::*;

/// The batches with messages: base offset of the segment, header.
async fn batches(place: &Place) -> Vec<(BlobName, Header)> {
    let mut found = Vec::new();
    for (_, blob) in segments(place).await {
        let bytes = place.storage.read(&blob, 0..BLOCK_BYTES).await.unwrap().bytes;
        let mut at = 0;
        while let Ok(header) = Header::decode(&bytes[at..]) {
            at += header.total_bytes as usize;
            if header.kind == Kind::Messages {
                found.push((blob.clone(), header));
            }
        }
    }
    found
}

/// Repairs the stream into another place: exactly these offsets are lost, everything else is as it was.
async fn assert_loses(from: &Place, before: &[Seen], lost: std::ops::Range<u64>, at: (u64, u64)) {
    let found = report(from).await;
    let damage = &found.gaps[0].damage;
    assert_eq!((damage.segment.0, damage.position.0), at, "{damage}");
    assert_eq!(damage.offset.0, lost.start, "{damage}");
    assert_eq!(found.gaps.iter().map(Gap::known_lost).sum::<u64>(), lost.end - lost.start, "{found:?}");
    let to = memory(&from.env);
    assert!(matches!(restore_now(from, &to, false).await, Err(ArchiveError::Damaged(_))));
    from.env.clock.sleep(Duration::from_secs(1)).await;
    let restored = restore_now(from, &to, true).await.unwrap();
    assert_eq!(restored.gaps, found.gaps);
    let after = messages(&to).await;
    assert_eq!(after.len(), before.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(after.lost, lost.contains(&before.offset), "{after:?}");
        if after.lost {
            assert_eq!(after.offset, before.offset);
            assert!(after.timestamp <= before.timestamp);
        } else {
            assert_eq!(before, after);
        }
    }
    let server = Server::start(&to).await;
    assert_eq!(send(&server.stream(), "new", 0, 10).await.first_offset.0, before.len() as u64);
    server.end().await;
}

async fn stream() -> (Place, Vec<Seen>) {
    let place = memory(&Env::controlled(12));
    written(&place, Codec::None, 40).await;
    let messages = messages(&place).await;
    (place, messages)
}

/// The same as a copy of what servers of two terms wrote, both into the last segment.
async fn copied() -> (Place, Vec<Seen>) {
    let env = Env::controlled(12);
    let (from, to) = (memory(&env), memory(&env));
    written(&from, Codec::None, 41).await;
    env.clock.sleep(Duration::from_secs(60)).await;
    let server = Server::start(&from).await;
    more(&from, &server.stream(), 41..44).await;
    server.end().await;
    copy_now(&from, &to).await.unwrap();
    let messages = messages(&to).await;
    (to, messages)
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_costs_its_batch() {
    // In the header, in the payload; the first batch of all, one in the middle, the last.
    for into_batch in [17, 5_000] {
        for which in [0, 5, 13, usize::MAX] {
            for (place, before) in [stream().await, copied().await] {
                let which = which.min(before.len() - 1);
                let (blob, header) = batches(&place).await[which].clone();
                spoil(&place, &blob, header.position.0 + into_batch).await;
                let segment = vault_format::names::SegmentName::parse(&blob.name).unwrap().base.0;
                let lost = header.base_offset.0..header.next_offset().0;
                assert_loses(&place, &before, lost, (segment, header.position.0)).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_snapshot_costs_nothing() {
    let (place, before) = stream().await;
    let (base, blob) = segments(&place).await[1].clone();
    spoil(&place, &blob, 140).await;
    assert_loses(&place, &before, base..base, (base, 0)).await;
}

#[tokio::test(start_paused = true)]
async fn a_zeroed_block_costs_what_was_in_it() {
    let (place, before) = stream().await;
    let all = segments(&place).await;
    let ((base, blob), (next, _)) = (all[1].clone(), all[2].clone());
    let number = place.storage.properties(&blob).await.unwrap().sequence_number;
    place.storage.clear_pages(&blob, 0..BLOCK_BYTES, number).await.unwrap();
    assert_loses(&place, &before, base..next, (base, 0)).await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_segment_costs_what_was_in_it() {
    let (place, before) = stream().await;
    let all = segments(&place).await;
    let ((base, blob), (next, _)) = (all[1].clone(), all[2].clone());
    place.storage.delete_blob(&blob, None).await.unwrap();
    assert_loses(&place, &before, base..next, (base, 0)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_in_front_gets_no_placeholders() {
    let (place, before) = stream().await;
    let all = segments(&place).await;
    place.storage.delete_blob(&all[0].1, None).await.unwrap();
    let found = report(&place).await;
    assert_eq!((found.gaps[0].from, found.gaps[0].to), (Offset(0), Some(Offset(all[1].0))));
    let to = memory(&place.env);
    restore_now(&place, &to, true).await.unwrap();
    assert_eq!(messages(&to).await, before[usize::try_from(all[1].0).unwrap()..]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_cut_off_costs_its_end() {
    let (env, root) = (Env::controlled(13), tempfile::tempdir().unwrap());
    let source = memory(&env);
    written(&source, Codec::None, 40).await;
    let before = messages(&source).await;
    let place = directory(root.path(), &env);
    copy_now(&source, &place).await.unwrap();
    let all = segments(&place).await;
    let ((base, blob), (next, _)) = (all[1].clone(), all[2].clone());
    let cut_at = 1 << 20;
    let path = root.path().join(blob.container.as_str()).join(&blob.name);
    std::fs::File::options().write(true).open(path).unwrap().set_len(cut_at).unwrap();
    let place = directory(root.path(), &env);
    let found = report(&place).await;
    assert!(!found.is_whole());
    assert_eq!(found.gaps[0].damage.segment.0, base, "{found:?}");
    let to = memory(&env);
    restore_now(&place, &to, true).await.unwrap();
    let after = messages(&to).await;
    let lost: Vec<u64> = after.iter().filter(|seen| seen.lost).map(|seen| seen.offset).collect();
    assert!(lost.iter().all(|lost| (base..next).contains(lost)), "{lost:?}");
    for (before, after) in before.iter().zip(&after).filter(|(_, after)| !after.lost) {
        assert_eq!(before, after);
    }
    assert_eq!(after.len(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_torn_write_behind_the_tail_is_no_damage() {
    let (place, before) = stream().await;
    let (_, blob) = segments(&place).await.pop().unwrap();
    let number = place.storage.properties(&blob).await.unwrap().sequence_number;
    let end = place.storage.page_ranges(&blob, 0..BLOCK_BYTES).await.unwrap().last().unwrap().end;
    let torn = Bytes::from(vec![7; 512]);
    place.storage.put_pages(&blob, Position(end + 1024), torn, number, None).await.unwrap();
    let found = report(&place).await;
    assert!(found.is_whole(), "{found:?}");
    assert_eq!(found.counts.messages, before.len() as u64);
}
