//! What a vault's servers say of themselves, on their internal listeners.

use std::collections::HashMap;
use std::net::IpAddr;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::desired::INTERNAL_PORT;
use crate::limits::{MAX_SERVER_ANSWER_BYTES, SERVER_ANSWER, SERVER_REFRESH};

/// Asks servers. Connections are kept.
#[derive(Clone, Debug)]
pub struct Servers {
    http: reqwest::Client,
}

/// What was seen of the servers of a vault at one look.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Seen {
    /// The pod that leads and its term.
    pub leader: Option<(String, u64)>,
    /// How many servers answered.
    pub answered: usize,
    /// What keeps a server from its work, in its own words.
    pub trouble: Option<String>,
    /// The streams as the leader knows them; `None` where it was not asked or did not answer.
    pub streams: Option<HashMap<String, SeenStream>>,
}

/// What the leader says of a stream.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct SeenStream {
    name: String,
    /// The stream's id.
    pub id: String,
    condition: Condition,
    /// What is wrong with it, in a sentence.
    pub trouble: Option<String>,
    /// The first offset that is kept.
    pub first_offset: Option<u64>,
    /// The offset that the next message gets.
    pub next_offset: Option<u64>,
    /// Bytes from the first segment to the end.
    pub bytes: Option<u64>,
}

/// A stream's condition, as far as it matters whether somebody must do something about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Condition {
    Corrupt,
    DataMissing,
    TwoAccounts,
    FormatTooNew,
    /// It is well, or waits for storage, which passes.
    #[serde(other)]
    Other,
}

impl SeenStream {
    /// Why the stream cannot be used until somebody does something about it, in a sentence.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let is_well = self.condition == Condition::Other;
        (!is_well).then(|| self.trouble.clone().unwrap_or_else(|| "see the servers' logs".to_owned()))
    }
}

#[derive(Deserialize)]
struct Status {
    role: String,
    term: Option<u64>,
    trouble: Option<String>,
    access_trouble: Option<String>,
    tls_trouble: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    streams: Vec<SeenStream>,
    next_start_after: Option<String>,
}

#[derive(Debug, Error)]
enum NoAnswer {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("the answer has more than {MAX_SERVER_ANSWER_BYTES} bytes")]
    TooLong,
    #[error("the answer is not what was asked for: {0}")]
    Nonsense(#[from] serde_json::Error),
}

/// A pod with an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// The pod's name.
    pub pod: String,
    ip: IpAddr,
}

impl Server {
    /// The server in a pod. `None` where the pod has no address yet or no longer runs.
    #[must_use]
    pub fn of(pod: &Pod) -> Option<Self> {
        let status = pod.status.as_ref()?;
        let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let ip = status.pod_ip.as_ref()?.parse().ok()?;
        (!over).then(|| Self { pod: pod.metadata.name.clone().unwrap_or_default(), ip })
    }

    fn url(&self, path: &str) -> String {
        match self.ip {
            IpAddr::V4(ip) => format!("http://{ip}:{INTERNAL_PORT}{path}"),
            IpAddr::V6(ip) => format!("http://[{ip}]:{INTERNAL_PORT}{path}"),
        }
    }
}

impl Servers {
    /// A client for servers.
    ///
    /// # Errors
    ///
    /// Where the system lacks what HTTP needs.
    pub fn new() -> reqwest::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().connect_timeout(SERVER_ANSWER).build()?;
        Ok(Self { http })
    }

    /// Asks all servers how they are and, with `streams`, the leader for its streams.
    pub async fn look(&self, servers: &[Server], streams: bool) -> Seen {
        let answers = join_all(servers.iter().map(|server| self.get::<Status>(server.url("/status")))).await;
        let mut seen = Seen::default();
        let mut leader = None;
        for (server, answer) in servers.iter().zip(answers) {
            let status = match answer {
                Ok(status) => status,
                Err(error) => {
                    tracing::debug!(pod = server.pod, %error, "a server does not answer");
                    continue;
                }
            };
            seen.answered += 1;
            let trouble = status.trouble.or(status.access_trouble).or(status.tls_trouble);
            seen.trouble = seen.trouble.or(trouble.map(|trouble| format!("{}: {trouble}", server.pod)));
            // A server that was deposed may not know it yet.
            if let Some(term) = status.term.filter(|_| status.role == "leader")
                && seen.leader.as_ref().is_none_or(|(_, other)| *other < term)
            {
                seen.leader = Some((server.pod.clone(), term));
                leader = Some(server);
            }
        }
        if let Some(leader) = leader.filter(|_| streams) {
            match self.streams(leader).await {
                Ok(streams) => seen.streams = Some(streams),
                Err(error) => {
                    tracing::warn!(pod = leader.pod, %error, "the leader does not list its streams");
                }
            }
        }
        seen
    }

    async fn streams(&self, leader: &Server) -> Result<HashMap<String, SeenStream>, NoAnswer> {
        let mut all = HashMap::new();
        let mut after = String::new();
        loop {
            let page: Page = self.get(leader.url(&format!("/streams?limit=1000{after}"))).await?;
            all.extend(page.streams.into_iter().map(|stream| (stream.name.clone(), stream)));
            match page.next_start_after.filter(|_| all.len() <= vault_server::limits::MAX_STREAMS) {
                Some(next) => after = format!("&start_after={next}"),
                None => return Ok(all),
            }
        }
    }

    /// The id of a stream whose container some server misses; `None` where none does.
    pub async fn missing(&self, servers: &[Server], stream: &str) -> Option<String> {
        let ask =
            |server: &Server| self.get::<Page>(server.url(&format!("/streams?limit=1&prefix={stream}")));
        // The first of those that begin with the name is the one of the name, if there is one.
        let found =
            join_all(servers.iter().map(ask)).await.into_iter().flatten().flat_map(|page| page.streams);
        let mut missing =
            found.filter(|found| found.name == stream && found.condition == Condition::DataMissing);
        missing.next().map(|found| found.id)
    }

    /// Tells all servers to list the containers now; answers how many have.
    pub async fn refresh(&self, servers: &[Server]) -> usize {
        let refresh = |server: &Server| self.http.post(server.url("/refresh")).timeout(SERVER_REFRESH).send();
        let answers = join_all(servers.iter().map(refresh)).await;
        let listed = |answer: &reqwest::Result<reqwest::Response>| {
            answer.as_ref().is_ok_and(|answer| answer.status().is_success())
        };
        answers.iter().filter(|answer| listed(answer)).count()
    }

    async fn get<T: DeserializeOwned>(&self, url: String) -> Result<T, NoAnswer> {
        let mut answer = self.http.get(url).timeout(SERVER_ANSWER).send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > MAX_SERVER_ANSWER_BYTES {
                return Err(NoAnswer::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(serde_json::from_slice(&body)?)
    }
}
