//! From resources to messages, and what is said of it.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use vault_tests::operator::{Field, SETTLES, STREAM, VAULT, condition};
use vault_tests::wait::until;

use crate::common::{Containers, KINDS, append, events, objects_of, pods, status, status_of, texts};

#[test]
fn a_vault_and_its_streams_become_ready_and_take_messages() {
    let field = Field::new().start();
    // The stream comes first, and waits.
    field.apply(STREAM, "till", &json!({"vaultRef": {"name": "events"}, "settings": {"codec": "zstd"}}));
    let waiting = field.until_condition(STREAM, "till", "Reconciling", "True");
    assert_eq!(waiting["reason"], "WaitingForVault", "{waiting}");
    let mut spec = field.vault(&field.prefix());
    spec["streams"] = json!([{"name": "orders", "settings": {"retentionSeconds": 3600}}]);
    field.apply(VAULT, "events", &spec);
    let vault = field.until_ready(VAULT, "events");
    let stream = field.until_ready(STREAM, "till");
    let namespace = &field.namespace;
    let endpoint = format!("http://events.{namespace}.svc:8480");
    assert_eq!(*status(&vault, "endpoint"), endpoint.as_str());
    assert_eq!(*status(&stream, "url"), format!("{endpoint}/streams/till"));
    assert_eq!(*status(&stream, "streamName"), "till");
    assert_eq!((status(&vault, "replicas"), status(&vault, "readyReplicas")), (&json!(2), &json!(2)));
    for object in [&vault, &stream] {
        assert_eq!(*status(object, "observedGeneration"), object["metadata"]["generation"]);
        for no in ["Reconciling", "Stalled", "Paused"] {
            assert_eq!(condition(object, no)["status"], "False", "{no}: {object:#}");
        }
    }
    assert_eq!(condition(&vault, "StorageReachable")["status"], "True");
    // The leader says itself that it is.
    let leader = status(&vault, "leader").as_str().unwrap();
    assert!(pods(&field, "events").iter().any(|pod| pod == leader));
    let said = status_of(&field, leader).unwrap();
    assert_eq!((&said["role"], &said["term"]), (&json!("leader"), status(&vault, "term")));
    let containers = Containers::of(&field, &field.prefix());
    let till = containers.meta("till").unwrap();
    assert_eq!(*status(&stream, "streamId"), till.id.to_string());
    assert_eq!(till.owner, Some(format!("vaultstream/{namespace}/till")));
    assert_eq!(containers.meta("orders").unwrap().settings.retention_seconds, Some(3600));

    for (stream, text) in [("orders", "a"), ("orders", "b"), ("till", "c")] {
        append(&field, "events", stream, text);
    }
    assert_eq!(texts(&field, "events", "orders"), ["a", "b"]);
    let until_next = |kind: &str, name: &str, path: &str, next: u64| {
        // A stream's numbers are those of the last look at its vault's servers.
        let mut looks = 0;
        until(&format!("{name} tells of its messages"), SETTLES, || {
            looks += 1;
            for (kind, name) in [(VAULT, "events"), (kind, name)] {
                field.annotate(kind, name, "look", Some(&format!("{name} {looks}")));
            }
            std::thread::sleep(std::time::Duration::from_secs(1));
            let object = field.get(kind, name).unwrap();
            (object.pointer(path) == Some(&json!(next))).then_some(())
        });
    };
    until_next(VAULT, "events", "/status/streams/0/nextOffset", 2);
    until_next(STREAM, "till", "/status/nextOffset", 1);
    assert_eq!(field.get(VAULT, "events").unwrap()["status"]["streamCount"], 2);
    assert_eq!(events(&field, "events", "Ready").len(), 1, "told once");
    assert_eq!(events(&field, "till", "StreamCreated").len(), 1);
}

/// How often vaults and streams have been reconciled.
fn reconciled(field: &Field, kind: &str) -> u64 {
    let (_, text) = field.ask("/metrics").unwrap();
    let start = format!("messagevault_operator_reconciles_total{{kind=\"{kind}\"");
    let lines = text.lines().filter(|line| line.starts_with(&start));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn nothing_is_written_when_nothing_has_changed() {
    let field = Field::new().start();
    let mut spec = field.vault(&field.prefix());
    spec["streams"] = json!([{"name": "orders"}]);
    spec["access"] = json!({"serviceAccounts": [{"name": "till", "grants": ["orders:write"]}]});
    field.apply(VAULT, "events", &spec);
    field.apply(STREAM, "till", &json!({"vaultRef": {"name": "events"}}));
    for (kind, name) in [(VAULT, "events"), (STREAM, "till")] {
        field.until_ready(kind, name);
    }
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    let versions = || {
        let objects = KINDS.iter().flat_map(|kind| objects_of(&field, kind, "events"));
        let mut all: Vec<_> =
            objects.map(|object| (object.metadata.name, object.metadata.resource_version)).collect();
        all.sort();
        all
    };
    let look = |round: u32| {
        let round = round.to_string();
        let both = [(VAULT, "events"), (STREAM, "till")];
        let before = both.map(|(kind, _)| reconciled(&field, kind));
        for (kind, name) in both {
            field.annotate(kind, name, "look", Some(&round));
        }
        let written = both.map(|(kind, name)| version(&field.get(kind, name).unwrap()));
        until("both are looked at", SETTLES, || {
            let now = both.map(|(kind, _)| reconciled(&field, kind));
            (now[0] > before[0] && now[1] > before[1]).then_some(())
        });
        std::thread::sleep(std::time::Duration::from_millis(300));
        both.map(|(kind, name)| version(&field.get(kind, name).unwrap())) == written
    };
    // What is of the last moments of the rollout may come in the first round.
    let mut tried = 100;
    until("it settles", SETTLES, || {
        // Another value each time: the same one would call for no look.
        tried += 1;
        look(tried).then_some(())
    });
    let before = versions();
    assert!(before.len() >= 7, "{before:?}");
    for round in 1..4 {
        assert!(look(round), "a status was written: {:#}", field.get(VAULT, "events").unwrap());
    }
    assert_eq!(versions(), before);
}

#[test]
fn several_vaults_share_a_namespace_and_one_goes() {
    let field = Field::new().start();
    for name in ["one", "other"] {
        let mut spec = field.vault(&format!("{}{name}-", field.prefix()));
        spec["streams"] = json!([{"name": "orders"}]);
        spec["replicas"] = json!(1);
        field.apply(VAULT, name, &spec);
    }
    for name in ["one", "other"] {
        field.until_ready(VAULT, name);
        append(&field, name, "orders", name);
    }
    for name in ["one", "other"] {
        assert_eq!(texts(&field, name, "orders"), [name]);
    }
    field.delete(VAULT, "one");
    field.until_gone(VAULT, "one");
    until("all that it was made of is gone", SETTLES, || {
        KINDS.iter().chain(&["Pod"]).all(|kind| objects_of(&field, kind, "one").is_empty()).then_some(())
    });
    append(&field, "other", "orders", "again");
    field.until_ready(VAULT, "other");
    until("it is counted no longer", SETTLES, || {
        let (_, text) = field.ask("/metrics").unwrap();
        let count = "messagevault_operator_resources{kind=\"MessageVault\",state=";
        let counts = text.lines().filter(|line| line.starts_with(count) && !line.ends_with(" 0"));
        (counts.collect::<Vec<_>>() == [format!("{count}\"ready\"}} 1")]).then_some(())
    });
    // Its messages stay, and are there again with a vault of that name.
    let mut spec = field.vault(&format!("{}one-", field.prefix()));
    (spec["streams"], spec["replicas"]) = (json!([{"name": "orders"}]), json!(1));
    field.apply(VAULT, "one", &spec);
    field.until_ready(VAULT, "one");
    assert_eq!(texts(&field, "one", "orders"), ["one"]);
}

#[test]
fn a_status_is_not_said_of_another_resource_of_the_same_name() {
    // What the operator relies on: a status that names a resource's version is taken by no later one of its name.
    let field = Field::new();
    let make = || field.apply(STREAM, "till", &json!({"vaultRef": {"name": "events"}}));
    make();
    let api = field.api(STREAM, &field.namespace);
    let version = || field.get(STREAM, "till").unwrap()["metadata"]["resourceVersion"].clone();
    let write = |version: &Value, name: &str| {
        let status = json!({
            "apiVersion": "messagevault.io/v1alpha1", "kind": "VaultStream",
            "metadata": {"name": "till", "resourceVersion": version}, "status": {"streamName": name},
        });
        let parameters = PatchParams::apply("message-vault-operator").force();
        let patch = Patch::Apply(status);
        field.cluster.block_on(async { api.patch_status("till", &parameters, &patch).await })
    };
    let before = version();
    field.delete(STREAM, "till");
    field.until_gone(STREAM, "till");
    make();
    let refused = write(&before, "first").unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 409), "{refused}");
    assert!(field.get(STREAM, "till").unwrap()["status"].is_null());
    write(&version(), "second").unwrap();
    assert_eq!(field.get(STREAM, "till").unwrap()["status"]["streamName"], "second");
}
