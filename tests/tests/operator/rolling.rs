//! Messages while servers are replaced, and while they are killed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vault_tests::client::Client;
use vault_tests::ledger::{self, Producer};
use vault_tests::operator::{Field, SETTLES, VAULT};
use vault_tests::wait::{StopAtEnd, until};
use vault_tests::way::balance;

use crate::common::{any, objects_of, pods, status_of};

/// As it is promised where a leader ends in order, and less than it takes where it does not hand its lease over.
const PAUSE: Duration = Duration::from_secs(1);

/// Less than it takes where a dead leader's lease has to run out (15 s), although the machine is busy. How soon it is when
/// nothing else runs is measured by `./tests/run failover`.
const REPLACED: Duration = Duration::from_secs(12);

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

/// What a producer at the Service was told while this goes on and for a moment longer, and how long at most it waited for
/// an acknowledgement.
fn under_load(field: &Field, change: impl FnOnce()) -> (Producer, Duration) {
    let stop = AtomicBool::new(false);
    let servers = Arc::new(Mutex::new(endpoints(field)));
    let known = servers.clone();
    let service = balance(move || known.lock().unwrap_or_else(PoisonError::into_inner).clone());
    std::thread::scope(|scope| {
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
                let now = endpoints(field);
                *servers.lock().unwrap_or_else(PoisonError::into_inner) = now;
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        change();
        std::thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
        producing.join().unwrap()
    })
}

/// A vault with one stream, once it is ready: what it was asked to be like.
fn ready(field: &Field) -> Value {
    let mut spec = field.vault(&field.prefix());
    spec["streams"] = json!([{"name": "orders"}]);
    field.apply(VAULT, "events", &spec);
    field.until_ready(VAULT, "events");
    spec
}

/// The pod whose server leads, and its term.
fn leader(field: &Field) -> Option<(String, u64)> {
    pods(field, "events").into_iter().find_map(|pod| {
        let said = status_of(field, &pod)?;
        (said["role"] == "leader").then_some((pod, said["term"].as_u64()?))
    })
}

#[test]
fn a_rolling_update_loses_nothing_and_appends_pause_for_a_moment_at_most() {
    let field = Field::new().start();
    let mut spec = ready(&field);
    let before = pods(&field, "events");
    let (producer, longest) = under_load(&field, || {
        spec["log"] = json!("info,vault_server=debug");
        field.apply(VAULT, "events", &spec);
        field.until_ready(VAULT, "events");
        until("the pods of before are gone", SETTLES, || {
            before.iter().all(|pod| field.get("Pod", pod).is_none()).then_some(())
        });
    });
    assert!(producer.acknowledged() > 50, "{} requests", producer.acknowledged());
    ledger::check(&any(&field, "events").read_all("orders"), &[producer]);
    assert!(longest < PAUSE, "appends paused for {longest:?}");
}

#[test]
fn leaders_that_are_killed_in_their_pods_are_replaced_and_nothing_acknowledged_gets_lost() {
    let field = Field::new().start();
    ready(&field);
    let (producer, longest) = under_load(&field, || {
        for _ in 0..3 {
            let (pod, term) = until("a server leads", SETTLES, || leader(&field));
            std::thread::sleep(Duration::from_millis(500));
            field.kubelet.kill(&field.namespace, &pod);
            // Which of the two does is not said: the one that was killed is started again at once.
            until("a server leads under a later term", SETTLES, || leader(&field).filter(|now| now.1 > term));
            until("both are ready again", SETTLES, || (endpoints(&field).len() == 2).then_some(()));
        }
    });
    assert!(producer.acknowledged() > 50, "{} requests", producer.acknowledged());
    ledger::check(&any(&field, "events").read_all("orders"), &[producer]);
    assert!(longest < REPLACED, "appends paused for {longest:?}");
}
