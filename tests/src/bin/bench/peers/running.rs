//! A system that runs: what is asked of it beside messages.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::json;
use tempfile::TempDir;
use vault_tests::client::Answer;
use vault_tests::kafka::Kafka;
use vault_tests::server::Server;
use vault_tests::wait::LONG;

use super::line::Line;
use super::protocol::{Append, How, Read, kafka, nats, redis, vault};
use super::system::{Owned, System};

/// How long a process may take to end after its connections have.
const ENDING: Duration = Duration::from_millis(500);

/// What is shown of a log.
const LOG_LINES: usize = 12;

/// Beyond what writing a file of some GiB anew takes.
const REWRITE: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(crate) enum Process {
    Vault(Box<Server>),
    Kafka(Kafka),
    Child(Owned),
}

/// A running system. It ends with the value, and its data goes.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) system: System,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    // Goes after the process.
    pub(crate) _directory: TempDir,
}

/// Asks again and again until the answer is yes.
fn until(what: &str, limit: Duration, mut ask: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let end = Instant::now() + limit;
    loop {
        if ask()? {
            return Ok(());
        }
        ensure!(Instant::now() < end, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Running {
    /// The process.
    pub(crate) fn pid(&self) -> Pid {
        match &self.process {
            Process::Vault(server) => server.pid(),
            Process::Kafka(broker) => broker.pid(),
            Process::Child(owned) => Pid::from_child(&owned.child),
        }
    }

    /// Does something with it. An error names the system, says how it ended if it has, and what it wrote at last.
    pub(crate) fn named<T>(&self, what: &str, does: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        does().with_context(|| {
            // Its connections end a little before it does.
            let ended = until("it has ended", ENDING, || Ok(self.end()?.is_some()));
            let end = ended.and_then(|()| self.end()).ok().flatten().unwrap_or_else(|| "runs".to_owned());
            format!("{what}: {} {end}; its log ends with\n{}---", self.system.name(), self.log_end())
        })
    }

    /// How it has ended; `None` while it runs.
    fn end(&self) -> anyhow::Result<Option<String>> {
        // It stays to be awaited by whoever started it.
        let looked = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.pid()), looked)?;
        Ok(status.map(|status| match status.terminating_signal() {
            Some(signal) => format!("was ended by signal {signal}"),
            None => format!("has ended with status {}", status.exit_status().unwrap_or_default()),
        }))
    }

    fn log_end(&self) -> String {
        let log = match &self.process {
            Process::Vault(server) => server.log(),
            Process::Kafka(broker) => broker.log(),
            Process::Child(owned) => std::fs::read_to_string(&owned.log).unwrap_or_default(),
        };
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].iter().map(|line| format!("{line}\n")).collect()
    }

    pub(crate) fn wait_until_it_answers(&self) -> anyhow::Result<()> {
        self.named("starting", || {
            let mut has_ended = false;
            until("it answers", LONG, || {
                has_ended = self.end()?.is_some();
                Ok(has_ended || self.answers())
            })?;
            ensure!(!has_ended, "it has ended at once");
            Ok(())
        })
    }

    fn answers(&self) -> bool {
        match self.system {
            System::Redis => self.redis(&[b"PING"]).is_ok_and(|answer| answer == "+PONG"),
            System::Nats | System::NatsUnsynced => self.nats("$JS.API.INFO", &json!({})).is_ok(),
            // Whoever has started them has waited for it.
            System::Vault | System::Kafka | System::KafkaUnsynced => true,
        }
    }

    /// What one producer says; `messages` go into a request.
    pub(crate) fn append(&self, stream: &str, producer: u16, messages: usize) -> Box<dyn Append> {
        match self.system {
            System::Vault => Box::new(vault::Appender::new(stream, producer, messages)),
            System::Redis => Box::new(redis::Appender::new(stream, producer, messages)),
            System::Nats | System::NatsUnsynced => {
                let is_atomic = self.system.is_synced();
                Box::new(nats::Appender::new(stream, producer, messages, is_atomic))
            }
            System::Kafka | System::KafkaUnsynced => {
                Box::new(kafka::Appender::new(stream, producer, messages))
            }
        }
    }

    /// What one consumer says; `number` tells it from the others.
    pub(crate) fn read(&self, stream: &str, number: u64, how: How) -> Box<dyn Read> {
        match self.system {
            System::Vault => Box::new(vault::Reader::new(stream, how)),
            System::Redis => Box::new(redis::Reader::new(stream, how)),
            System::Nats | System::NatsUnsynced => {
                Box::new(nats::Reader::new(stream, format!("c{number}"), how))
            }
            System::Kafka | System::KafkaUnsynced => Box::new(kafka::Reader::new(stream, how)),
        }
    }

    /// Makes an empty stream.
    pub(crate) fn create(&self, stream: &str) -> anyhow::Result<()> {
        match &self.process {
            Process::Vault(server) => {
                about(server, "PUT", stream, 201)?;
            }
            Process::Kafka(_) => {
                let synced: &[_] = if self.system.is_synced() { &[("flush.messages", "1")] } else { &[] };
                let (error, _) = self.kafka(&kafka::create_topic(stream, synced), stream, 8)?;
                ensure!(error == 0, "Kafka makes no topic: error {error}");
                // Its leader is there a moment later.
                until("the topic has a leader", LONG, || Ok(self.length(stream).is_ok()))?;
            }
            // Made by the first message.
            Process::Child(_) if self.system == System::Redis => {}
            Process::Child(_) => {
                let config = json!({
                    "name": stream, "subjects": [stream], "storage": "file", "retention": "limits",
                    "discard": "old", "num_replicas": 1, "allow_atomic": true,
                    // Its default is 1,000.
                    "max_consumers": 100_000,
                });
                self.nats(&format!("$JS.API.STREAM.CREATE.{stream}"), &config)?;
            }
        }
        Ok(())
    }

    /// How many messages a stream has.
    pub(crate) fn length(&self, stream: &str) -> anyhow::Result<u64> {
        match &self.process {
            Process::Vault(server) => {
                let answer = about(server, "GET", stream, 200)?.json();
                answer["next_offset"].as_u64().with_context(|| format!("no next_offset in {answer}"))
            }
            Process::Kafka(_) => {
                let (error, rest) = self.kafka(&kafka::list_offsets(stream), stream, 12)?;
                ensure!(error == 0, "Kafka lists no offsets: error {error}");
                let offset = rest.get(8..16).and_then(|bytes| bytes.first_chunk()).context("no offset")?;
                Ok(u64::try_from(i64::from_be_bytes(*offset))?)
            }
            Process::Child(_) if self.system == System::Redis => {
                let answer = self.redis(&[b"XLEN", stream.as_bytes()])?;
                answer
                    .strip_prefix(':')
                    .and_then(|it| it.parse().ok())
                    .with_context(|| format!("XLEN: {answer}"))
            }
            Process::Child(_) => {
                let answer = self.nats(&format!("$JS.API.STREAM.INFO.{stream}"), &json!({}))?;
                answer["state"]["messages"].as_u64().with_context(|| format!("no messages in {answer}"))
            }
        }
    }

    /// Deletes streams and gives their room back.
    pub(crate) fn delete(&self, streams: &[String]) -> anyhow::Result<()> {
        if self.system == System::Redis {
            let mut words: Vec<&[u8]> = vec![b"DEL"];
            words.extend(streams.iter().map(|stream| stream.as_bytes()));
            self.redis(&words)?;
            // The file holds what was deleted until it is written anew, once for all of them.
            self.redis(&[b"BGREWRITEAOF"])?;
            return until("Redis has written its file anew", REWRITE, || {
                let info = self.redis(&[b"INFO", b"persistence"])?;
                Ok(info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0"))
            });
        }
        for stream in streams {
            match &self.process {
                Process::Vault(server) => {
                    about(server, "DELETE", stream, 204)?;
                }
                Process::Kafka(_) => {
                    let (error, _) = self.kafka(&kafka::delete_topic(stream), stream, 8)?;
                    ensure!(error == 0, "Kafka deletes no topic: error {error}");
                }
                Process::Child(_) => {
                    self.nats(&format!("$JS.API.STREAM.DELETE.{stream}"), &json!({}))?;
                }
            }
        }
        Ok(())
    }

    /// One command, and the first line of the answer, or all of a bulk string.
    fn redis(&self, words: &[&[u8]]) -> anyhow::Result<String> {
        let mut line = Line::open(self.address)?;
        line.send(&redis::command(words))?;
        loop {
            line.receive()?;
            let said = String::from_utf8_lossy(line.waiting()).into_owned();
            let Some((first, rest)) = said.split_once("\r\n") else { continue };
            ensure!(!first.starts_with('-'), "Redis answers {first}");
            match first.strip_prefix('$').map(str::parse::<usize>).transpose()? {
                None => return Ok(first.to_owned()),
                Some(length) if rest.len() >= length + 2 => return Ok(rest[..length].to_owned()),
                Some(_) => {}
            }
        }
    }

    /// One request to the API, and its answer.
    fn nats(&self, subject: &str, body: &serde_json::Value) -> anyhow::Result<serde_json::Value> {
        let mut line = Line::open(self.address)?;
        line.send(&[nats::hello("_INBOX.api"), nats::request(subject, "_INBOX.api", body)].concat())?;
        loop {
            line.receive()?;
            if let Some((answer, _)) = nats::answer(line.waiting())? {
                return Ok(answer);
            }
        }
    }

    /// One request about a topic: the error in the answer and what is behind it.
    fn kafka(&self, request: &[u8], topic: &str, fields_before: usize) -> anyhow::Result<(i16, Vec<u8>)> {
        let mut line = Line::open(self.address)?;
        line.send(request)?;
        loop {
            line.receive()?;
            let waiting = line.waiting();
            if kafka::answer_bytes(waiting).is_some_and(|bytes| waiting.len() >= bytes) {
                return kafka::outcome(waiting, topic, fields_before);
            }
        }
    }
}

/// One request about a stream, and its answer.
fn about(server: &Server, method: &str, stream: &str, wanted: u16) -> anyhow::Result<Answer> {
    let body = (method == "PUT").then_some(b"{}" as &[u8]);
    let headers = [("Accept", "application/json"), ("Content-Type", "application/json")];
    let headers = if body.is_some() { &headers[..] } else { &headers[..1] };
    let answer = server.client().send(method, &format!("/streams/{stream}"), headers, body)?;
    let said = String::from_utf8_lossy(&answer.body);
    ensure!(answer.status == wanted, "{method} of {stream} is answered with {}: {said}", answer.status);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;
    use rustix::process::{Signal, kill_process};
    use vault_tests::server::temporary_directory;

    use super::*;

    #[test]
    fn a_system_that_dies_is_named_with_its_end_and_its_log() {
        let said = [
            (System::Vault, "listening on"),
            (System::Redis, "Ready to accept connections"),
            (System::Nats, "Server is ready"),
        ];
        for (system, said) in said {
            let running = system.start(temporary_directory()).unwrap();
            let text = |done: anyhow::Result<()>| format!("{:#}", done.unwrap_err());
            let lives = text(running.named("a turn", || bail!("no room")));
            let name = system.name();
            assert!(lives.starts_with(&format!("a turn: {name} runs; its log ends with\n")), "{lives}");
            assert!(lives.ends_with("---: no room"), "{lives}");
            kill_process(running.pid(), Signal::KILL).unwrap();
            let died = text(running.named("a turn", || running.length("s").map(drop)));
            assert!(died.starts_with(&format!("a turn: {name} was ended by signal 9")), "{died}");
            assert!(died.contains(said), "{died}");
        }
    }
}
