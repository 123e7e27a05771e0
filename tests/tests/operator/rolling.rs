//! Messages while servers are replaced.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use vault_tests::client::Client;
use vault_tests::ledger::{self, Producer};
use vault_tests::operator::{Field, SETTLES, VAULT};
use vault_tests::wait::{StopAtEnd, until};
use vault_tests::way::balance;

use crate::common::{any, objects_of, pods};

/// Half of what is promised, and less than it takes where a leader ends without handing its lease over.
const PAUSE: Duration = Duration::from_secs(1);

/// The servers that a Service leads to: those that are ready and are not about to go.
fn endpoints(field: &Field) -> Vec<SocketAddr> {
    let pods = objects_of(field, "Pod", "events").into_iter();
    let ready = pods.filter(|pod| {
        let conditions = pod.data["status"]["conditions"].as_array();
        pod.metadata.deletion_timestamp.is_none()
            && conditions
                .is_some_and(|all| all.iter().any(|it| it["type"] == "Ready" && it["status"] == "True"))
    });
    ready.filter_map(|pod| format!("{}:8480", pod.data["status"]["podIP"].as_str()?).parse().ok()).collect()
}

#[test]
fn a_rolling_update_loses_nothing_and_appends_pause_for_a_moment_at_most() {
    let field = Field::new().start();
    let mut spec = field.vault(&field.prefix());
    spec["streams"] = json!([{"name": "orders"}]);
    field.apply(VAULT, "events", &spec);
    field.until_ready(VAULT, "events");
    let (stop, before) = (AtomicBool::new(false), pods(&field, "events"));
    let servers = Arc::new(Mutex::new(endpoints(&field)));
    let known = servers.clone();
    let service = balance(move || known.lock().unwrap_or_else(PoisonError::into_inner).clone());
    let (producer, longest) = std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        let producing = scope.spawn(|| {
            let (mut producer, mut last, mut longest) =
                (Producer::new("p", 7, 100), Instant::now(), Duration::ZERO);
            let connect = || Client::with_limit(([127, 0, 0, 1], service).into(), Duration::from_secs(5));
            let mut client = connect();
            while !stop.load(Ordering::Relaxed) {
                let answer = producer.send(&client, "orders");
                if answer.is_ok_and(|answer| answer.status == 200) {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                } else {
                    client = connect();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            (producer, longest.max(last.elapsed()))
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let now = endpoints(&field);
                *servers.lock().unwrap_or_else(PoisonError::into_inner) = now;
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        spec["log"] = json!("info,vault_server=debug");
        field.apply(VAULT, "events", &spec);
        field.until_ready(VAULT, "events");
        until("the pods of before are gone", SETTLES, || {
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
