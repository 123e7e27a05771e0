//! What a vault's Deployment and pods say of how far it is. Pure.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;

use crate::conditions::{Reason, State};

/// How many servers there are and serve, and what is on its way; `None` where all are as they should be.
#[must_use]
pub fn judge(deployment: Option<&Deployment>, pods: &[Pod], wanted: i32) -> (i32, i32, Option<State>) {
    let Some(deployment) = deployment else {
        return (0, 0, Some(waiting(format!("0 of {wanted} servers are ready"))));
    };
    let status = deployment.status.clone().unwrap_or_default();
    let (replicas, ready) = (status.replicas.unwrap_or(0), status.ready_replicas.unwrap_or(0));
    let observed = status.observed_generation >= deployment.metadata.generation;
    let updated = status.updated_replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    if observed && updated == wanted && replicas == wanted && available == wanted {
        return (replicas, ready, None);
    }
    let stuck = observed
        && status.conditions.as_deref().unwrap_or_default().iter().any(|condition| {
            condition.type_ == "Progressing"
                && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
        });
    let why = pods.iter().find_map(why_not_ready).map(|why| format!(": {why}")).unwrap_or_default();
    let sentence = if observed && updated < wanted || replicas > wanted {
        format!("{updated} of {wanted} servers are new, {ready} ready{why}")
    } else {
        format!("{} of {wanted} servers are ready{why}", ready.min(wanted))
    };
    let state = if stuck {
        let hint = "they make no progress; look at the pods' events and logs";
        State::Stalled(Reason::new("RolloutStuck", format!("{sentence}; {hint}")))
    } else {
        waiting(sentence)
    };
    (replicas, ready, Some(state))
}

fn waiting(sentence: String) -> State {
    State::Reconciling(Reason::new("WaitingForServers", sentence))
}

/// What keeps a pod from being ready, in a few words.
fn why_not_ready(pod: &Pod) -> Option<String> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.as_deref().unwrap_or_default();
    if let Some(unscheduled) =
        conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
    {
        let message = unscheduled.message.clone().unwrap_or_default();
        return Some(format!("the pod {name} finds no node: {message}"));
    }
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    containers.iter().filter(|container| !container.ready).find_map(|container| {
        let state = container.state.as_ref()?;
        let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone());
        let last = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
        let ended =
            state.terminated.as_ref().or(last).map(|end| {
                format!("ended with status {} ({} restarts)", end.exit_code, container.restart_count)
            });
        match (waiting, ended) {
            (Some(waiting), Some(ended)) => Some(format!("the pod {name} is in {waiting}, {ended}")),
            (Some(waiting), None) if waiting != "ContainerCreating" => {
                Some(format!("the pod {name} is in {waiting}"))
            }
            (None, Some(ended)) => Some(format!("the pod {name} {ended}")),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{from_value, json};

    use super::*;

    fn deployment(status: &serde_json::Value) -> Deployment {
        from_value(json!({"metadata": {"generation": 3}, "status": status})).unwrap()
    }

    #[expect(clippy::needless_pass_by_value, reason = "it is written in the place of the call")]
    fn judged(status: serde_json::Value, pods: &[Pod]) -> (i32, i32, Option<State>) {
        judge(Some(&deployment(&status)), pods, 2)
    }

    #[test]
    fn a_rollout_is_over_when_all_pods_are_new_and_available() {
        let over = json!({"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2});
        assert_eq!(judged(over.clone(), &[]), (2, 2, None));
        for (key, value) in
            [("observedGeneration", 2), ("replicas", 3), ("updatedReplicas", 1), ("availableReplicas", 1)]
        {
            let mut not_yet = over.clone();
            not_yet[key] = value.into();
            assert!(matches!(judged(not_yet, &[]), (_, _, Some(State::Reconciling(_)))), "{key}");
        }
        assert!(matches!(judge(None, &[], 2), (0, 0, Some(State::Reconciling(_)))));
    }

    #[test]
    fn what_is_wrong_with_a_pod_is_said() {
        let pod: Pod =
            from_value(json!({"metadata": {"name": "events-1"}, "status": {"containerStatuses": [{
                "name": "server", "image": "", "imageID": "", "ready": false, "restartCount": 4,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 2}}
            }]}}))
            .unwrap();
        let (_, _, state) =
            judged(json!({"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2}), &[pod]);
        let said = state.unwrap().reason().sentence;
        assert_eq!(
            said,
            "0 of 2 servers are ready: the pod events-1 is in CrashLoopBackOff, ended with status 2 (4 restarts)"
        );
    }

    #[test]
    fn a_rollout_that_makes_no_progress_is_stuck() {
        let stuck = json!({"observedGeneration": 3, "replicas": 3, "updatedReplicas": 1, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
        ]});
        assert!(matches!(judged(stuck, &[]), (3, 0, Some(State::Stalled(_)))));
    }
}
