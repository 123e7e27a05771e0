//! The status of a pod, as its kubelet writes it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::container::{Ended, Played, State};

/// Since when each condition is what it is.
#[derive(Debug, Default)]
pub(super) struct Conditions(BTreeMap<&'static str, (bool, Timestamp)>);

impl Conditions {
    fn shown(&mut self, name: &'static str, holds: bool, why_not: Option<&str>) -> Value {
        let now = (holds, Timestamp::now());
        let known = self.0.entry(name).or_insert(now);
        if known.0 != holds {
            *known = now;
        }
        let status = if holds { "True" } else { "False" };
        let reason = if holds { None } else { why_not };
        json!({"type": name, "status": status, "reason": reason, "lastTransitionTime": time(known.1)})
    }
}

/// The status that a pod has now.
pub(super) fn status(
    pod: &Pod,
    ip: &str,
    started: Timestamp,
    containers: &[Played],
    conditions: &mut Conditions,
) -> Value {
    let phase = phase(containers);
    let over = phase == "Succeeded" || phase == "Failed";
    let all_ready = containers.iter().all(Played::ready);
    let not_ready = if over { "PodCompleted" } else { "ContainersNotReady" };
    json!({
        "phase": phase,
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "hostIP": super::HOST_IP,
        "hostIPs": [{"ip": super::HOST_IP}],
        "startTime": time(started),
        "qosClass": pod.status.as_ref().and_then(|status| status.qos_class.clone()),
        "conditions": [
            conditions.shown("PodScheduled", true, None),
            conditions.shown("Initialized", true, None),
            conditions.shown("ContainersReady", all_ready, Some(not_ready)),
            conditions.shown("Ready", all_ready, Some(not_ready)),
        ],
        "containerStatuses": containers.iter().map(|it| container(pod, it)).collect::<Vec<_>>(),
    })
}

fn phase(containers: &[Played]) -> &'static str {
    let ended = |it: &Played| match &it.state {
        State::Ended(ended) => Some(ended.code),
        _ => None,
    };
    let codes: Option<Vec<i32>> = containers.iter().map(ended).collect();
    match codes {
        Some(codes) if codes.iter().all(|code| *code == 0) => "Succeeded",
        Some(_) => "Failed",
        // All must have been started once.
        None if containers.iter().any(|it| !it.runs() && it.before.is_none() && ended(it).is_none()) => {
            "Pending"
        }
        None => "Running",
    }
}

fn container(pod: &Pod, played: &Played) -> Value {
    let last = played.before.as_ref().map(|ended| json!({"terminated": terminated(ended)}));
    let state = match &played.state {
        State::Waiting(problem) => {
            let message = Some(&problem.message).filter(|message| !message.is_empty());
            json!({"waiting": {"reason": problem.reason, "message": message}})
        }
        State::Running { since } => json!({"running": {"startedAt": time(*since)}}),
        State::Ended(ended) => json!({"terminated": terminated(ended)}),
    };
    json!({
        "name": played.spec.name,
        "image": played.spec.image,
        "imageID": "",
        "containerID": format!("played://{}", pod.uid().unwrap_or_default()),
        "ready": played.ready(),
        "started": played.runs() && played.probes.started(),
        "restartCount": played.restarts,
        "state": state,
        "lastState": last.unwrap_or_else(|| json!({})),
    })
}

fn terminated(ended: &Ended) -> Value {
    json!({
        "exitCode": ended.code,
        "reason": if ended.code == 0 { "Completed" } else { "Error" },
        "startedAt": time(ended.since),
        "finishedAt": time(ended.at),
    })
}

/// As the API writes times.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
