//! What is written down in several places is the same everywhere.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use vault_tests::kubernetes::Helm;

use super::{documents, of_kind, read, rendered};

/// The dashboards of the chart.
const DASHBOARDS: [&str; 3] = ["vault", "streams", "operator"];

/// Values that people leave alone or fill as they like.
const OPEN: &[&str] = &[
    "imagePullSecrets",
    "secretNamespaces",
    "serviceAccount.annotations",
    "podAnnotations",
    "podLabels",
    "extraEnv",
    "resources",
    "nodeSelector",
    "tolerations",
    "affinity",
    "serviceMonitor.labels",
    "prometheusRule.labels",
    "dashboards.labels",
    "dashboards.annotations",
    "vault.labels",
    "vault.annotations",
    "vault.spec",
];

/// The names of values, with dots between.
fn leaves(value: &Value, name: &str, all: &mut BTreeSet<String>) {
    match value.as_object() {
        Some(map) if !OPEN.contains(&name) => {
            for (key, value) in map {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                leaves(value, &name, all);
            }
        }
        _ => {
            all.insert(name.to_owned());
        }
    }
}

fn values() -> BTreeSet<String> {
    let values: Value = serde_yaml::from_str(&read("charts/message-vault/values.yaml")).unwrap();
    let mut all = BTreeSet::new();
    leaves(&values, "", &mut all);
    all
}

#[test]
fn the_charts_readme_and_schema_tell_of_every_value() {
    let readme = read("charts/message-vault/README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(rows.map(ToOwned::to_owned).collect::<BTreeSet<_>>(), values());

    let schema: Value = serde_json::from_str(&read("charts/message-vault/values.schema.json")).unwrap();
    for name in values() {
        let mut at = &schema;
        for part in name.split('.') {
            assert_eq!(at["additionalProperties"], false, "{name}");
            at = &at["properties"][part];
        }
        assert!(at.is_object(), "{name} is in the schema");
    }
}

#[test]
fn the_schema_knows_the_fields_of_the_spec() {
    let schema: Value = serde_json::from_str(&read("charts/message-vault/values.schema.json")).unwrap();
    let of_chart = &schema["properties"]["vault"]["properties"]["spec"];
    let crds = documents(&read("manifests/crds/messagevault.io.yaml"));
    let vault = crds.iter().find(|crd| crd["spec"]["names"]["kind"] == "MessageVault").unwrap();
    let of_crd = &vault["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let keys =
        |schema: &Value| schema["properties"].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(of_chart), keys(of_crd));
    for field in ["storage", "access"] {
        assert_eq!(keys(&of_chart["properties"][field]), keys(&of_crd["properties"][field]), "{field}");
    }
}

#[test]
fn the_chart_grants_the_operator_what_the_manifests_grant() {
    // The Lease is called what the operator is.
    let named = json!({ "fullnameOverride": "message-vault" });
    let rules = |documents: &[Value]| {
        let mut rules = BTreeSet::new();
        for role in of_kind(documents, "ClusterRole").into_iter().chain(of_kind(documents, "Role")) {
            for rule in role["rules"].as_array().unwrap() {
                rules.insert(rule.to_string());
            }
        }
        rules
    };
    let chart = documents(&rendered(Helm::Four, &named));
    assert_eq!(rules(&chart), rules(&documents(&read("manifests/rbac.yaml"))));
    let pod = |documents: &[Value]| {
        let deployments = of_kind(documents, "Deployment");
        let mut spec = deployments[0]["spec"]["template"]["spec"].clone();
        let container = spec["containers"][0].as_object_mut().unwrap();
        // The manifests leave the tag to kustomize, and the log's level to the program.
        let image = container.remove("image").unwrap();
        let _ = container.remove("imagePullPolicy");
        container["args"].as_array_mut().unwrap().retain(|argument| argument != "--log=info");
        spec["serviceAccountName"] = json!(null);
        (image.as_str().unwrap().split(':').next().unwrap().to_owned(), spec)
    };
    let chart = documents(&rendered(Helm::Four, &named));
    assert_eq!(pod(&chart), pod(&documents(&read("manifests/operator.yaml"))));
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let objects = documents(&read("vault-operator/src/desired/snapshots/full.yaml"));
    let chart = documents(&rendered(Helm::Four, &json!({ "prometheusRule": { "enabled": true } })));
    let mut alerts = BTreeSet::new();
    for rule in of_kind(&objects, "PrometheusRule").into_iter().chain(of_kind(&chart, "PrometheusRule")) {
        for rule in rule["spec"]["groups"][0]["rules"].as_array().unwrap() {
            let name = rule["alert"].as_str().unwrap();
            let url = rule["annotations"]["runbook_url"].as_str().unwrap();
            assert!(url.ends_with(&format!("docs/runbooks.md#{}", name.to_lowercase())), "{url}");
            for annotation in ["summary", "description"] {
                assert!(rule["annotations"][annotation].is_string(), "{name} has a {annotation}");
            }
            assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()));
            alerts.insert(name.to_owned());
        }
    }
    let runbooks = read("docs/runbooks.md");
    let sections = runbooks.lines().filter_map(|line| line.strip_prefix("### ")).map(ToOwned::to_owned);
    assert_eq!(sections.collect::<BTreeSet<_>>(), alerts);
}

/// The names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let metrics = words.filter(|word| {
        ["messagevault_", "process_"].iter().any(|begin| word.starts_with(begin) && word.len() > begin.len())
    });
    // Histograms are told of by the name of the whole.
    let whole = |name: &str| {
        let suffix = ["_bucket", "_sum", "_count"].into_iter().find(|suffix| name.ends_with(suffix));
        suffix.and_then(|suffix| name.strip_suffix(suffix)).unwrap_or(name).to_owned()
    };
    metrics.map(whole).collect()
}

#[test]
fn alerts_and_dashboards_know_only_metrics_that_there_are() {
    let documented = ["docs/metrics.md", "docs/operator.md"].map(read).concat();
    let rows = documented
        .lines()
        .filter(|line| line.starts_with("| `messagevault_") || line.starts_with("| `process_"));
    let known: BTreeSet<_> = rows.flat_map(metrics).collect();
    let mut asked = metrics(&read("vault-operator/src/desired/snapshots/full.yaml"));
    asked.extend(metrics(&rendered(Helm::Four, &json!({ "prometheusRule": { "enabled": true } }))));
    for name in DASHBOARDS {
        let text = read(&format!("charts/message-vault/dashboards/{name}.json"));
        let dashboard: Value = serde_json::from_str(&text).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                asked.extend(metrics(target["expr"].as_str().unwrap()));
            }
        }
    }
    let unknown: Vec<_> = asked.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn dashboards_have_names_of_their_own_and_panels_that_do_not_overlap() {
    let mut uids = BTreeSet::new();
    for name in DASHBOARDS {
        let text = read(&format!("charts/message-vault/dashboards/{name}.json"));
        let dashboard: Value = serde_json::from_str(&text).unwrap();
        assert!(uids.insert(dashboard["uid"].to_string()));
        let mut cells = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64()), "{name}: {}", panel["title"]);
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
            assert!(x + w <= 24);
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(cells.insert(cell), "{name}: {}", panel["title"]);
            }
        }
    }
}
