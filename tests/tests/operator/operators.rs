//! Operators that end, in order or at once.

use std::time::{Duration, Instant};

use serde_json::json;
use vault_tests::operator::{Field, STREAM, VAULT};

use crate::common::append;

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
