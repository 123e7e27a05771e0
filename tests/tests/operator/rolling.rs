//! Messages while servers are replaced.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use vault_tests::client::Client;
use vault_tests::ledger::{self, Producer};
use vault_tests::operator::{Field, VAULT};
use vault_tests::wait::StopAtEnd;

use crate::common::{any, ips, pods};

/// Longer than appends may pause, on a machine that other tests load.
const PAUSE: Duration = Duration::from_secs(8);

#[test]
fn a_rolling_update_loses_nothing_and_appends_go_on() {
    let field = Field::new().start();
    let mut spec = field.vault(&field.prefix());
    spec["streams"] = json!([{"name": "orders"}]);
    field.apply(VAULT, "events", &spec);
    field.until_ready(VAULT, "events");
    let (stop, before) = (AtomicBool::new(false), pods(&field, "events"));
    let servers = Mutex::new(ips(&field, "events"));
    let now = || servers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (producer, longest) = std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        let producing = scope.spawn(|| {
            let (mut producer, mut last, mut longest) =
                (Producer::new("p", 7, 100), Instant::now(), Duration::ZERO);
            for turn in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let ips = now();
                let Some(ip) = ips.get(turn % ips.len().max(1)) else { continue };
                let client =
                    Client::with_limit(format!("{ip}:8480").parse().unwrap(), Duration::from_secs(5));
                if producer.send(&client, "orders").is_ok_and(|answer| answer.status == 200) {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            (producer, longest.max(last.elapsed()))
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                *servers.lock().unwrap_or_else(PoisonError::into_inner) = ips(&field, "events");
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        spec["log"] = json!("info,vault_server=debug");
        field.apply(VAULT, "events", &spec);
        field.until_ready(VAULT, "events");
        vault_tests::wait::until("the pods of before are gone", vault_tests::operator::SETTLES, || {
            before.iter().all(|pod| field.get("Pod", pod).is_none()).then_some(())
        });
        std::thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
        producing.join().unwrap()
    });
    assert!(producer.acknowledged() > 50, "{} requests", producer.acknowledged());
    ledger::check(&any(&field, "events").read_all("orders"), &[producer]);
    assert!(longest < PAUSE, "appends paused for {longest:?}");
}
