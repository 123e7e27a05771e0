//! Operators that end, in order or at once, and two of them.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use vault_tests::kubernetes::process::{Process, text};
use vault_tests::operator::{Field, SETTLES, STREAM, VAULT};
use vault_tests::wait::until;

use crate::common::{append, touch};

#[test]
fn crashes_in_the_middle_of_everything_leave_nothing_behind() {
    let mut field = Field::new().start();
    let vault = |field: &Field, name: &str| {
        let mut spec = field.vault(&format!("{}{name}-", field.prefix()));
        (spec["replicas"], spec["streams"]) = (json!(1), json!([{"name": "own"}]));
        spec
    };
    for round in 0_u64..6 {
        // Some of it is new in each round, and some changes.
        let name = ["one", "other"][usize::try_from(round % 2).unwrap()];
        let mut spec = vault(&field, name);
        spec["service"] = json!({"annotations": {"round": round.to_string()}});
        field.apply(VAULT, name, &spec);
        let stream = json!({"vaultRef": {"name": name}, "settings": {"retentionSeconds": 3600}});
        field.apply(STREAM, &format!("stream-{round}"), &stream);
        std::thread::sleep(Duration::from_millis(60 + 130 * round));
        field.kill_operator();
        field.start_operator();
    }
    for name in ["one", "other"] {
        field.until_ready(VAULT, name);
        append(&field, name, "own", "hello");
    }
    for round in 0..6 {
        field.until_ready(STREAM, &format!("stream-{round}"));
    }
}

#[test]
fn it_ends_in_order_when_it_is_told_to() {
    let mut field = Field::new().start();
    let mut spec = field.vault(&field.prefix());
    spec["replicas"] = json!(1);
    field.apply(VAULT, "events", &spec);
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    assert_eq!(field.stop_operator(), Some(0), "{}", field.log());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(field.log().trim_end().ends_with("ended"), "{}", field.log());
    field.start_operator();
    field.until_ready(VAULT, "events");
}

#[test]
fn of_two_operators_one_works_and_the_other_takes_over() {
    let mut field = Field::new().flag("--leader-elect").start();
    let mut spec = field.vault(&field.prefix());
    spec["replicas"] = json!(1);
    field.apply(VAULT, "events", &spec);
    field.until_ready(VAULT, "events");
    let log = field.cluster.path(&format!("second-{}.log", field.namespace));
    let mut second = Process::start(field.command(), &log).unwrap();
    until("the second operator waits", SETTLES, || {
        text(&log).contains("waiting for the Lease").then_some(())
    });
    assert!(field.ask("/metrics").unwrap().1.contains("messagevault_operator_leading 1"));
    std::thread::sleep(Duration::from_secs(1));
    assert!(!text(&log).contains("this operator works"), "{}", text(&log));

    let killed = Instant::now();
    field.kill_operator();
    until("the second takes over", SETTLES, || text(&log).contains("this operator works").then_some(()));
    assert!(killed.elapsed() < Duration::from_secs(30), "{:?}", killed.elapsed());
    touch(&field, "events", "second");
    field.until_ready(VAULT, "events");
    // A standby again. It looks when the Lease would have run out that it saw.
    field.start_operator();
    let before = field.log().matches("this operator works").count();
    let ended = Instant::now();
    second.signal(Signal::TERM);
    assert_eq!(until("the second ends", SETTLES, || second.ended()).code(), Some(0), "{}", text(&log));
    until("the first takes over", SETTLES, || {
        (field.log().matches("this operator works").count() > before).then_some(())
    });
    assert!(ended.elapsed() < Duration::from_secs(25), "{:?}", ended.elapsed());
    touch(&field, "events", "first");
    field.until_ready(VAULT, "events");
}
