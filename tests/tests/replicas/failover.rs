//! The drill of `./tests/run failover`, once for each way in which a leader ends. The machine may be busy: times are not
//! what this test is about.

use std::time::Duration;

use vault_tests::azurite::Azurite;
use vault_tests::failover::{End, drill};
use vault_tests::replicas::Replicas;

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
