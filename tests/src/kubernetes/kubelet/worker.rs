//! One pod on its node: a thread that does to its containers what the API server says, and says how they are.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};

use super::container::{Again, Played, State, Surroundings};
use super::problem::{NOT_PLAYED, Problem};
use super::status::{Conditions, status};
use super::text::Mounts;
use super::volumes::Volumes;
use super::{Shared, lock};
use crate::kubernetes::process::Process;

const STEP: Duration = Duration::from_millis(30);

/// How often volumes are compared with what they are filled from.
const VOLUMES: Duration = Duration::from_millis(500);

/// How long a pod that is deleted has, where it does not say.
const GRACE_SECONDS: i64 = 30;

/// What a pod is to be, and the processes that play it.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) logs: PathBuf,
    /// `None` once the API server does not have it any more.
    pub(super) wanted: Mutex<Option<Pod>>,
    /// By the names of containers.
    pub(super) processes: Mutex<BTreeMap<String, Process>>,
}

/// The thread's own.
pub(super) struct Worker {
    shared: Arc<Shared>,
    handle: Arc<Handle>,
    ip: Ipv4Addr,
    folder: PathBuf,
    containers: Vec<Played>,
    volumes: Volumes,
    mounts: Mounts,
    /// What stands in the way of all containers.
    problem: Option<Problem>,
    refreshed: Option<Instant>,
    /// Whether all volumes have been filled once.
    complete: bool,
    ending: bool,
    started: Timestamp,
    conditions: Conditions,
    sent: Value,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, handle: Arc<Handle>, pod: &Pod) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let folder = shared.scratch.path().join("pods").join(pod.uid().unwrap_or_default());
        for folder in [&folder, &handle.logs] {
            std::fs::create_dir_all(folder).expect("there is room for directories");
        }
        let volumes = Volumes::new(&folder);
        let mut mounts = Mounts::default();
        let mut problem = not_played(&spec).err();
        for container in &spec.containers {
            match volumes.mounts_of(container) {
                Ok(more) => mounts.extend(more),
                Err(other) => problem = Some(other),
            }
        }
        let ip = lock(&shared.addresses).take();
        Self {
            shared,
            handle,
            ip,
            folder,
            containers: spec.containers.into_iter().map(Played::new).collect(),
            volumes,
            mounts,
            problem,
            refreshed: None,
            complete: false,
            ending: false,
            started: Timestamp::now(),
            conditions: Conditions::default(),
            sent: Value::Null,
        }
    }

    /// Plays the pod until it is gone.
    pub(super) fn run(mut self) {
        while !self.shared.stops() {
            let wanted = lock(&self.handle.wanted).clone();
            let Some(pod) = wanted else { break };
            if self.step(&pod) {
                break;
            }
            std::thread::sleep(STEP);
        }
        // Whatever still runs ends with its value.
        lock(&self.handle.processes).clear();
        lock(&self.shared.addresses).release(self.ip);
        // What it had written is gone with it, but for its log.
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    /// Whether the pod is gone.
    fn step(&mut self, pod: &Pod) -> bool {
        let spec = pod.spec.clone().unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() && !self.ending {
            self.ending = true;
            let wish = pod.metadata.deletion_grace_period_seconds.or(spec.termination_grace_period_seconds);
            let grace = Duration::from_secs(wish.unwrap_or(GRACE_SECONDS).unsigned_abs());
            self.containers.iter_mut().for_each(|container| container.end_within(grace));
        }
        if !self.ending {
            self.refresh(pod);
            self.start(pod);
        }
        let again = match spec.restart_policy.as_deref() {
            _ if self.ending => Again::Never,
            Some("Never") => Again::Never,
            Some("OnFailure") => Again::OnFailure,
            _ => Again::Always,
        };
        for container in &mut self.containers {
            let mut processes = lock(&self.handle.processes);
            if let Some(process) = processes.get_mut(&container.spec.name) {
                container.look(process, again);
            }
            if !container.runs() {
                processes.remove(&container.spec.name);
            }
            drop(processes);
            container.ask();
        }
        self.tell(pod);
        self.ending && !self.containers.iter().any(Played::runs) && self.remove(pod)
    }

    fn refresh(&mut self, pod: &Pod) {
        if self.problem.as_ref().is_some_and(|problem| problem.reason == NOT_PLAYED)
            || self.refreshed.is_some_and(|at| at.elapsed() < VOLUMES)
        {
            return;
        }
        let ip = self.ip.to_string();
        let result = self.volumes.refresh(&self.shared.objects, pod, &ip, &self.mounts);
        // Once all was there, containers go on with what was there last.
        self.complete |= result.is_ok();
        self.problem = result.err().filter(|_| !self.complete);
        self.refreshed = Some(Instant::now());
    }

    fn start(&mut self, pod: &Pod) {
        let injected = lock(&self.shared.injected).clone();
        let around = Surroundings {
            objects: &self.shared.objects,
            pod,
            ip: self.ip.into(),
            folder: &self.folder,
            mounts: &self.mounts,
            logs: &self.handle.logs,
            api_port: self.shared.api_port,
            ca: &self.shared.ca,
            injected: &injected,
        };
        for container in &mut self.containers {
            if container.runs() || matches!(container.state, State::Ended(_)) {
                continue;
            }
            if let Some(problem) = &self.problem {
                container.wait_for(problem.clone());
            } else if let Some(process) = container.start(&around) {
                lock(&self.handle.processes).insert(container.spec.name.clone(), process);
            }
            if let State::Waiting(problem) = &container.state
                && problem.reason == NOT_PLAYED
            {
                self.shared
                    .refuse(&format!("{}/{}: {}", self.handle.namespace, self.handle.name, problem.message));
            }
        }
    }

    /// Writes the pod's status where it has changed. What cannot be written now is written later.
    fn tell(&mut self, pod: &Pod) {
        let ip = self.ip.to_string();
        let status = status(pod, &ip, self.started, &self.containers, &mut self.conditions);
        if status == self.sent {
            return;
        }
        let pods: Api<Pod> = self.shared.objects.api(&self.handle.namespace);
        // The uid says which pod of this name.
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": status}));
        let told = async { pods.patch_status(&self.handle.name, &PatchParams::default(), &patch).await };
        if self.shared.objects.runtime.block_on(told).is_ok() {
            self.sent = status;
        }
    }

    fn remove(&self, pod: &Pod) -> bool {
        let pods: Api<Pod> = self.shared.objects.api(&self.handle.namespace);
        let this = Preconditions { uid: pod.uid(), ..Preconditions::default() };
        let at_once = DeleteParams { preconditions: Some(this), ..DeleteParams::default().grace_period(0) };
        self.shared.objects.runtime.block_on(pods.delete(&self.handle.name, &at_once)).is_ok()
    }
}

fn not_played(spec: &PodSpec) -> Result<(), Problem> {
    if spec.init_containers.iter().flatten().next().is_some() {
        return Err(Problem::not_played("init containers"));
    }
    if spec.readiness_gates.iter().flatten().next().is_some() {
        return Err(Problem::not_played("readiness gates"));
    }
    Ok(())
}
