//! Reads that go on at the tail, filtered reads and answers that never change, on the real program.
//!
//! | module | subject |
//! |---|---|
//! | `eventsource` | a client that nobody here wrote, two servers, one of them killed |
//! | `relayed` | through a follower, whose leader stands still |
//! | `live` | what comes when, and how it ends |
//! | `slow` | consumers that take nothing |
//! | `kept` | closed ranges |

mod eventsource;
mod kept;
mod live;
mod relayed;
mod slow;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use ureq::http::Request;
use vault_tests::server::{Server, Setup, temporary_directory};

/// Longer than anything that is waited for here.
const LIMIT: Duration = Duration::from_secs(60);

const EVENTS: &str = "text/event-stream";
const LINES: &str = "application/x-ndjson";

fn server() -> (Server, TempDir) {
    let directory = temporary_directory();
    (Setup::in_directory(directory.path()).start(), directory)
}

/// An answer that is read while it comes.
struct Coming(BufReader<ureq::BodyReader<'static>>);

#[derive(Debug, PartialEq, Eq)]
struct Event {
    name: String,
    id: Option<u64>,
    data: Value,
}

impl Coming {
    /// Follows the stream `s`.
    fn open(address: SocketAddr, query: &str, accept: &str, headers: &[(&str, &str)]) -> Self {
        let config = ureq::Agent::config_builder().proxy(None).timeout_global(Some(LIMIT)).build();
        let agent: ureq::Agent = config.into();
        let uri = format!("http://{address}/streams/s/messages?{query}");
        let request = Request::builder().uri(uri).header("accept", accept);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = agent.run(request.body(()).expect("a request")).expect("the server answers");
        assert_eq!(answer.headers()["content-type"], accept);
        assert_eq!(answer.headers()["cache-control"], "no-store");
        Self(BufReader::new(answer.into_body().into_reader()))
    }

    /// The next line. `None` at an orderly end; an error where it breaks off.
    fn try_line(&mut self) -> std::io::Result<Option<String>> {
        let mut line = String::new();
        let bytes = self.0.read_line(&mut line)?;
        assert!(bytes == 0 || line.ends_with('\n'), "half a line: {line}");
        Ok((bytes > 0).then(|| line.trim_end_matches('\n').to_owned()))
    }

    /// The next message of lines. `None` at an orderly end.
    fn message(&mut self) -> Option<Value> {
        let line = self.try_line().expect("the answer does not break off")?;
        Some(serde_json::from_str(&line).expect("a line is JSON"))
    }

    /// The next event. `None` at an orderly end.
    fn event(&mut self) -> Option<Event> {
        let mut event = Event { name: String::new(), id: None, data: Value::Null };
        loop {
            let line = self.try_line().expect("the stream does not break off")?;
            match line.split_once(": ") {
                Some(("event", name)) => name.clone_into(&mut event.name),
                Some(("id", id)) => event.id = Some(id.parse().expect("an offset")),
                Some(("data", data)) => event.data = serde_json::from_str(data).expect("data is JSON"),
                Some(("retry", wait)) => assert_eq!(wait, "1000"),
                None if line.is_empty() && event.data.is_null() => {}
                None if line.is_empty() => return Some(event),
                _ => panic!("no field: {line}"),
            }
        }
    }

    /// The offset of the next event, which must be a message.
    fn offset(&mut self) -> u64 {
        let event = self.event().expect("there is more");
        let offset = event.data["offset"].as_u64().unwrap_or_else(|| panic!("{event:?}"));
        assert_eq!((event.name.as_str(), event.id), ("", Some(offset + 1)));
        offset
    }

    /// Whether the next event says that everything has come up to `at`.
    fn caught_up(&mut self, at: u64) {
        let event = self.event().expect("there is more");
        assert_eq!((event.name.as_str(), event.id), ("caught-up", Some(at)), "{event:?}");
        assert_eq!(event.data["next_offset"], at);
    }
}
