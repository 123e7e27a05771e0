//! What is made of vaults: as a whole, by snapshots; field by field, by the table in `changes.md`; and what holds for all.

mod changes;
mod properties;
mod snapshots;

use serde_json::{Value, json};

use super::*;

/// What an operator in an ordinary cluster goes by, which keeps its issuer to itself.
fn options() -> Options {
    Options {
        server_image: "ghcr.io/message-vault/message-vault-server:0.1.0".to_owned(),
        cluster_issuer: Some(ClusterIssuer {
            url: "https://kubernetes.default.svc.cluster.local".to_owned(),
            in_cluster: true,
        }),
        monitoring: true,
    }
}

fn facts() -> Facts {
    Facts {
        vault_uid: Some("0f8fad5b-d9cb-469f-a165-70867728950e".to_owned()),
        tenant_id: Some("11111111-1111-1111-1111-111111111111".to_owned()),
        credential_hash: Some("5f4dcc3b5aa765d6".to_owned()),
    }
}

/// A vault `orders` in the namespace `shop`, as the API server would have it.
fn vault(spec: &Value) -> MessageVault {
    serde_json::from_value(json!({
        "apiVersion": "messagevault.io/v1alpha1",
        "kind": "MessageVault",
        "metadata": { "name": "orders", "namespace": "shop", "uid": "7c9e6679-7425-40de-944b-e07fc1f90ae7" },
        "spec": spec,
    }))
    .unwrap()
}

/// No more than must be said.
fn minimal() -> Value {
    json!({
        "storage": {
            "account": "mystorage",
            "workloadIdentity": { "clientId": "22222222-2222-2222-2222-222222222222" },
        },
        "access": { "serviceAccounts": [{ "name": "till", "grants": ["orders:write"] }] },
    })
}

/// Nearly all that can be said.
fn full() -> Value {
    json!({
        "replicas": 3,
        "image": "registry.example/message-vault-server@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "storage": {
            "endpoint": "https://mystorage.blob.core.usgovcloudapi.net",
            "accounts": ["https://mystorage2.blob.core.usgovcloudapi.net", "https://mystorage3.blob.core.usgovcloudapi.net"],
            "prefix": "orders-",
            "workloadIdentity": {
                "clientId": "22222222-2222-2222-2222-222222222222",
                "tenantId": "33333333-3333-3333-3333-333333333333",
            },
        },
        "streams": [{ "name": "paid", "settings": { "codec": "zstd" }, "deletionPolicy": "Delete" }],
        "access": {
            "serviceAccounts": [
                { "name": "till", "grants": ["paid:write", "shop-*:read"] },
                { "namespace": "analytics", "name": "*", "grants": ["all:read"] },
            ],
            "issuers": [{
                "url": "https://login.microsoftonline.com/33333333-3333-3333-3333-333333333333/v2.0",
                "audience": "55555555-6666-7777-8888-999999999999",
                "grants": [
                    { "claims": { "roles": "vault-admin" }, "grants": ["all:admin"] },
                    { "subject": "*", "claims": { "groups": "shop" }, "grants": ["paid:read"] },
                ],
            }],
            "usersSecretRef": { "name": "orders-users", "key": "users.yaml" },
        },
        "allowedNamespaces": { "from": "Selector", "selector": { "matchLabels": { "streams": "yes" } } },
        "resources": { "requests": { "cpu": "1", "memory": "1Gi" }, "limits": { "memory": "4Gi" } },
        "scheduling": {
            "nodeSelector": { "kubernetes.io/os": "linux" },
            "tolerations": [{ "key": "dedicated", "operator": "Exists" }],
            "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchExpressions": [{ "key": "pool", "operator": "In", "values": ["a"] }] }],
            } } },
            "topologySpreadConstraints": [{
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": { "matchLabels": { "app.kubernetes.io/instance": "orders" } },
            }],
            "priorityClassName": "important",
            "imagePullSecrets": ["registry"],
            "annotations": { "example.com/team": "shop" },
            "labels": { "example.com/cost-centre": "7", "app.kubernetes.io/name": "is-not-changed" },
        },
        "service": {
            "type": "LoadBalancer",
            "annotations": { "service.beta.kubernetes.io/azure-load-balancer-internal": "true" },
        },
        "monitoring": { "serviceMonitor": true, "rules": true, "labels": { "release": "prometheus" } },
        "networkPolicy": { "from": [{ "namespaceSelector": { "matchLabels": { "shop": "yes" } } }] },
        "tls": { "secretName": "orders-tls", "caKey": "ca.crt" },
        "limits": { "maxConnections": 1000, "maxMessageBytes": 65536, "appendTimeoutSeconds": 10 },
        "log": "info,audit=off",
    })
}

/// A connection string from a Secret, and nobody let in but users.
fn secret_ref() -> Value {
    json!({
        "replicas": 1,
        "storage": { "account": "mystorage", "secretRef": { "name": "orders-storage", "key": "connection" } },
        "access": { "usersSecretRef": { "name": "orders-users" } },
    })
}

/// An emulator, open to everybody.
fn emulator() -> Value {
    json!({
        "storage": { "endpoint": "http://azurite:10000/devstoreaccount1", "emulator": {} },
        "access": { "anonymous": true },
        "networkPolicy": { "enabled": false },
    })
}
