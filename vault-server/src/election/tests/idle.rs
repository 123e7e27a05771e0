//! What a vault costs that nobody uses.

use super::*;
use crate::storage::counted::Counts;

/// The requests of ten minutes, but for those that `expected` allows.
fn others(counts: &Counts, expected: &[(Operation, std::ops::RangeInclusive<u64>)]) -> Vec<(Operation, u64)> {
    for (operation, range) in expected {
        assert!(range.contains(&counts.get(*operation)), "{operation}: {}", counts.get(*operation));
    }
    let unexpected = |operation: Operation| expected.iter().all(|(allowed, _)| *allowed != operation);
    counts.iter().filter(|(operation, count)| *count > 0 && unexpected(*operation)).collect()
}

#[tokio::test(start_paused = true)]
async fn an_idle_leader_beats_renews_and_lists_and_an_idle_follower_reads() {
    let place = Place::new(1);
    let (a, b) = place.pair().await;
    for name in ["orders", "invoices", "unused"] {
        a.create(name).await;
    }
    a.append("orders", "a").await;
    a.append("invoices", "a").await;
    place.rest(10 * SECOND).await;
    let (theirs, ours) = (a.counted.snapshot(), b.counted.snapshot());
    place.rest(600 * SECOND).await;
    let leader = a.counted.snapshot().since(&theirs);
    let allowed = [
        (Operation::RewritePage, 598..=602),
        (Operation::RenewLease, 119..=121),
        (Operation::ListContainers, 9..=11),
    ];
    assert_eq!(others(&leader, &allowed), []);
    let follower = b.counted.snapshot().since(&ours);
    assert_eq!(others(&follower, &[(Operation::Read, 1_198..=1_202)]), []);
}
