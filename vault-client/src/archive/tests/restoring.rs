//! Streams made anew from copies.

use vault_server::storage::faulty::{Fault, Faulty};
use vault_server::storage::operation::Operation;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_stream_comes_back_from_a_directory_as_it_was() {
    let (env, root) = (Env::controlled(9), tempfile::tempdir().unwrap());
    let (from, to) = (memory(&env), memory(&env));
    let appended = written(&from, Codec::Zstd, 40).await;
    copy_now(&from, &directory(root.path(), &env)).await.unwrap();
    let restored = restore_now(&directory(root.path(), &env), &to, false).await.unwrap();
    assert!(restored.gaps.is_empty());
    assert_eq!(restored.report.counts.messages, 40);
    assert_eq!(messages(&from).await, messages(&to).await);
    let id = |place: &Place| {
        let place = place.clone();
        async move { place.stream(&orders(&place)).await.unwrap().meta().clone() }
    };
    assert_eq!(id(&from).await, id(&to).await);
    assert_serves(&to, &appended).await;
    assert!(matches!(restore_now(&from, &to, false).await, Err(ArchiveError::Exists(_))));
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_restore_is_seen() {
    let env = Env::controlled(10);
    let (from, to) = (memory(&env), memory(&env));
    written(&from, Codec::None, 40).await;
    let (base, blob) = segments(&from).await[1].clone();
    spoil(&from, &blob, 1024 + 50).await;
    match restore_now(&from, &to, false).await {
        Err(ArchiveError::Damaged(damage)) => {
            assert_eq!((damage.segment, damage.offset.0), (Offset(base), base));
        }
        other => panic!("{other:?}"),
    }
    env.clock.sleep(Duration::from_secs(1)).await;
    assert!(to.streams().await.unwrap().is_empty());
    let unfinished = to.stream(&orders(&to)).await;
    assert!(matches!(unfinished, Err(ArchiveError::Unfinished(_))), "{unfinished:?}");
    assert!(matches!(copy_now(&from, &to).await, Err(ArchiveError::Unfinished(_))));
    let server = Server::start(&to).await;
    assert_eq!(server.vault.stream_count(), 0, "servers take it for no stream");
    server.end().await;
    // With repair the same restore comes to its end.
    let restored = restore_now(&from, &to, true).await.unwrap();
    assert_eq!(restored.gaps.len(), 1);
    assert_eq!(messages(&to).await.len(), 40);
}

#[tokio::test(start_paused = true)]
async fn an_empty_stream_is_restored_empty() {
    let env = Env::controlled(11);
    let (from, to) = (memory(&env), memory(&env));
    let server = Server::start(&from).await;
    server.create(Codec::None).await;
    server.end().await;
    restore_now(&from, &to, false).await.unwrap();
    let server = Server::start(&to).await;
    assert_eq!(send(&server.stream(), "a", 0, 10).await.first_offset, Offset(0));
    server.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_restore_keeps_its_place_however_long_it_is_read_again() {
    let env = Env::controlled(21);
    let from = memory(&env);
    written(&from, Codec::None, 40).await;
    let inner = Arc::new(MemoryStorage::new(env.clone()));
    let slow = Arc::new(Faulty::new(inner.clone(), env.clone(), 1));
    slow.on(Operation::Read).always().then(Fault::Delay(Duration::from_secs(25)));
    let to = over(inner, &env);
    let restoring = tokio::spawn({
        let (from, slow) = (from.clone(), over(slow, &env));
        async move { restore_now(&from, &slow, false).await }
    });
    env.clock.sleep(Duration::from_secs(100)).await;
    assert!(!restoring.is_finished());
    assert!(matches!(restore_now(&from, &to, false).await, Err(ArchiveError::InUse(_))));
    restoring.await.unwrap().unwrap();
    assert_eq!(messages(&to).await, messages(&from).await);
}

#[tokio::test(start_paused = true)]
async fn what_a_repair_left_is_not_taken_for_whole() {
    let env = Env::controlled(22);
    let from = memory(&env);
    written(&from, Codec::None, 40).await;
    let (_, blob) = segments(&from).await[1].clone();
    spoil(&from, &blob, 512 + 140).await;
    let inner = Arc::new(MemoryStorage::new(env.clone()));
    let faulty = Arc::new(Faulty::new(inner.clone(), env.clone(), 1));
    // By then there are placeholders.
    faulty.on(Operation::PutPages).nth(5).then(Fault::Crash);
    restore_now(&from, &over(faulty, &env), true).await.unwrap_err();
    env.clock.sleep(Duration::from_secs(61)).await;
    let to = over(inner, &env);
    assert!(matches!(restore_now(&from, &to, false).await, Err(ArchiveError::Damaged(_))));
    env.clock.sleep(Duration::from_secs(1)).await;
    assert_eq!(restore_now(&from, &to, true).await.unwrap().gaps.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_messages_are_all_deleted_goes_on_where_it_stood() {
    let env = Env::controlled(23);
    let from = memory(&env);
    let server = Server::start(&from).await;
    let settings = SettingsPatch { retention_seconds: Some(Some(60)), ..SettingsPatch::default() };
    let stream = server.create_with(settings).await;
    let appended = more(&from, &stream, 0..6).await;
    env.clock.sleep(Duration::from_secs(200)).await;
    server.end().await;
    assert_eq!(segments(&from).await.iter().map(|(base, _)| *base).collect::<Vec<_>>(), [6]);
    let (copy, to) = (memory(&env), memory(&env));
    assert_eq!(copy_now(&from, &copy).await.unwrap().next_offset, Some(Offset(6)));
    assert_eq!(copy_now(&from, &copy).await.unwrap().next_offset, Some(Offset(6)));
    assert!(report(&copy).await.is_whole());
    restore_now(&copy, &to, false).await.unwrap();
    for place in [copy, to] {
        assert_eq!(producers(&place).await, producers(&from).await);
        assert_serves(&place, &appended).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_which_only_the_place_is_known_goes_on_there() {
    let place = memory(&Env::controlled(24));
    let settings = Settings { segment_bytes: BLOCK_BYTES, ..Settings::default() };
    let origin = Origin { id: StreamId([9; 16]), created: Timestamp(1), settings };
    let orders = orders(&place);
    let open = || LogWriter::open(&place, &orders, &origin, writer::Wholeness::Grows);
    let mut writer = open().await.unwrap();
    writer.go_on_at(Offset(7));
    writer.finish().await.unwrap();
    assert_eq!(open().await.unwrap().next_offset(), Some(Offset(7)));
    place.env.clock.sleep(Duration::from_secs(1)).await;
    let server = Server::start(&place).await;
    assert_eq!(send(&server.stream(), "new", 0, 10).await.first_offset, Offset(7));
    server.end().await;
}
