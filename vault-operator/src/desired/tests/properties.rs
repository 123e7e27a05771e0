//! What holds for all vaults.

use super::*;
use crate::api::names::VAULT_LABEL;

fn every_vault() -> Vec<(Value, Vec<DynamicObject>)> {
    let specs = [minimal(), full(), secret_ref(), emulator()];
    specs.into_iter().map(|spec| (spec.clone(), desired(&vault(&spec), &options(), &facts()))).collect()
}

fn deployment_of(objects: &[DynamicObject]) -> &Value {
    let of_kind = |object: &&DynamicObject| object.types.as_ref().unwrap().kind == "Deployment";
    &objects.iter().find(of_kind).unwrap().data["spec"]
}

fn arguments(spec: &Value, options: &Options) -> Vec<String> {
    let objects = desired(&vault(spec), options, &facts());
    let container = &deployment_of(&objects)["template"]["spec"]["containers"][0];
    serde_json::from_value(container["args"].clone()).unwrap()
}

#[test]
fn everything_is_owned_labelled_and_of_a_kind_that_can_be_pruned() {
    for (_, objects) in every_vault() {
        let mut seen = std::collections::BTreeSet::new();
        for object in objects {
            let types = object.types.clone().unwrap();
            let known = kinds(true)
                .iter()
                .any(|kind| kind.kind == types.kind && kind.api_version == types.api_version);
            assert!(known, "{types:?}");
            let metadata = object.metadata;
            assert_eq!(metadata.namespace.as_deref(), Some("shop"));
            let name = metadata.name.unwrap();
            assert!(name == "orders" || name.starts_with("orders-"), "{name}");
            assert!(seen.insert((types.kind, name)));
            let labels = metadata.labels.unwrap();
            for (label, value) in [
                ("app.kubernetes.io/name", "message-vault"),
                ("app.kubernetes.io/instance", "orders"),
                ("app.kubernetes.io/component", "server"),
                ("app.kubernetes.io/managed-by", "message-vault-operator"),
                (VAULT_LABEL, "orders"),
            ] {
                assert_eq!(labels[label], value);
            }
            let [owner] = &metadata.owner_references.unwrap()[..] else { panic!("one owner") };
            assert_eq!(owner.api_version, "messagevault.io/v1alpha1");
            assert_eq!((&*owner.kind, &*owner.name), ("MessageVault", "orders"));
            assert_eq!(owner.uid, "7c9e6679-7425-40de-944b-e07fc1f90ae7");
            assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(true)));
        }
    }
}

#[test]
fn without_its_crds_nothing_of_the_prometheus_operator_is_made() {
    let options = Options { monitoring: false, ..options() };
    for object in desired(&vault(&full()), &options, &facts()) {
        let kind = object.types.unwrap().kind;
        assert!(kinds(false).iter().any(|known| known.kind == kind), "{kind}");
    }
    assert_eq!(kinds(true).len(), kinds(false).len() + 2);
}

#[test]
fn a_deployment_selects_its_own_pods_by_labels_that_never_change() {
    for (_, objects) in every_vault() {
        let spec = deployment_of(&objects);
        let selected = spec["selector"]["matchLabels"].as_object().unwrap();
        assert_eq!(serde_json::to_value(selector("orders")).unwrap(), json!(selected));
        let labels = spec["template"]["metadata"]["labels"].as_object().unwrap();
        assert!(selected.iter().all(|(label, value)| labels[label] == *value), "{labels:?}");
    }
}

#[test]
fn pods_may_run_in_a_namespace_that_is_restricted() {
    for (_, objects) in every_vault() {
        let pod = &deployment_of(&objects)["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(
            (&pod["automountServiceAccountToken"], &pod["enableServiceLinks"]),
            (&json!(false), &json!(false))
        );
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!(container["allowPrivilegeEscalation"], false);
        assert_eq!(container["readOnlyRootFilesystem"], true);
        assert_eq!(container["capabilities"], json!({ "drop": ["ALL"] }));
        let mounts = pod["containers"][0]["volumeMounts"].as_array().cloned().unwrap_or_default();
        assert!(mounts.iter().all(|mount| mount["readOnly"] == true && mount.get("subPath").is_none()));
    }
}

#[test]
fn every_mount_has_its_volume() {
    for (_, objects) in every_vault() {
        let pod = &deployment_of(&objects)["template"]["spec"];
        let names = |list: &Value| -> Vec<String> {
            let list = list.as_array().cloned().unwrap_or_default();
            list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&pod["volumes"]), names(&pod["containers"][0]["volumeMounts"]));
    }
}

#[test]
fn a_token_for_the_api_server_is_there_where_it_is_needed_alone() {
    let kubernetes = |spec: &Value, options: &Options| {
        let objects = desired(&vault(spec), options, &facts());
        deployment_of(&objects).to_string().contains("kube-root-ca.crt")
    };
    assert!(kubernetes(&minimal(), &options()));
    assert!(!kubernetes(&secret_ref(), &options()) && !kubernetes(&emulator(), &options()));
    let issuer = ClusterIssuer { url: "https://issuer.example".to_owned(), in_cluster: false };
    assert!(!kubernetes(&minimal(), &Options { cluster_issuer: Some(issuer), ..options() }));
}

#[test]
fn the_servers_own_parser_takes_the_flags() {
    for (spec, _) in every_vault() {
        let arguments = arguments(&spec, &options());
        // What the kubelet puts in.
        let given = arguments.iter().map(|argument| argument.replace("$(POD_IP)", "10.0.0.1").into());
        let program = std::iter::once("vault-server".into());
        let config = vault_server::config::Config::read(program.chain(given)).unwrap();
        assert_eq!(config.vault_uid.as_deref(), Some("0f8fad5b-d9cb-469f-a165-70867728950e"));
        assert!(config.listen.ip().is_unspecified() && config.log_format.is_json());
    }
}

#[test]
fn one_server_has_no_disruption_budget_and_more_have_one() {
    let budget = |spec: &Value| {
        let objects = desired(&vault(spec), &options(), &facts());
        objects.iter().any(|object| object.types.as_ref().unwrap().kind == "PodDisruptionBudget")
    };
    assert!(budget(&minimal()) && !budget(&secret_ref()));
}

#[test]
fn the_cluster_has_one_issuer_and_each_issuer_one_entry() {
    let unknown = Options { cluster_issuer: None, ..options() };
    assert_eq!(check(&vault(&minimal()), &unknown), Err(Unworkable::NoClusterIssuer));
    assert_eq!(check(&vault(&secret_ref()), &unknown), Ok(()));
    let mut spec = full();
    let issuer = spec["access"]["issuers"][0].clone();
    spec["access"]["issuers"] = json!([issuer, issuer]);
    let url = issuer["url"].as_str().unwrap().to_owned();
    assert_eq!(check(&vault(&spec), &options()), Err(Unworkable::IssuerTwice { index: 1, url }));
    spec["access"]["issuers"] = json!([issuer]);
    spec["access"]["issuers"][0]["url"] = json!("https://kubernetes.default.svc.cluster.local");
    assert!(matches!(check(&vault(&spec), &options()), Err(Unworkable::IssuerTwice { index: 0, .. })));
}

#[test]
fn an_access_file_that_does_not_fit_is_refused() {
    let grants: Vec<_> = (0..100).map(|n| format!("{}{n}:write", "a".repeat(50))).collect();
    let accounts: Vec<_> = (0..500).map(|n| json!({ "name": format!("a{n}"), "grants": grants })).collect();
    let mut spec = minimal();
    spec["access"] = json!({ "serviceAccounts": accounts });
    assert!(matches!(check(&vault(&spec), &options()), Err(Unworkable::AccessTooLong { .. })));
}

#[test]
fn the_servers_own_parser_takes_every_access_file_and_what_it_refuses_is_told() {
    for spec in [minimal(), full(), secret_ref()] {
        check(&vault(&spec), &options()).unwrap();
    }
    // The CRD's pattern lets it pass.
    let mut spec = minimal();
    spec["access"]["serviceAccounts"][0]["grants"] = json!([":read"]);
    let wrong = check(&vault(&spec), &options()).unwrap_err().to_string();
    assert!(wrong.contains("issuers[0].grants[0].grants") && wrong.contains("a grant is"), "{wrong}");
}

#[test]
fn there_are_no_servers_until_the_vault_in_storage_is_known_and_everything_else_is() {
    let before = desired(&vault(&full()), &options(), &Facts { vault_uid: None, ..facts() });
    let after = desired(&vault(&full()), &options(), &facts());
    let new: Vec<_> = after.iter().filter(|object| !before.contains(object)).collect();
    assert_eq!(after.len(), before.len() + 1);
    assert_eq!(new[0].types.as_ref().unwrap().kind, "Deployment");
}
