//! Failovers of two servers on the account.

use std::time::Duration;

use vault_server::storage::{LeaseTarget, Storage};
use vault_tests::failover::{End, drill};
use vault_tests::replicas::{Replicas, free_port, on_account};

use crate::{Account, LEASE, VARIABLE, now_ms};

const RUNS: u32 = 5;

/// What a failover may take at most. More than on an emulator: creating what a new leader needs takes longer.
const LIMIT: Duration = Duration::from_secs(15);

#[test]
fn no_failover_loses_or_repeats_anything() {
    let connection_string = std::env::var(VARIABLE).unwrap_or_default();
    for end in [End::Killed, End::InOrder] {
        for run in 0..RUNS {
            let prefix = format!("mvcheck-{}-", now_ms());
            let mut replicas =
                Replicas::start([(); 2].map(|()| on_account(&connection_string, &prefix, free_port())));
            let before = Duration::from_secs(1) * run / RUNS;
            let one = drill(&mut replicas, end, before);
            drop(replicas);
            println!("{end:?} {run}: {one:?}");
            sweep(&prefix);
            assert_eq!((one.lost, one.twice), (0, 0), "{one:?}");
            assert!(one.worst <= LIMIT, "{one:?}");
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn sweep(prefix: &str) {
    let storage = Account::of_environment().storage;
    for entry in storage.list_containers(prefix).await.unwrap() {
        let target = LeaseTarget::Container(entry.name.clone());
        let lease = storage.acquire_lease(&target, LEASE).await.unwrap();
        storage.delete_container(&entry.name, &lease).await.unwrap();
    }
}
