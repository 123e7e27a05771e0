//! The alerts: each fires when it should, and none of them while all is well.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Value, json};
use vault_tests::kubernetes::Helm;
use vault_tests::prometheus::promtool;

use super::{documents, of_kind, read, rendered};

/// Of the vault `orders` in the namespace `shop`, which has three servers and takes 1000 connections each.
const OF: &str = r#"namespace="shop",vault="orders""#;

/// Of the release `mv` in the namespace `system`.
const OPERATOR: &str = r#"namespace="system",service="mv-message-vault-operator""#;

/// The rules of the snapshot with all that can be said, and of the chart.
fn groups() -> Vec<Value> {
    let objects = documents(&read("vault-operator/src/desired/snapshots/full.yaml"));
    let chart = documents(&rendered(Helm::Four, &json!({ "prometheusRule": { "enabled": true } })));
    let rules = of_kind(&objects, "PrometheusRule").into_iter().chain(of_kind(&chart, "PrometheusRule"));
    rules.flat_map(|rule| rule["spec"]["groups"].as_array().unwrap().clone()).collect()
}

fn names(groups: &[Value]) -> BTreeSet<String> {
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
    rules.map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect()
}

/// What is scraped each minute while all is well.
fn well() -> Vec<(String, &'static str)> {
    let mut series = Vec::new();
    for pod in ["a", "b", "c"] {
        let of = format!(r#"{OF},pod="{pod}""#);
        series.extend([
            (format!("messagevault_ready{{{of}}}"), "1x90"),
            (format!("messagevault_leading{{{of}}}"), if pod == "a" { "1x90" } else { "0x90" }),
            (format!("messagevault_terms_total{{{of}}}"), "1x90"),
            (format!(r#"messagevault_lease_renewals_total{{{of},outcome="renewed"}}"#), "0+12x90"),
            (format!(r#"messagevault_lease_renewals_total{{{of},outcome="failed"}}"#), "0x90"),
            (format!(r#"messagevault_http_requests_total{{{of},status="2xx"}}"#), "0+6000x90"),
            (format!(r#"messagevault_http_requests_total{{{of},status="5xx"}}"#), "0+1x90"),
            (format!("messagevault_connections{{{of}}}"), "100x90"),
            (format!(r#"messagevault_stream_condition{{{of},stream="paid",condition="open"}}"#), "1x90"),
            (format!(r#"messagevault_appends_refused_total{{{of},code="offset_mismatch"}}"#), "0+60x90"),
            (
                format!(r#"messagevault_storage_requests_total{{{of},operation="put",outcome="ok"}}"#),
                "0+600x90",
            ),
            (
                format!(
                    r#"messagevault_storage_requests_total{{{of},operation="put",outcome="unavailable"}}"#
                ),
                "0x90",
            ),
            (format!(r#"messagevault_commit_duration_seconds_bucket{{{of},le="0.1"}}"#), "0+600x90"),
            (format!(r#"messagevault_commit_duration_seconds_bucket{{{of},le="5"}}"#), "0+600x90"),
            (format!(r#"messagevault_commit_duration_seconds_bucket{{{of},le="+Inf"}}"#), "0+600x90"),
        ]);
    }
    series.extend([
        (format!("messagevault_operator_leading{{{OPERATOR}}}"), "1x90"),
        (
            format!(r#"messagevault_operator_resources{{{OPERATOR},kind="MessageVault",state="ready"}}"#),
            "1x90",
        ),
        (
            format!(r#"messagevault_operator_resources{{{OPERATOR},kind="MessageVault",state="stalled"}}"#),
            "0x90",
        ),
    ]);
    series
}

/// An alert, what is scraped instead when it should fire, and the minute by which it does.
type Trouble = (&'static str, Vec<(String, &'static str)>, u32);

/// One for each alert.
fn trouble() -> Vec<Trouble> {
    let pod = |name: &str, more: &str| format!(r#"{name}{{{OF},pod="a"{more}"#);
    let condition = |condition: &str| {
        format!(r#"messagevault_stream_condition{{{OF},pod="a",stream="bad",condition="{condition}"}}"#)
    };
    let refused = |code: &str| pod("messagevault_appends_refused_total", &format!(r#",code="{code}"}}"#));
    let resource = |state: &str| {
        format!(r#"messagevault_operator_resources{{{OPERATOR},kind="VaultStream",state="{state}"}}"#)
    };
    let every =
        |name: &str, value| ["a", "b", "c"].map(|pod| (format!(r#"{name}{{{OF},pod="{pod}"}}"#), value));
    vec![
        ("MessageVaultDown", every("messagevault_ready", "0x90").into(), 3),
        ("MessageVaultNotReady", vec![(pod("messagevault_ready", "}"), "0x90")], 11),
        ("MessageVaultNoLeader", vec![(pod("messagevault_leading", "}"), "0x90")], 2),
        ("MessageVaultLeaderChanges", vec![(pod("messagevault_terms_total", "}"), "0+1x90")], 20),
        (
            "MessageVaultLeaseRenewalsFailing",
            vec![(pod("messagevault_lease_renewals_total", r#",outcome="failed"}"#), "0+1x90")],
            10,
        ),
        (
            "MessageVaultServerErrors",
            vec![(pod("messagevault_http_requests_total", r#",status="5xx"}"#), "0+1000x90")],
            16,
        ),
        ("MessageVaultConnectionsExhausted", vec![(pod("messagevault_connections", "}"), "950x90")], 6),
        ("MessageVaultStreamDataMissing", vec![(condition("data_missing"), "1x90")], 0),
        ("MessageVaultStreamCorrupt", vec![(condition("corrupt"), "1x90")], 0),
        ("MessageVaultStreamStalled", vec![(condition("two_accounts"), "1x90")], 6),
        ("MessageVaultStreamFull", vec![(refused("stream_full"), "0+1x90")], 5),
        ("MessageVaultAppendsRefused", vec![(refused("no_leader"), "0+1x90")], 8),
        (
            "MessageVaultStorageErrors",
            vec![(
                pod("messagevault_storage_requests_total", r#",operation="put",outcome="unavailable"}"#),
                "0+60x90",
            )],
            8,
        ),
        (
            "MessageVaultCommitsSlow",
            vec![
                (pod("messagevault_commit_duration_seconds_bucket", r#",le="0.1"}"#), "0+10x90"),
                (pod("messagevault_commit_duration_seconds_bucket", r#",le="5"}"#), "0+600x90"),
            ],
            16,
        ),
        (
            "MessageVaultOperatorDown",
            vec![(format!("messagevault_operator_leading{{{OPERATOR}}}"), "0x90")],
            11,
        ),
        ("MessageVaultResourceStalled", vec![(resource("stalled"), "1x90")], 11),
        ("MessageVaultResourceNotReady", vec![(resource("reconciling"), "1x90")], 31),
    ]
}

/// A test of promtool: with these series, at this minute, so many firing alerts of a name.
fn case(series: &[(String, &'static str)], minute: u32, alert: &str, firing: Option<u32>) -> String {
    let mut text = "- interval: 1m\n  input_series:\n".to_owned();
    for (name, values) in series {
        let _ = writeln!(text, "  - {{series: '{name}', values: '{values}'}}");
    }
    let samples = firing.map_or("[]".to_owned(), |count| format!("[{{labels: '{{}}', value: {count}}}]"));
    let _ = writeln!(
        text,
        "  promql_expr_test:\n  - expr: count(ALERTS{{alertstate=\"firing\",alertname=~\"{alert}\"}})\n    \
         eval_time: {minute}m\n    exp_samples: {samples}",
    );
    text
}

fn changed(changes: &[(String, &'static str)]) -> Vec<(String, &'static str)> {
    let kept = well().into_iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    kept.chain(changes.iter().cloned()).collect()
}

#[test]
fn every_alert_fires_when_it_should_and_none_while_all_is_well() {
    let groups = groups();
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.json");
    std::fs::write(&rules, json!({ "groups": groups }).to_string()).unwrap();
    let (fine, said) = promtool([std::ffi::OsStr::new("check"), "rules".as_ref(), rules.as_os_str()]);
    assert!(fine, "{said}");

    let trouble = trouble();
    let tried: BTreeSet<_> = trouble.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(tried, names(&groups), "each alert is tried");
    let mut cases = case(&well(), 80, ".*", None);
    for (name, changes, minute) in &trouble {
        cases += &case(&changed(changes), *minute, name, Some(1));
        // What holds for a moment calls nobody.
        if *minute > 1 {
            cases += &case(&changed(changes), 0, name, None);
        }
    }
    // No server is scraped any more.
    let others: Vec<_> = well().into_iter().filter(|(name, _)| !name.contains("vault=\"orders\"")).collect();
    cases += &case(&others, 3, "MessageVaultDown", Some(1));
    let tests = folder.path().join("tests.yaml");
    std::fs::write(&tests, format!("rule_files: [rules.json]\nevaluation_interval: 1m\ntests:\n{cases}"))
        .unwrap();
    let (fine, said) = promtool([std::ffi::OsStr::new("test"), "rules".as_ref(), tests.as_os_str()]);
    assert!(fine, "{said}");
}
