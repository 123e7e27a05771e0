//! What becomes of streams' containers that somebody changes or deletes.

use serde_json::json;
use vault_tests::client::Client;
use vault_tests::operator::{Field, SETTLES, STREAM, VAULT};
use vault_tests::wait::until;

use crate::common::{Containers, any, append, client, events, ips, pods, status, texts, touch};

/// A vault with the stream `orders` of its own, and the VaultStream `till`, both with a message.
fn started() -> Field {
    let field = Field::new().start();
    let mut spec = field.vault(&field.prefix());
    spec["streams"] = json!([{"name": "orders", "settings": {"retentionSeconds": 3600}}]);
    field.apply(VAULT, "events", &spec);
    field.apply(STREAM, "till", &json!({"vaultRef": {"name": "events"}}));
    field.until_ready(VAULT, "events");
    field.until_ready(STREAM, "till");
    for stream in ["orders", "till"] {
        append(&field, "events", stream, "first");
    }
    field
}

/// Has the VaultStream looked at anew, and not only for what is minutes old.
fn touch_till(field: &Field, retention: u64) {
    field.patch(STREAM, "till", &json!({"spec": {"settings": {"retentionSeconds": retention}}}));
}

#[test]
fn settings_come_into_force_and_drift_is_put_back() {
    let field = started();
    let containers = Containers::of(&field, &field.prefix());
    let leader = any(&field, "events");
    let served = |stream: &str| leader.get(&format!("/streams/{stream}")).expect(200).json();
    let until_served = |stream: &str, retention: u64| {
        until(&format!("{stream} has its retention"), SETTLES, || {
            (served(stream)["settings"]["retention_seconds"] == retention).then_some(())
        });
    };
    until_served("orders", 3600);
    touch_till(&field, 7200);
    field.patch(
        VAULT,
        "events",
        &json!({"spec": {"streams": [{"name": "orders", "settings": {
            "retentionSeconds": 1800, "codec": "lz4"
        }}]}}),
    );
    until_served("till", 7200);
    until_served("orders", 1800);
    field.until_ready(VAULT, "events");
    assert_eq!(events(&field, "events", "StreamChanged").len(), 1);

    for stream in ["orders", "till"] {
        containers.change(stream, |meta| meta.settings.retention_seconds = Some(60));
    }
    touch(&field, "events", "drift");
    field.patch(STREAM, "till", &json!({"spec": {"settings": {"codec": "zstd"}}}));
    for (stream, retention) in [("orders", 1800), ("till", 7200)] {
        until(&format!("{stream} is as it should be"), SETTLES, || {
            let settings = containers.meta(stream).unwrap().settings;
            (settings.retention_seconds == Some(retention)).then_some(())
        });
        until_served(stream, retention);
        assert_eq!(texts(&field, "events", stream), ["first"]);
    }
}

#[test]
fn lost_data_is_never_made_again_but_where_somebody_says_so() {
    let field = started();
    let containers = Containers::of(&field, &field.prefix());
    let ids = ["orders", "till"].map(|stream| containers.meta(stream).unwrap().id);
    for stream in ["orders", "till"] {
        containers.delete(stream);
    }
    touch(&field, "events", "lost");
    touch_till(&field, 7200);
    for (kind, name, stream) in [(VAULT, "events", "orders"), (STREAM, "till", "till")] {
        let (reason, message) = field.until_stalled(kind, name);
        assert_eq!(reason, "DataMissing", "{message}");
        for part in ["is gone from storage; appends are refused", "mvctl restore"] {
            assert!(message.contains(part), "{message}");
        }
        let hint =
            format!("annotate {}/{name} in", if kind == VAULT { "messagevault" } else { "vaultstream" });
        assert!(message.contains(&hint), "{message}");
        assert!(message.contains(&format!("with messagevault.io/recreate: {stream} to")), "{message}");
        assert!(!containers.has(stream), "{stream} must not begin anew by itself");
        until("an event tells of it", SETTLES, || {
            events(&field, name, "DataMissing").first().filter(|note| note.contains(stream)).map(|_| ())
        });
        let ip = ips(&field, "events").pop().unwrap();
        until("appends are refused", SETTLES, || {
            let headers = [("Content-Type", "text/plain")];
            let path = format!("/streams/{stream}/messages");
            let answer = client(&ip).send("POST", &path, &headers, Some(b"more")).unwrap();
            (answer.status != 200).then_some(())
        });
    }
    // Another restart of everything changes nothing of that; then somebody says what is to be done.
    field.annotate(VAULT, "events", "messagevault.io/recreate", Some("other, orders"));
    until("an event tells of the name that is none", SETTLES, || {
        events(&field, "events", "UnknownStream")
            .first()
            .filter(|note| note.contains("no other;"))
            .map(|_| ())
    });
    field.annotate(STREAM, "till", "messagevault.io/recreate", Some("till"));
    for (kind, name, stream, before) in
        [(VAULT, "events", "orders", ids[0]), (STREAM, "till", "till", ids[1])]
    {
        let object = field.until_ready(kind, name);
        let meta = containers.meta(stream).unwrap();
        assert_ne!(meta.id, before, "it is another stream");
        let said = if kind == VAULT { &status(&object, "streams")[0] } else { &object["status"] };
        assert_eq!(said["streamId"], meta.id.to_string());
        until("the annotation is taken off", SETTLES, || {
            let annotations = field.get(kind, name).unwrap()["metadata"]["annotations"].clone();
            annotations["messagevault.io/recreate"].is_null().then_some(())
        });
        assert_eq!(append(&field, "events", stream, "second"), 0);
        assert_eq!(texts(&field, "events", stream), ["second"]);
    }
    // What was said once holds once.
    containers.delete("till");
    touch_till(&field, 3600);
    let (reason, _) = field.until_stalled(STREAM, "till");
    assert_eq!(reason, "DataMissing");
}

#[test]
fn what_servers_miss_does_not_begin_anew_for_a_resource_that_knows_nothing_of_it() {
    let field = started();
    let containers = Containers::of(&field, &field.prefix());
    for stream in ["orders", "till"] {
        containers.delete(stream);
    }
    touch(&field, "events", "lost");
    touch_till(&field, 7200);
    for (kind, name) in [(VAULT, "events"), (STREAM, "till")] {
        assert_eq!(field.until_stalled(kind, name).0, "DataMissing");
    }
    // Their leader knows by its next listing, which comes once a minute by itself.
    for ip in ips(&field, "events") {
        let internal = Client::new(format!("{ip}:8481").parse().unwrap());
        internal.send("POST", "/refresh", &[], Some(b"")).unwrap().expect(200);
    }
    field.delete(STREAM, "till");
    field.until_gone(STREAM, "till");
    field.apply(STREAM, "till", &json!({"vaultRef": {"name": "events"}}));
    field.patch(VAULT, "events", &json!({"spec": {"streams": []}}));
    until("the vault has no stream of its own", SETTLES, || {
        field.get(VAULT, "events").unwrap()["status"]["streams"].is_null().then_some(())
    });
    field.patch(VAULT, "events", &json!({"spec": {"streams": [{"name": "orders"}]}}));
    for (kind, name, stream) in [(VAULT, "events", "orders"), (STREAM, "till", "till")] {
        let (reason, message) = field.until_stalled(kind, name);
        assert_eq!(reason, "DataMissing", "{message}");
        assert!(!containers.has(stream), "{stream} must not begin anew");
    }
}

#[test]
fn a_stream_that_its_leader_holds_back_is_not_ready() {
    let field = started();
    let containers = Containers::of(&field, &field.prefix());
    for stream in ["orders", "till"] {
        containers.empty(stream);
    }
    let old = pods(&field, "events");
    for pod in &old {
        field.delete("Pod", pod);
    }
    until("other servers serve", SETTLES, || {
        let now = pods(&field, "events");
        (now.len() == 2 && ips(&field, "events").len() == 2 && !now.iter().any(|pod| old.contains(pod)))
            .then_some(())
    });
    for (kind, name, stream) in [(VAULT, "events", "orders"), (STREAM, "till", "till")] {
        // Nobody has looked at the stream yet.
        let path = format!("/streams/{stream}/messages?from=earliest");
        until("it is known to be damaged", SETTLES, || {
            let answer = any(&field, "events").send("GET", &path, &[], None).ok()?;
            (answer.status == 500).then_some(())
        });
        touch(&field, "events", stream);
        touch_till(&field, 100 + stream.len() as u64);
        let message = until("it is stalled", SETTLES, || {
            let (reason, message) = field.until_stalled(kind, name);
            (reason == "StreamTroubled").then_some(message)
        });
        assert!(message.contains(&format!("the stream {stream} is held back: ")), "{message}");
    }
}

#[test]
fn an_annotation_that_was_carried_out_goes_although_something_else_is_wrong() {
    let field = Field::new().start();
    let mut spec = field.vault(&field.prefix());
    spec["streams"] = json!([{"name": "orders"}, {"name": "till"}]);
    field.apply(STREAM, "till", &json!({"vaultRef": {"name": "events"}}));
    field.apply(
        VAULT,
        "events",
        &json!({
            "storage": spec["storage"], "access": spec["access"], "streams": [{"name": "orders"}]
        }),
    );
    field.until_ready(STREAM, "till");
    field.apply(VAULT, "events", &spec);
    let (reason, message) = field.until_stalled(VAULT, "events");
    assert_eq!(reason, "Conflict", "{message}");
    let containers = Containers::of(&field, &field.prefix());
    containers.delete("orders");
    field.annotate(VAULT, "events", "messagevault.io/recreate", Some("orders"));
    until("the stream is there again and the annotation is not", SETTLES, || {
        let annotations = field.get(VAULT, "events").unwrap()["metadata"]["annotations"].clone();
        (containers.has("orders") && annotations["messagevault.io/recreate"].is_null()).then_some(())
    });
}
