//! The alerts of a vault, made of the metrics that its servers tell (docs/metrics.md).

use kube::ResourceExt;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::MessageVault;

/// Where it is told what an alert means and what to do, one section each.
pub const RUNBOOKS: &str = "https://github.com/message-vault/message-vault/blob/main/docs/runbooks.md";

/// Answers to appends that somebody who runs the vault should know of. The others are of the callers' own making.
const TROUBLE: &str = "corrupt|data_missing|format_too_new|no_leader|not_ready|offsets_exhausted|overloaded|queue_full|\
                       storage_full|storage_unavailable|timed_out|two_accounts";

/// Connections that a server takes at once where the spec does not say.
const DEFAULT_CONNECTIONS: i64 = 16_384;

/// How bad it is.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    /// Messages cannot be appended or read, or may be lost: now.
    Critical,
    /// It will become worse: today.
    Warning,
}

use Severity::{Critical, Warning};

struct Alert {
    name: &'static str,
    expr: String,
    /// How long it must hold.
    holds: &'static str,
    severity: Severity,
    summary: &'static str,
    description: &'static str,
}

/// The rules of a PrometheusRule. They look at what is scraped under the labels `namespace` and `vault`, as the
/// ServiceMonitor has it.
pub(super) fn alerts(vault: &MessageVault) -> Vec<Value> {
    let (name, namespace) = (vault.name_any(), vault.namespace().unwrap_or_default());
    let of = format!(r#"namespace="{namespace}",vault="{name}""#);
    let connections = vault.spec.limits.max_connections.unwrap_or(DEFAULT_CONNECTIONS);
    let alerts = of_servers(&of, vault.spec.replicas, connections)
        .into_iter()
        .chain(of_streams(&of))
        .chain(of_storage(&of));
    alerts
        .map(|alert| {
            json!({
                "alert": alert.name,
                "expr": alert.expr,
                "for": alert.holds,
                "labels": { "severity": alert.severity, "namespace": namespace, "vault": name },
                "annotations": {
                    "summary": alert.summary,
                    "description": alert.description,
                    "runbook_url": format!("{RUNBOOKS}#{}", alert.name.to_ascii_lowercase()),
                },
            })
        })
        .collect()
}

fn of_servers(of: &str, replicas: i32, connections: i64) -> [Alert; 7] {
    [
        Alert {
            name: "MessageVaultDown",
            expr: format!("(sum(messagevault_ready{{{of}}}) or vector(0)) == 0"),
            holds: "2m",
            severity: Critical,
            summary: "No server of vault {{ $labels.vault }} is ready",
            description: "No server of the vault can serve reads, or none can be scraped.",
        },
        Alert {
            name: "MessageVaultNotReady",
            expr: format!("(sum(messagevault_ready{{{of}}}) or vector(0)) < {replicas}"),
            holds: "10m",
            severity: Warning,
            summary: "Fewer servers of vault {{ $labels.vault }} are ready than there should be",
            description: "{{ $value }} servers are ready or can be scraped. The others cannot take over.",
        },
        Alert {
            name: "MessageVaultNoLeader",
            expr: format!("sum(messagevault_leading{{{of}}}) == 0"),
            holds: "1m",
            severity: Critical,
            summary: "No server of vault {{ $labels.vault }} leads",
            description: "Appends are refused with no_leader. Reads go on.",
        },
        Alert {
            name: "MessageVaultLeaderChanges",
            expr: format!("sum(increase(messagevault_terms_total{{{of}}}[30m])) > 6"),
            holds: "0s",
            severity: Warning,
            summary: "The lead of vault {{ $labels.vault }} changes hands often",
            description: "{{ $value | humanize }} times in half an hour. Each change stops appends for up to some seconds.",
        },
        Alert {
            name: "MessageVaultLeaseRenewalsFailing",
            expr: format!(
                r#"sum by (pod) (increase(messagevault_lease_renewals_total{{{of},outcome=~"failed|lost"}}[10m])) > 3"#
            ),
            holds: "0s",
            severity: Warning,
            summary: "{{ $labels.pod }} cannot renew its lease of vault {{ $labels.vault }}",
            description: "{{ $value | humanize }} renewals failed in ten minutes. The server may lose the lead.",
        },
        Alert {
            name: "MessageVaultServerErrors",
            expr: format!(
                r#"sum(rate(messagevault_http_requests_total{{{of},status="5xx"}}[5m])) / sum(rate(messagevault_http_requests_total{{{of}}}[5m])) > 0.01"#
            ),
            holds: "10m",
            severity: Warning,
            summary: "Vault {{ $labels.vault }} answers with errors",
            description: "{{ $value | humanizePercentage }} of the requests are answered with a status of 500 and up.",
        },
        Alert {
            name: "MessageVaultConnectionsExhausted",
            expr: format!("max by (pod) (messagevault_connections{{{of}}}) > {}", connections * 9 / 10),
            holds: "5m",
            severity: Warning,
            summary: "{{ $labels.pod }} of vault {{ $labels.vault }} has nearly all the connections that it takes",
            description: "It has {{ $value }}. Those beyond its limit are answered 503 and closed.",
        },
    ]
}

fn of_streams(of: &str) -> [Alert; 5] {
    let condition = |condition: &str| {
        format!(
            r#"max by (stream, condition) (messagevault_stream_condition{{{of},condition=~"{condition}"}}) > 0"#
        )
    };
    [
        Alert {
            name: "MessageVaultStreamDataMissing",
            expr: condition("data_missing"),
            holds: "0s",
            severity: Critical,
            summary: "Data of stream {{ $labels.stream }} in vault {{ $labels.vault }} is missing",
            description: "A container or segment that belongs to the stream is not in storage. Appends are refused.",
        },
        Alert {
            name: "MessageVaultStreamCorrupt",
            expr: condition("corrupt"),
            holds: "0s",
            severity: Critical,
            summary: "Stream {{ $labels.stream }} in vault {{ $labels.vault }} is damaged",
            description: "What comes before the damage is served. Nothing is skipped or cut off.",
        },
        Alert {
            name: "MessageVaultStreamStalled",
            expr: condition("stalled|two_accounts|format_too_new"),
            holds: "5m",
            severity: Critical,
            summary: "Stream {{ $labels.stream }} in vault {{ $labels.vault }} cannot be used",
            description: "Its condition is {{ $labels.condition }}.",
        },
        Alert {
            name: "MessageVaultStreamFull",
            expr: format!(
                r#"sum(increase(messagevault_appends_refused_total{{{of},code="stream_full"}}[10m])) > 0"#
            ),
            holds: "0s",
            severity: Warning,
            summary: "A stream in vault {{ $labels.vault }} takes all the bytes that it may",
            description: "{{ $value | humanize }} appends were refused with stream_full in ten minutes.",
        },
        Alert {
            name: "MessageVaultAppendsRefused",
            expr: format!(
                r#"sum by (code) (rate(messagevault_appends_refused_total{{{of},code=~"{TROUBLE}"}}[5m])) > 0"#
            ),
            holds: "5m",
            severity: Critical,
            summary: "Vault {{ $labels.vault }} refuses appends",
            description: "They are answered {{ $labels.code }}, {{ $value | humanize }} a second.",
        },
    ]
}

fn of_storage(of: &str) -> [Alert; 2] {
    [
        Alert {
            name: "MessageVaultStorageErrors",
            expr: format!(
                r#"sum by (outcome) (rate(messagevault_storage_requests_total{{{of},outcome=~"unavailable|refused|full"}}[5m])) / ignoring (outcome) group_left sum(rate(messagevault_storage_requests_total{{{of}}}[5m])) > 0.01"#
            ),
            holds: "5m",
            severity: Warning,
            summary: "Requests of vault {{ $labels.vault }} to storage fail",
            description: "{{ $value | humanizePercentage }} of them end as {{ $labels.outcome }}.",
        },
        Alert {
            name: "MessageVaultCommitsSlow",
            expr: format!(
                "histogram_quantile(0.99, sum by (le) (rate(messagevault_commit_duration_seconds_bucket{{{of}}}[5m]))) > 1"
            ),
            holds: "10m",
            severity: Warning,
            summary: "Writes of vault {{ $labels.vault }} take long",
            description: "One of a hundred takes {{ $value | humanizeDuration }} or more.",
        },
    ]
}
