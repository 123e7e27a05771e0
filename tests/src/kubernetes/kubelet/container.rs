//! A container, played by a process: started, probed, ended, and started again.

use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Lifecycle, Pod, Probe};
use kube::ResourceExt;
use rustix::process::Signal;
use serde_json::json;

use super::environment;
use super::objects::Objects;
use super::probes::Probes;
use super::problem::Problem;
use super::text::{Mounts, at_own_address, expand};
use crate::kubernetes::accounts::kubeconfig;
use crate::kubernetes::process::Process;
use crate::server::find_program;

/// What images are known by: the program that each has.
const PROGRAMS: [&str; 3] = ["mvctl", "vault-operator", "vault-server"];

/// Where a pod finds who it is to the API server.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How long an attempt that failed is not repeated.
const RETRY: Duration = Duration::from_millis(200);

/// Pauses before a container that ended is started again; shorter than the real ones by far.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Who has run so long has not just failed again.
const SETTLED: Duration = Duration::from_secs(10);

/// What a container gets from its pod.
pub(super) struct Surroundings<'a> {
    pub(super) objects: &'a Objects,
    pub(super) pod: &'a Pod,
    pub(super) ip: IpAddr,
    /// Where the pod's files are, and the paths that its containers see.
    pub(super) folder: &'a Path,
    pub(super) mounts: &'a Mounts,
    pub(super) logs: &'a Path,
    /// Where the API server is.
    pub(super) api_port: u16,
    pub(super) ca: &'a Path,
    /// What somebody adds to the environment.
    pub(super) injected: &'a [(String, String)],
}

/// How it went with the process of a container.
#[derive(Clone, Debug)]
pub(super) enum State {
    Waiting(Problem),
    Running { since: Timestamp },
    Ended(Ended),
}

/// How a process ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) since: Timestamp,
    pub(super) at: Timestamp,
}

/// A container of a pod.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) spec: Container,
    pub(super) state: State,
    pub(super) before: Option<Ended>,
    pub(super) restarts: i32,
    pub(super) probes: Probes,
    next_start: Instant,
    started: Instant,
    pause: Duration,
    ending: Option<Ending>,
}

/// When it is asked to end, and when it is made to.
#[derive(Clone, Copy, Debug)]
struct Ending {
    ask: Instant,
    kill: Instant,
    asked: bool,
}

impl Played {
    pub(super) fn new(spec: Container) -> Self {
        let now = Instant::now();
        let creating = Problem { reason: "ContainerCreating", message: String::new() };
        Self {
            spec,
            state: State::Waiting(creating),
            before: None,
            restarts: 0,
            probes: Probes::default(),
            next_start: now,
            started: now,
            pause: FIRST_PAUSE,
            ending: None,
        }
    }

    pub(super) fn runs(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    pub(super) fn ready(&self) -> bool {
        self.runs() && self.probes.ready()
    }

    /// Starts it if it is time to.
    pub(super) fn start(&mut self, around: &Surroundings<'_>) -> Option<Process> {
        if self.runs() || Instant::now() < self.next_start {
            return None;
        }
        match self.try_start(around) {
            Ok((process, probes)) => {
                self.restarts += i32::from(self.before.is_some());
                self.state = State::Running { since: Timestamp::now() };
                self.started = Instant::now();
                self.probes = probes;
                self.ending = None;
                Some(process)
            }
            Err(problem) => {
                self.wait_for(problem);
                None
            }
        }
    }

    /// Does not run for the moment.
    pub(super) fn wait_for(&mut self, problem: Problem) {
        self.state = State::Waiting(problem);
        self.next_start = Instant::now() + RETRY;
    }

    fn try_start(&self, around: &Surroundings<'_>) -> Result<(Process, Probes), Problem> {
        refuse_hooks(self.spec.lifecycle.as_ref())?;
        let program = program_of(&self.spec)?;
        let path = find_program(program).ok_or_else(|| Problem {
            reason: "CreateContainerError",
            message: format!("there is no {program} beside the test program: run ./tests/run"),
        })?;
        let probes = Probes::of(&self.spec, around.ip)?;
        let variables =
            environment::variables(around.objects, around.pod, &self.spec, &around.ip.to_string())?;
        let words = self.spec.command.iter().flatten().skip(1).chain(self.spec.args.iter().flatten());
        let mut command = Command::new(path);
        let here = |text: &str| at_own_address(&around.mounts.rewrite(text), around.ip);
        command.args(words.map(|word| here(&expand(word, &variables))));
        command.current_dir(around.folder).env_clear();
        command.envs(given(around)).envs(around.injected.iter().cloned());
        command.envs(variables.iter().map(|(name, value)| (name, here(value))));
        let log = around.logs.join(format!("{}.log", self.spec.name));
        let process = Process::start(command, &log);
        let process = process.map_err(|error| Problem {
            reason: "RunContainerError",
            message: format!("{program} cannot be started: {error}"),
        })?;
        Ok((process, probes))
    }

    /// Looks after the running process: how it ended, and whether it is to end.
    pub(super) fn look(&mut self, process: &mut Process, again: Again) {
        let State::Running { since } = self.state else { return };
        if let Some(status) = process.ended() {
            self.note_end(since, status, again);
            return;
        }
        if let Some(ending) = &mut self.ending {
            let now = Instant::now();
            if now >= ending.ask && !ending.asked {
                process.signal(Signal::TERM);
                ending.asked = true;
            }
            if now >= ending.kill {
                process.signal(Signal::KILL);
            }
        }
    }

    /// Asks the running container how it is, as far as that is due.
    pub(super) fn ask(&mut self) {
        if !self.runs() {
            return;
        }
        self.probes.ask(self.ending.is_some());
        if self.probes.failed() && self.ending.is_none() {
            self.end_within(grace_of(self.spec.liveness_probe.as_ref()));
        }
    }

    /// It is to end: its hook runs, then it is asked, and when the time is over it is made to.
    pub(super) fn end_within(&mut self, grace: Duration) {
        let now = Instant::now();
        let hook = self.spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        let pause = hook.and_then(|hook| hook.sleep.as_ref()).map_or(0, |sleep| sleep.seconds.unsigned_abs());
        let ask = now + Duration::from_secs(pause).min(grace);
        self.ending = Some(Ending { ask, kill: now + grace, asked: false });
    }

    fn note_end(&mut self, since: Timestamp, status: ExitStatus, again: Again) {
        use std::os::unix::process::ExitStatusExt;
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        let ended = Ended { code, since, at: Timestamp::now() };
        self.ending = None;
        let stays = match again {
            Again::Always => false,
            Again::OnFailure => code == 0,
            Again::Never => true,
        };
        if stays {
            self.state = State::Ended(ended);
            return;
        }
        if self.started.elapsed() >= SETTLED {
            self.pause = FIRST_PAUSE;
        }
        self.before = Some(ended);
        let message = format!("back-off {:?} restarting failed container={}", self.pause, self.spec.name);
        self.state = State::Waiting(Problem { reason: "CrashLoopBackOff", message });
        self.next_start = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    Always,
    OnFailure,
    Never,
}

fn grace_of(probe: Option<&Probe>) -> Duration {
    const GRACE_SECONDS: i64 = 30;
    let wish = probe.and_then(|probe| probe.termination_grace_period_seconds);
    Duration::from_secs(wish.unwrap_or(GRACE_SECONDS).unsigned_abs())
}

fn refuse_hooks(lifecycle: Option<&Lifecycle>) -> Result<(), Problem> {
    let Some(lifecycle) = lifecycle else { return Ok(()) };
    let other = lifecycle.pre_stop.as_ref().is_some_and(|hook| hook.sleep.is_none());
    if other || lifecycle.post_start.is_some() {
        return Err(Problem::not_played("hooks other than preStop.sleep"));
    }
    Ok(())
}

/// The program that the container is to run.
fn program_of(container: &Container) -> Result<&'static str, Problem> {
    let image = container.image.as_deref().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let name = name.split(['@', ':']).next().unwrap_or_default();
    // The project's own images are called `message-vault-server` and so on.
    let name = name.strip_prefix("message-").unwrap_or(name);
    let of_image = PROGRAMS.into_iter().find(|program| *program == name);
    let of_image = of_image.ok_or_else(|| Problem {
        reason: "ErrImagePull",
        message: format!("failed to pull and unpack image \"{image}\": not found"),
    })?;
    let Some(first) = container.command.iter().flatten().next() else { return Ok(of_image) };
    let wanted = first.rsplit('/').next().unwrap_or_default();
    let found = PROGRAMS.into_iter().find(|program| *program == wanted);
    found.ok_or_else(|| Problem {
        reason: "RunContainerError",
        message: format!("exec: \"{first}\": no such file in the image {image}"),
    })
}

/// What every container has in its environment.
fn given(around: &Surroundings<'_>) -> Vec<(String, String)> {
    let port = around.api_port.to_string();
    let mut given = vec![
        ("PATH".to_owned(), std::env::var("PATH").unwrap_or_default()),
        ("HOSTNAME".to_owned(), around.pod.name_any()),
        ("KUBERNETES_SERVICE_HOST".to_owned(), super::HOST_IP.to_owned()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), port.clone()),
        ("KUBERNETES_SERVICE_PORT_HTTPS".to_owned(), port),
    ];
    // Libraries look for the account's token at a fixed path, where there is nothing here. This file leads to it.
    if let Some(account) = around.mounts.at(ACCOUNT) {
        let path = around.folder.join("kubeconfig");
        let server = format!("https://{}:{}", super::HOST_IP, around.api_port);
        let namespace = around.pod.namespace().unwrap_or_default();
        let text = kubeconfig(&server, around.ca, &namespace, &json!({"tokenFile": account.join("token")}));
        std::fs::write(&path, text).expect("there is room for a small file");
        given.push(("KUBECONFIG".to_owned(), path.to_string_lossy().into_owned()));
    }
    given
}
