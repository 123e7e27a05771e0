//! The drill of `./tests/run failover`, once for each way in which a leader ends. The machine may be busy: times are not
//! what this test is about.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use vault_tests::azurite::Azurite;
use vault_tests::failover::{End, drill};
use vault_tests::idempotent::{self, Idempotent};
use vault_tests::replicas::Replicas;
use vault_tests::wait::{LONG, StopAtEnd, until};

const GENEROUS: Duration = Duration::from_secs(15);

fn check(end: End, prefix: &str) {
    let azurite = Azurite::shared();
    let mut replicas = Replicas::on_azurite(&azurite, prefix);
    let drill = drill(&mut replicas, end, Duration::ZERO);
    assert_eq!((drill.lost, drill.twice), (0, 0), "{drill:?}");
    assert!(drill.acknowledged > 20 && drill.gap <= drill.worst && drill.worst < GENEROUS, "{drill:?}");
}

#[test]
fn a_killed_leader_is_replaced_and_nothing_acknowledged_gets_lost() {
    check(End::Killed, "drill-k-");
}

#[test]
fn a_leader_that_ends_in_order_hands_over_and_nothing_acknowledged_gets_lost() {
    check(End::InOrder, "drill-t-");
}

#[test]
fn what_idempotent_producers_send_again_is_stored_once_through_failovers() {
    let azurite = Azurite::shared();
    let mut replicas = Replicas::on_azurite(&azurite, "drill-i-");
    let addresses = replicas.addresses();
    replicas.client(0).create("load", 4 << 20);
    let mut producers: Vec<_> =
        (0..3).map(|n| Idempotent::new(&format!("p{n}"), Duration::from_millis(30 + 300 * n))).collect();
    for end in [End::Killed, End::InOrder, End::Killed] {
        let (leader, _) = replicas.settled();
        let stop = AtomicBool::new(false);
        let before: Vec<_> = producers.iter().map(Idempotent::acknowledged).collect();
        std::thread::scope(|scope| {
            let _stop = StopAtEnd(&stop);
            for producer in &mut producers {
                scope.spawn(|| producer.run(&addresses, "load", &stop));
            }
            std::thread::sleep(Duration::from_secs(1));
            match end {
                End::Killed => replicas.server_mut(leader).kill(),
                End::InOrder => replicas.server_mut(leader).stop_in_order(),
            }
            until("somebody else leads", LONG, || replicas.leads(1 - leader).then_some(()));
            std::thread::sleep(Duration::from_secs(1));
        });
        for (producer, before) in producers.iter().zip(before) {
            assert!(producer.acknowledged() > before, "{end:?}");
        }
        replicas.server_mut(leader).restart();
    }
    idempotent::check(&replicas.client(0).read_all("load"), &producers);
    assert!(producers.iter().any(|producer| producer.attempts_lost() > 0), "nothing was sent again");
}
