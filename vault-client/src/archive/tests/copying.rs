//! Copies that grow.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_copy_has_the_same_messages_and_goes_on_as_a_stream() {
    for codec in Codec::ALL {
        let env = Env::controlled(1);
        let (from, to) = (memory(&env), memory(&env));
        let appended = written(&from, codec, 40).await;
        let mut last = Progress::default();
        let mut source = StorageSource::open(&from, &orders(&from)).await.unwrap();
        let copied = copy(&mut source, &to, &orders(&to), false, &mut |progress| last = *progress).await;
        assert_eq!(copied.unwrap().next_offset, Some(Offset(40)));
        assert_eq!(last.messages, 40);
        assert!(last.total_bytes.unwrap() >= last.bytes, "{last:?}");
        assert!(segments(&to).await.len() > 1);
        assert_eq!(messages(&from).await, messages(&to).await);
        let report = report(&to).await;
        assert!(report.is_whole(), "{report:?}");
        assert_eq!((report.counts.messages, report.next_offset), (40, Offset(40)));
        let codecs = codecs(&to).await;
        assert!(
            codecs.iter().all(|found| *found == codec),
            "compressed batches stay as they are: {codecs:?}"
        );
        assert_serves(&to, &appended).await;
    }
}

async fn codecs(place: &Place) -> Vec<Codec> {
    let mut walk = place.stream(&orders(place)).await.unwrap().walk();
    let mut codecs = Vec::new();
    while let Step::Batch(batch) = walk.next().await.unwrap() {
        if batch.header.kind == Kind::Messages {
            codecs.push(batch.header.codec);
        }
    }
    codecs
}

#[tokio::test(start_paused = true)]
async fn a_directory_is_brought_up_to_date_and_left_alone_while_a_server_uses_it() {
    let (env, root) = (Env::controlled(2), tempfile::tempdir().unwrap());
    let from = memory(&env);
    let server = Server::start(&from).await;
    let stream = server.create(Codec::Zstd).await;
    let mut appended = more(&from, &stream, 0..20).await;
    for upto in [30, 30, 45] {
        let to = directory(root.path(), &env);
        copy_now(&from, &to).await.unwrap();
        assert_eq!(messages(&from).await, messages(&to).await);
        let reached = appended.len() as u64;
        appended.extend(more(&from, &stream, reached..upto).await);
    }
    server.end().await;
    let to = directory(root.path(), &env);
    copy_now(&from, &to).await.unwrap();
    assert_serves(&to, &appended).await;
    // Another process would have opened the directory for itself.
    let used = Server::start(&to).await;
    let beside = directory(root.path(), &env);
    assert!(matches!(copy_now(&from, &beside).await, Err(ArchiveError::InUse(_))));
    used.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_follows_gets_what_is_appended() {
    let env = Env::controlled(3);
    let (from, to) = (memory(&env), memory(&env));
    let server = Server::start(&from).await;
    let stream = server.create(Codec::None).await;
    let mut appended = more(&from, &stream, 0..5).await;
    let following = tokio::spawn({
        let (from, to) = (from.clone(), to.clone());
        async move {
            let mut source = StorageSource::open(&from, &orders(&from)).await.unwrap();
            copy(&mut source, &to, &orders(&to), true, &mut |_| {}).await
        }
    });
    appended.extend(more(&from, &stream, 5..35).await);
    env.clock.sleep(Duration::from_secs(300)).await;
    assert_eq!(messages(&to).await.len(), 35);
    assert!(matches!(copy_now(&from, &to).await, Err(ArchiveError::InUse(_))));
    following.abort();
    let _ = following.await;
    env.clock.sleep(Duration::from_secs(1)).await;
    appended.extend(more(&from, &stream, 35..36).await);
    server.end().await;
    copy_now(&from, &to).await.unwrap();
    assert_eq!(messages(&from).await, messages(&to).await);
    assert_serves(&to, &appended).await;
}

#[tokio::test(start_paused = true)]
async fn a_trimmed_stream_keeps_its_offsets_and_its_producers() {
    let env = Env::controlled(4);
    let (from, to) = (memory(&env), memory(&env));
    let appended = written(&from, Codec::None, 40).await;
    while segments(&from).await.len() > 1 {
        trim(&from).await;
    }
    copy_now(&from, &to).await.unwrap();
    let first = segments(&from).await[0].0;
    assert!(first > 0);
    assert_eq!(segments(&to).await[0].0, first);
    assert_eq!(messages(&from).await, messages(&to).await);
    assert!(report(&to).await.is_whole());
    assert_eq!(producers(&from).await, producers(&to).await);
    assert_serves(&to, &appended).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_torn_put_left_is_cleared() {
    let env = Env::controlled(17);
    let (from, to) = (memory(&env), memory(&env));
    written(&from, Codec::None, 5).await;
    copy_now(&from, &to).await.unwrap();
    let (_, blob) = segments(&to).await.pop().unwrap();
    let written = to.storage.page_ranges(&blob, 0..BLOCK_BYTES).await.unwrap();
    let (end, number) =
        (written.last().unwrap().end, to.storage.properties(&blob).await.unwrap().sequence_number);
    let torn = Bytes::from(vec![7; 1024]);
    to.storage.put_pages(&blob, Position(end + 2048), torn, number, None).await.unwrap();
    copy_now(&from, &to).await.unwrap();
    assert_eq!(to.storage.page_ranges(&blob, 0..BLOCK_BYTES).await.unwrap(), written);
    // A put that is still under way lands no more.
    assert!(to.storage.properties(&blob).await.unwrap().sequence_number > number);
}

#[tokio::test(start_paused = true)]
async fn retention_that_overtakes_a_copy_is_told() {
    let env = Env::controlled(5);
    let (from, to) = (memory(&env), memory(&env));
    let server = Server::start(&from).await;
    let stream = server.create(Codec::None).await;
    more(&from, &stream, 0..5).await;
    copy_now(&from, &to).await.unwrap();
    more(&from, &stream, 5..40).await;
    server.end().await;
    while segments(&from).await.len() > 1 {
        trim(&from).await;
    }
    let first_offset = Offset(segments(&from).await[0].0);
    match copy_now(&from, &to).await {
        Err(ArchiveError::Overtaken { next_offset: Offset(5), first_offset: found }) => {
            assert_eq!(found, first_offset);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(messages(&to).await.len(), 5, "the copy stays as it is");
}

#[tokio::test(start_paused = true)]
async fn another_stream_of_the_same_name_is_left_alone() {
    let env = Env::controlled(6);
    let (one, two, to) = (memory(&env), memory(&env), memory(&env));
    written(&one, Codec::None, 3).await;
    written(&two, Codec::None, 3).await;
    copy_now(&one, &to).await.unwrap();
    assert!(matches!(copy_now(&two, &to).await, Err(ArchiveError::OtherStream { .. })));
    assert_eq!(messages(&one).await, messages(&to).await);
    // The copy got a message of its own since.
    let server = Server::start(&to).await;
    send(&server.stream(), "c", 0, 10).await;
    server.end().await;
    assert!(matches!(copy_now(&one, &to).await, Err(ArchiveError::SourceIsOlder { .. })));
}
