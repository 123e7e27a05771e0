//! A copy, or a restore, that is broken off at any request goes on where it ended.

use vault_server::storage::faulty::{Fault, Faulty, Pages};

use super::*;

/// What becomes of the request at which it is broken off.
fn faults() -> [Fault; 2] {
    [Fault::TearAndCrash(Pages::Random), Fault::Crash]
}

async fn source(env: &Env) -> (Place, Vec<Appended>) {
    let from = memory(env);
    let server = Server::start(&from).await;
    let stream = server.create(Codec::Lz4).await;
    // Only the snapshots tell of this one once the first segment is gone.
    send(&stream, "old", 0, 10).await;
    let appended = more(&from, &stream, 0..90).await;
    server.end().await;
    trim(&from).await;
    (from, appended)
}

#[tokio::test(start_paused = true)]
async fn a_copy_goes_on_after_every_cut() {
    let env = Env::controlled(7);
    let (from, appended) = source(&env).await;
    let all = messages(&from).await;
    for fault in faults() {
        let mut cut = 1;
        loop {
            let inner = Arc::new(MemoryStorage::new(env.clone()));
            let to = over(inner.clone(), &env);
            let faulty = Arc::new(Faulty::new(inner, env.clone(), cut));
            faulty.on_any().nth(cut).then(fault.clone());
            if copy_now(&from, &over(faulty, &env)).await.is_ok() {
                break;
            }
            // The lock of the one that was cut off runs out.
            env.clock.sleep(Duration::from_secs(61)).await;
            copy_now(&from, &to).await.unwrap_or_else(|error| panic!("cut {cut}: {error}"));
            assert_eq!(messages(&to).await, all, "cut {cut}");
            assert_eq!(producers(&to).await, producers(&from).await, "cut {cut}");
            assert!(report(&to).await.is_whole(), "cut {cut}");
            if cut % 7 == 0 {
                assert_serves(&to, &appended).await;
            }
            cut += 1;
        }
        assert!(cut > 15, "{cut} requests are few");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restore_is_no_stream_before_it_is_whole_and_goes_on_after_every_cut() {
    let env = Env::controlled(8);
    let (from, appended) = source(&env).await;
    let all = messages(&from).await;
    let mut cut = 1;
    loop {
        let inner = Arc::new(MemoryStorage::new(env.clone()));
        let to = over(inner.clone(), &env);
        let faulty = Arc::new(Faulty::new(inner, env.clone(), cut));
        faulty.on_any().nth(cut).then(Fault::TearAndCrash(Pages::Random));
        if restore_now(&from, &over(faulty, &env), false).await.is_ok() {
            break;
        }
        env.clock.sleep(Duration::from_secs(61)).await;
        let again = if to.streams().await.unwrap().is_empty() {
            restore_now(&from, &to, cut % 2 == 0).await.map(|_| ())
        } else {
            // Only the lock was not given back.
            Ok(())
        };
        again.unwrap_or_else(|error| panic!("cut {cut}: {error}"));
        assert_eq!(messages(&to).await, all, "cut {cut}");
        assert_eq!(producers(&to).await, producers(&from).await, "cut {cut}");
        if cut % 7 == 0 {
            assert_serves(&to, &appended).await;
        }
        cut += 1;
    }
    assert!(cut > 15, "{cut} requests are few");
}
