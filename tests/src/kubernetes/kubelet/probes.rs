//! Probes, at the pace that the pod's spec sets.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::problem::Problem;
use crate::client::Client;

/// One probe of a running container.
#[derive(Debug)]
struct Asked {
    probe: Probe,
    target: Target,
    next: Instant,
    /// The result that counts, and how often another one came since.
    good: bool,
    against: i32,
    /// How often it failed since it last did not.
    failures: i32,
}

#[derive(Debug)]
enum Target {
    Http { address: SocketAddr, path: String, headers: Vec<(String, String)> },
    Tcp { address: SocketAddr },
}

/// The probes of a running container.
#[derive(Debug, Default)]
pub(super) struct Probes {
    startup: Option<Asked>,
    readiness: Option<Asked>,
    liveness: Option<Asked>,
}

impl Probes {
    /// Those of a container that starts now.
    pub(super) fn of(container: &Container, ip: IpAddr) -> Result<Self, Problem> {
        let asked = |probe: &Option<Probe>, good: bool| {
            let probe = probe.as_ref();
            probe.map(|probe| Asked::new(container, probe, ip, good)).transpose()
        };
        Ok(Self {
            startup: asked(&container.startup_probe, false)?,
            readiness: asked(&container.readiness_probe, false)?,
            liveness: asked(&container.liveness_probe, true)?,
        })
    }

    /// Asks what is due. The container is not asked for its life where it is to end anyway.
    pub(super) fn ask(&mut self, ends: bool) {
        if let Some(startup) = &mut self.startup
            && !startup.good
        {
            startup.ask();
            return;
        }
        if let Some(readiness) = &mut self.readiness {
            readiness.ask();
        }
        if let Some(liveness) = &mut self.liveness
            && !ends
        {
            liveness.ask();
        }
    }

    /// Whether it has started.
    pub(super) fn started(&self) -> bool {
        self.startup.as_ref().is_none_or(|asked| asked.good)
    }

    /// Whether it is ready.
    pub(super) fn ready(&self) -> bool {
        self.started() && self.readiness.as_ref().is_none_or(|asked| asked.good)
    }

    /// Whether it is to be started again: it does not live, or did not start in time.
    pub(super) fn failed(&self) -> bool {
        let dead = self.liveness.as_ref().is_some_and(|asked| !asked.good);
        let late = self.startup.as_ref().is_some_and(|asked| !asked.good && asked.gave_up());
        dead || late
    }
}

impl Asked {
    fn new(container: &Container, probe: &Probe, ip: IpAddr, good: bool) -> Result<Self, Problem> {
        let at = |host: Option<&String>, port: &IntOrString| -> Result<SocketAddr, Problem> {
            let host = host.map_or(Ok(ip), |host| host.parse());
            let host = host.map_err(|_| Problem::not_played("probes of named hosts"))?;
            Ok(SocketAddr::new(host, port_of(container, port)?))
        };
        let target = if let Some(get) = &probe.http_get {
            if get.scheme.as_deref().is_some_and(|scheme| scheme != "HTTP") {
                return Err(Problem::not_played("probes over https"));
            }
            let headers = get.http_headers.iter().flatten();
            Target::Http {
                address: at(get.host.as_ref(), &get.port)?,
                path: get.path.clone().unwrap_or_else(|| "/".to_owned()),
                headers: headers.map(|header| (header.name.clone(), header.value.clone())).collect(),
            }
        } else if let Some(socket) = &probe.tcp_socket {
            Target::Tcp { address: at(socket.host.as_ref(), &socket.port)? }
        } else {
            return Err(Problem::not_played("probes other than httpGet and tcpSocket"));
        };
        let next = Instant::now() + seconds(probe.initial_delay_seconds, 0);
        Ok(Self { probe: probe.clone(), target, next, good, against: 0, failures: 0 })
    }

    fn ask(&mut self) {
        if Instant::now() < self.next {
            return;
        }
        let answered = self.target.answers(seconds(self.probe.timeout_seconds, 1));
        self.next = Instant::now() + seconds(self.probe.period_seconds, 10);
        self.failures = if answered { 0 } else { self.failures + 1 };
        if answered == self.good {
            self.against = 0;
            return;
        }
        self.against += 1;
        let enough = if answered { self.probe.success_threshold.unwrap_or(1) } else { self.limit() };
        if self.against >= enough {
            self.good = answered;
            self.against = 0;
        }
    }

    /// How many failures in a row count.
    fn limit(&self) -> i32 {
        self.probe.failure_threshold.unwrap_or(3)
    }

    /// Whether it failed all the time until it counts.
    fn gave_up(&self) -> bool {
        self.failures >= self.limit()
    }
}

impl Target {
    fn answers(&self, limit: Duration) -> bool {
        match self {
            Self::Http { address, path, headers } => {
                let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
                let answer = Client::with_limit(*address, limit).send("GET", path, &headers, None);
                answer.is_ok_and(|answer| (200..400).contains(&answer.status))
            }
            Self::Tcp { address } => TcpStream::connect_timeout(address, limit).is_ok(),
        }
    }
}

fn seconds(value: Option<i32>, otherwise: u32) -> Duration {
    Duration::from_secs(value.map_or(otherwise, i32::unsigned_abs).into())
}

fn port_of(container: &Container, port: &IntOrString) -> Result<u16, Problem> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            ports.find(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port)
        }
    };
    let number = number.and_then(|number| u16::try_from(number).ok());
    number.ok_or_else(|| Problem::config("a probe names a port that the container does not have"))
}
