//! Watches that tell late.

use std::time::{Duration, Instant};

use serde_json::json;
use vault_tests::operator::{Field, SETTLES, VAULT, condition};
use vault_tests::way::late_news;

use crate::common::{Containers, append, status};

/// How late.
const LATE: Duration = Duration::from_millis(1_500);

/// How long a vault is looked at once it is ready: until the last news has come.
const QUIET: Duration = Duration::from_secs(8);

#[test]
fn what_was_said_and_done_since_the_news_is_not_undone() {
    let field = Field::new();
    let port = late_news(field.cluster.port(), LATE);
    let config = field.kubeconfig_by(port);
    let field = field.environment("KUBECONFIG", &config.to_string_lossy()).start();
    let mut spec = field.vault(&field.prefix());
    (spec["replicas"], spec["streams"]) = (json!(1), json!([{"name": "orders", "deletionPolicy": "Delete"}]));
    field.apply(VAULT, "events", &spec);

    let (mut joined, mut ready, mut kept) = (None, None, false);
    let end = Instant::now() + SETTLES;
    while ready.is_none_or(|since: Instant| since.elapsed() < QUIET) {
        assert!(Instant::now() < end, "it is not ready: {}", field.log());
        let vault = field.get(VAULT, "events").expect("nobody deletes it");
        let uid = status(&vault, "vaultUid").as_str().map(str::to_owned);
        assert!(joined.is_none() || uid == joined, "the vault was forgotten: {vault}");
        let finalizers = &vault["metadata"]["finalizers"];
        assert!(!kept || finalizers.is_array(), "the finalizer was taken off: {vault}");
        (joined, kept) = (uid, kept || finalizers.is_array());
        if ready.is_none() && condition(&vault, "Ready")["status"] == "True" {
            assert!(kept && joined.is_some(), "{vault}");
            ready = Some(Instant::now());
        }
        std::thread::sleep(Duration::from_millis(20));
    }

    append(&field, "events", "orders", "hello");
    field.delete(VAULT, "events");
    field.until_gone(VAULT, "events");
    assert!(!Containers::of(&field, &field.prefix()).has("orders"), "it goes with its vault");
}
