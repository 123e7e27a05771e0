//! Two who write to one copy, one after the other or at once; requests that land late.

use vault_server::storage::faulty::{Fault, Faulty, Hold};
use vault_server::storage::operation::Operation;

use super::*;

async fn open(source: &Place, target: &Place) -> Result<LogWriter, ArchiveError> {
    let origin = Origin::from(source.stream(&orders(source)).await?.meta());
    LogWriter::open(target, &orders(target), &origin, writer::Wholeness::Grows).await
}

fn failing(env: &Env) -> (Place, Arc<Faulty<MemoryStorage>>) {
    let inner = Arc::new(MemoryStorage::new(env.clone()));
    (over(inner.clone(), env), Arc::new(Faulty::new(inner, env.clone(), 1)))
}

/// A source, and a copy that was broken off when its first put was sent.
async fn broken_off(seed: u64) -> (Place, Place) {
    let env = Env::controlled(seed);
    let from = memory(&env);
    written(&from, Codec::None, 5).await;
    let (to, faulty) = failing(&env);
    faulty.on(Operation::PutPages).then(Fault::Crash);
    copy_now(&from, &over(faulty, &env)).await.unwrap_err();
    env.clock.sleep(Duration::from_secs(61)).await;
    (from, to)
}

#[tokio::test(start_paused = true)]
async fn whoever_slept_while_another_took_over_does_not_write() {
    let env = Env::controlled(31);
    let from = memory(&env);
    written(&from, Codec::None, 5).await;
    let (to, slow) = failing(&env);
    copy_now(&from, &to).await.unwrap();
    // It has looked at the segment, and claims it when its lock has long run out.
    slow.on(Operation::RaiseSequenceNumber).then(Fault::Delay(Duration::from_secs(100)));
    let sleeper = tokio::spawn({
        let (from, slow) = (from.clone(), over(slow, &env));
        async move { open(&from, &slow).await.map(|_| ()) }
    });
    env.clock.sleep(Duration::from_secs(61)).await;
    let other = open(&from, &to).await.unwrap();
    assert!(matches!(sleeper.await.unwrap(), Err(ArchiveError::InUse(_))));
    other.finish().await.unwrap();
    assert_eq!(messages(&to).await, messages(&from).await);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_arrives_late_hits_nothing() {
    let (from, to) = broken_off(32).await;
    let env = from.env.clone();
    let hold = Hold::new();
    let faulty = Arc::new(Faulty::new(Arc::clone(&to.storage), env.clone(), 1));
    faulty.on(Operation::DeleteBlob).then(Fault::LostAndHeld(hold.clone()));
    copy_now(&from, &over(faulty, &env)).await.unwrap();
    assert_eq!(hold.stuck(), 1);
    hold.release().await;
    assert_eq!(messages(&to).await, messages(&from).await);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_was_broken_off_before_its_first_message_is_an_empty_stream() {
    let (from, to) = broken_off(33).await;
    let env = from.env.clone();
    // The next one finds its place, and does not come any further.
    drop(open(&from, &to).await.unwrap());
    env.clock.sleep(Duration::from_secs(1)).await;
    assert!(report(&to).await.is_whole());
    copy_now(&from, &to).await.unwrap();
    assert_eq!(messages(&to).await, messages(&from).await);
}

#[tokio::test(start_paused = true)]
async fn a_copy_to_which_others_were_appended_is_not_gone_on_with() {
    let env = Env::controlled(34);
    let (from, to) = (memory(&env), memory(&env));
    written(&from, Codec::None, 3).await;
    copy_now(&from, &to).await.unwrap();
    let server = Server::start(&to).await;
    send(&server.stream(), "c", 0, 10).await;
    server.end().await;
    env.clock.sleep(Duration::from_secs(5)).await;
    // As many at the source, and more.
    for number in 3..5 {
        let server = Server::start(&from).await;
        more(&from, &server.stream(), number..number + 1).await;
        server.end().await;
        let refused = copy_now(&from, &to).await;
        assert!(matches!(refused, Err(ArchiveError::Misfit { .. })), "{refused:?}");
        env.clock.sleep(Duration::from_secs(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_has_what_stands_before_damage() {
    let env = Env::controlled(35);
    let (from, to) = (memory(&env), memory(&env));
    written(&from, Codec::None, 40).await;
    let all = messages(&from).await;
    let (base, blob) = segments(&from).await[1].clone();
    let bytes = from.storage.read(&blob, 0..BLOCK_BYTES).await.unwrap().bytes;
    let snapshot = vault_format::header::Header::decode(&bytes).unwrap();
    let first = vault_format::header::Header::decode(&bytes[512..]).unwrap();
    assert_eq!((snapshot.total_bytes, first.kind), (512, Kind::Messages));
    spoil(&from, &blob, 512 + u64::from(first.total_bytes) + 140).await;
    for _ in 0..2 {
        assert!(matches!(copy_now(&from, &to).await, Err(ArchiveError::Damaged(_))));
        let before = usize::try_from(base + u64::from(first.record_count)).unwrap();
        assert_eq!(messages(&to).await, all[..before]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_later_version_says_of_the_copy_stays() {
    let (from, to) = broken_off(36).await;
    let container = to.prefix.container(&orders(&to));
    let target = LeaseTarget::Container(container.clone());
    let lease = to.storage.acquire_lease(&target, Duration::from_secs(15)).await.unwrap();
    let mut metadata = to.storage.container_metadata(&container).await.unwrap();
    metadata.insert("later".to_owned(), "1".to_owned());
    to.storage.set_container_metadata(&container, &metadata, &lease).await.unwrap();
    to.storage.release_lease(&target, &lease).await.unwrap();
    copy_now(&from, &to).await.unwrap();
    let metadata = to.storage.container_metadata(&container).await.unwrap();
    assert_eq!(metadata.get("later").map(String::as_str), Some("1"));
    assert!(metadata.contains_key("begun"));
}
