//! Storage whose writes take seconds, while reads are as fast as ever.

use std::time::{Duration, Instant};

use vault_tests::azurite::Azurite;
use vault_tests::proxy::Fault;
use vault_tests::replicas::{Replicas, free_port, on_account};

use super::silence::way;

/// A write that is given up before is never carried out.
const WRITE: Duration = Duration::from_millis(2_500);

#[test]
fn where_every_write_takes_seconds_the_leader_stays_and_works() {
    let azurite = Azurite::shared();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let ways = [0, 1].map(|_| runtime.block_on(way(&azurite)));
    let setups = [0, 1].map(|index| on_account(&ways[index].1, "slow-", free_port()));
    let replicas = Replicas::start(setups);
    let (leader, follower) = replicas.settled();
    let client = replicas.client(leader);
    client.append_text("orders", "0");
    client.append_text("gone", "0");
    let leads = |index: usize| replicas.status(index).unwrap()["leader"].clone();
    let before = leads(leader);
    for (proxy, _) in &ways {
        proxy.set(Fault::SlowWrites(WRITE));
    }
    let began = Instant::now();
    for offset in 1.. {
        assert_eq!(client.append_text("orders", "next").first_offset, offset);
        assert_eq!((leads(leader), leads(follower)), (before.clone(), before.clone()));
        if began.elapsed() > Duration::from_secs(30) {
            break;
        }
    }
    client.delete("/streams/gone").expect(204);
    client.get("/streams/gone").expect(404);
    assert_eq!((leads(leader), leads(follower)), (before.clone(), before));
}
