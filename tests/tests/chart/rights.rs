//! What the operator, and those who view, edit and administer a namespace, may do and what not.

use serde_json::json;
use vault_tests::kubernetes::{Cluster, Helm};

use super::manifests::installed;
use super::{documents, rendered};

const OPERATOR: &str = "system:serviceaccount:message-vault-system:message-vault-operator";

/// `what` is a resource, with `:` and a subresource or `/` and a name behind it.
fn may(cluster: &Cluster, who: &str, verb: &str, what: &str, namespace: &str) -> bool {
    let (resource, part) = what.split_once(':').unwrap_or((what, ""));
    let (who, namespace) = (format!("--as={who}"), format!("--namespace={namespace}"));
    let part = format!("--subresource={part}");
    let said = cluster.kubectl(["auth", "can-i", verb, resource, &part, &who, &namespace]);
    match String::from_utf8_lossy(&said.out).trim() {
        "yes" => true,
        "no" => false,
        other => panic!("{verb} {what}: {other}{}", said.err),
    }
}

#[test]
fn the_operator_may_do_what_it_must_and_reads_no_secret() {
    let cluster = Cluster::shared();
    let _installed = installed(&cluster);
    for (verb, what) in [
        ("patch", "messagevaults.messagevault.io"),
        ("patch", "vaultstreams.messagevault.io:status"),
        ("update", "messagevaults.messagevault.io:finalizers"),
        ("create", "deployments.apps"),
        ("delete", "services"),
        ("create", "serviceaccounts:token"),
        ("list", "pods"),
        ("create", "events.events.k8s.io"),
    ] {
        assert!(may(&cluster, OPERATOR, verb, what, "default"), "{verb} {what}");
    }
    for (verb, what) in [
        ("get", "secrets"),
        ("list", "secrets"),
        ("create", "messagevaults.messagevault.io"),
        ("delete", "messagevaults.messagevault.io"),
        ("delete", "pods"),
        ("create", "pods:exec"),
        ("create", "clusterrolebindings.rbac.authorization.k8s.io"),
        ("get", "customresourcedefinitions.apiextensions.k8s.io"),
        ("create", "leases.coordination.k8s.io"),
        ("deletecollection", "deployments.apps"),
    ] {
        assert!(!may(&cluster, OPERATOR, verb, what, "default"), "{verb} {what}");
    }
    assert!(may(&cluster, OPERATOR, "create", "leases.coordination.k8s.io", "message-vault-system"));
    let lease = "leases.coordination.k8s.io/message-vault-operator";
    assert!(may(&cluster, OPERATOR, "update", lease, "message-vault-system"));
    let another = "leases.coordination.k8s.io/another";
    assert!(!may(&cluster, OPERATOR, "update", another, "message-vault-system"));
}

#[test]
fn secrets_are_read_in_the_namespaces_that_are_named_and_one_namespace_may_be_all() {
    let cluster = Cluster::shared();
    let _installed = installed(&cluster);
    let [named, other] = [cluster.namespace(), cluster.namespace()];
    let values = json!({
        "fullnameOverride": "one",
        "crds": { "enabled": false },
        "watchNamespace": named,
        "secretNamespaces": [named],
    });
    let rights = documents(&rendered(Helm::Four, &values)).into_iter().filter(|document| {
        let kind = document["kind"].as_str().unwrap();
        kind.contains("Role") && !document["metadata"]["labels"].to_string().contains("aggregate-to")
    });
    let mut text: Vec<_> = rights.map(|document| document.to_string()).collect();
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "system" } });
    text.insert(0, namespace.to_string());
    let _ = cluster.kubectl_in(&text.join("\n---\n"), ["apply", "--filename=-"]).expect(0);
    let one = "system:serviceaccount:system:one-operator";
    assert!(may(&cluster, one, "get", "secrets", &named) && !may(&cluster, one, "get", "secrets", &other));
    assert!(!may(&cluster, one, "list", "secrets", &named));
    let lease = "leases.coordination.k8s.io/one-operator";
    assert!(may(&cluster, one, "update", lease, "system") && !may(&cluster, one, "update", lease, &named));
    for what in ["deployments.apps", "messagevaults.messagevault.io", "services"] {
        assert!(may(&cluster, one, "list", what, &named), "{what}");
        assert!(!may(&cluster, one, "list", what, &other), "{what}");
    }
}

#[test]
fn who_views_edits_or_administers_a_namespace_does_so_with_vaults_and_streams() {
    let cluster = Cluster::shared();
    let _installed = installed(&cluster);
    let namespace = cluster.namespace();
    for role in ["view", "edit", "admin"] {
        let (cluster_role, user) = (format!("--clusterrole={role}"), format!("--user={role}-of-{namespace}"));
        let of = format!("--namespace={namespace}");
        let _ = cluster.kubectl(["create", "rolebinding", role, &cluster_role, &user, &of]).expect(0);
    }
    for (verb, what, allowed) in [
        ("get", "messagevaults.messagevault.io", [true, true, true]),
        ("list", "vaultstreams.messagevault.io", [true, true, true]),
        ("create", "vaultstreams.messagevault.io", [false, true, true]),
        ("patch", "messagevaults.messagevault.io:scale", [false, true, true]),
        ("create", "messagevaults.messagevault.io", [false, false, true]),
        ("patch", "messagevaults.messagevault.io:status", [false, false, false]),
    ] {
        for (role, allowed) in ["view", "edit", "admin"].into_iter().zip(allowed) {
            let who = format!("{role}-of-{namespace}");
            // The controller that puts roles together takes its time.
            let right = || may(&cluster, &who, verb, what, &namespace) == allowed;
            vault_tests::wait::until(
                &format!("{role} {verb} {what}: {allowed}"),
                vault_tests::wait::LONG,
                || right().then_some(()),
            );
        }
    }
}
