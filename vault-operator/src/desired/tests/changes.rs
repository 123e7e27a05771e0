//! The table of what a change of the spec changes, tried row by row.

use std::collections::{BTreeMap, BTreeSet};

use kube::CustomResourceExt;

use super::*;

/// A row of the table: the field, the kinds of objects that change, and whether pods are replaced.
type Row = (BTreeSet<String>, bool);

fn table() -> BTreeMap<String, Row> {
    let rows = include_str!("../changes.md").lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let kinds = cells[1].split(", ").map(ToOwned::to_owned).collect();
        let replaced = match cells[2] {
            "replaced" => true,
            "stay" => false,
            other => panic!("{line}: {other}"),
        };
        (cells[0].replace('`', ""), (kinds, replaced))
    })
    .collect()
}

/// For each row a vault and what is merged into its spec.
fn changes() -> Vec<(&'static str, Value, Value)> {
    let peer = json!({ "podSelector": { "matchLabels": { "a": "b" } } });
    let users_only = json!({ "access": { "serviceAccounts": null, "usersSecretRef": { "name": "users" } } });
    vec![
        ("replicas", full(), json!({ "replicas": 1 })),
        ("image", full(), json!({ "image": null })),
        ("storage.account", minimal(), json!({ "storage": { "account": "another" } })),
        ("storage.endpoint", full(), json!({ "storage": { "endpoint": "https://a.b.c" } })),
        (
            "storage.accounts",
            full(),
            json!({ "storage": { "accounts": ["https://mystorage2.blob.core.usgovcloudapi.net"] } }),
        ),
        ("storage.prefix", full(), json!({ "storage": { "prefix": "a-" } })),
        (
            "storage.workloadIdentity.clientId",
            full(),
            json!({ "storage": { "workloadIdentity": { "clientId": "a" } } }),
        ),
        (
            "storage.workloadIdentity.tenantId",
            full(),
            json!({ "storage": { "workloadIdentity": { "tenantId": null } } }),
        ),
        ("storage.secretRef.name", secret_ref(), json!({ "storage": { "secretRef": { "name": "a" } } })),
        ("storage.secretRef.key", secret_ref(), json!({ "storage": { "secretRef": { "key": "a" } } })),
        (
            "storage, another way in",
            minimal(),
            json!({ "storage": { "workloadIdentity": null, "secretRef": { "name": "a" } } }),
        ),
        (
            "access.anonymous",
            secret_ref(),
            json!({ "access": { "usersSecretRef": null, "anonymous": true } }),
        ),
        (
            "access.serviceAccounts",
            full(),
            json!({ "access": { "serviceAccounts": [{ "name": "a", "grants": ["a:read"] }] } }),
        ),
        (
            "access.serviceAccounts, the first one",
            merge(minimal(), &users_only),
            minimal()["access"].as_object().map(|access| json!({ "access": access })).unwrap(),
        ),
        ("access.issuers", full(), json!({ "access": { "issuers": [] } })),
        ("access.usersSecretRef.name", full(), json!({ "access": { "usersSecretRef": { "name": "a" } } })),
        ("access.usersSecretRef.key", full(), json!({ "access": { "usersSecretRef": { "key": "a" } } })),
        ("resources", full(), json!({ "resources": null })),
        ("scheduling.nodeSelector", full(), json!({ "scheduling": { "nodeSelector": { "a": "b" } } })),
        ("scheduling.tolerations", full(), json!({ "scheduling": { "tolerations": [] } })),
        ("scheduling.affinity", full(), json!({ "scheduling": { "affinity": null } })),
        (
            "scheduling.topologySpreadConstraints",
            full(),
            json!({ "scheduling": { "topologySpreadConstraints": [] } }),
        ),
        ("scheduling.priorityClassName", full(), json!({ "scheduling": { "priorityClassName": null } })),
        ("scheduling.imagePullSecrets", full(), json!({ "scheduling": { "imagePullSecrets": ["a"] } })),
        ("scheduling.annotations", full(), json!({ "scheduling": { "annotations": { "a": "b" } } })),
        ("scheduling.labels", full(), json!({ "scheduling": { "labels": { "a": "b" } } })),
        ("service.type", minimal(), json!({ "service": { "type": "LoadBalancer" } })),
        ("service.annotations", full(), json!({ "service": { "annotations": { "a": "b" } } })),
        ("monitoring.serviceMonitor", full(), json!({ "monitoring": { "serviceMonitor": false } })),
        ("monitoring.rules", full(), json!({ "monitoring": { "rules": false } })),
        ("monitoring.labels", full(), json!({ "monitoring": { "labels": { "a": "b" } } })),
        ("networkPolicy.enabled", full(), json!({ "networkPolicy": { "enabled": false } })),
        ("networkPolicy.from", full(), json!({ "networkPolicy": { "from": [peer] } })),
        ("tls", full(), json!({ "tls": null })),
        ("tls.secretName", full(), json!({ "tls": { "secretName": "a" } })),
        ("tls.caKey", full(), json!({ "tls": { "caKey": "a" } })),
        ("limits.maxConnections", full(), json!({ "limits": { "maxConnections": 7 } })),
        ("limits.maxMessageBytes", full(), json!({ "limits": { "maxMessageBytes": 7 } })),
        ("limits.appendTimeoutSeconds", full(), json!({ "limits": { "appendTimeoutSeconds": 7 } })),
        ("log", full(), json!({ "log": "debug" })),
    ]
}

/// Fields of which nothing is seen in the cluster: the operator acts on storage for them.
const NOTHING: &[&str] = &["streams", "allowedNamespaces", "storage.emulator"];

/// A merge patch (RFC 7396).
fn merge(mut into: Value, patch: &Value) -> Value {
    let (Some(map), Some(patch)) = (into.as_object_mut(), patch.as_object()) else { return patch.clone() };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            let old = map.remove(key).unwrap_or(Value::Null);
            map.insert(key.clone(), merge(old, value));
        }
    }
    into
}

/// The kinds of objects that differ, and whether pods do.
fn difference(before: &Value, after: &Value) -> Row {
    let [before, after] = [before, after].map(|spec| {
        let objects = desired(&vault(spec), &options(), &facts());
        let named = objects.into_iter().map(|object| {
            let kind = object.types.as_ref().unwrap().kind.clone();
            ((kind, object.metadata.name.clone().unwrap()), object)
        });
        named.collect::<BTreeMap<_, _>>()
    });
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed: Vec<_> = keys.into_iter().filter(|key| before.get(key) != after.get(key)).collect();
    let template = |objects: &BTreeMap<(String, String), DynamicObject>| {
        objects.iter().find(|((kind, _), _)| kind == "Deployment").unwrap().1.data["spec"]["template"].clone()
    };
    let replaced = template(&before) != template(&after);
    (changed.into_iter().map(|(kind, _)| kind.clone()).collect(), replaced)
}

#[test]
fn a_change_changes_what_the_table_says_and_nothing_else() {
    let mut table = table();
    for (field, base, patch) in changes() {
        let says = table.remove(field).unwrap_or_else(|| panic!("{field} is not in the table"));
        assert_eq!(difference(&base, &merge(base.clone(), &patch)), says, "{field}");
    }
    assert!(table.is_empty(), "rows that are not tried: {:?}", table.keys());
    for patch in [json!({ "streams": [] }), json!({ "allowedNamespaces": { "from": "All" } })] {
        assert_eq!(difference(&full(), &merge(full(), &patch)), (BTreeSet::new(), false), "{patch}");
    }
}

#[test]
fn every_field_is_in_the_table() {
    let crd = MessageVault::crd();
    let schema = serde_json::to_value(crd.spec.versions[0].schema.as_ref().unwrap()).unwrap();
    let spec = &schema["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let mut missing = Vec::new();
    let table = table();
    let told = |field: &str| table.keys().any(|key| key == field) || NOTHING.contains(&field);
    let mut left: Vec<_> =
        spec.as_object().unwrap().iter().map(|(name, field)| (name.clone(), field)).collect();
    while let Some((name, field)) = left.pop() {
        match field["properties"].as_object() {
            _ if told(&name) && name != "tls" => {}
            Some(fields) => {
                left.extend(fields.iter().map(|(inner, field)| (format!("{name}.{inner}"), field)));
            }
            None if !told(&name) => missing.push(name),
            None => {}
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn pods_are_replaced_when_the_connection_string_or_the_vault_in_storage_changes() {
    let objects = |facts: &Facts| desired(&vault(&secret_ref()), &options(), facts);
    let before = objects(&facts());
    for changed in [
        Facts { credential_hash: Some("another".to_owned()), ..facts() },
        Facts { vault_uid: Some("another".to_owned()), ..facts() },
    ] {
        let after = objects(&changed);
        let differ: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert_eq!(differ.len(), 1);
        assert_eq!(differ[0].0.types.as_ref().unwrap().kind, "Deployment");
    }
    // The hash is of no account where there is no Secret.
    let of_identity = |facts: &Facts| desired(&vault(&minimal()), &options(), facts);
    assert_eq!(of_identity(&facts()), of_identity(&Facts { credential_hash: None, ..facts() }));
}
