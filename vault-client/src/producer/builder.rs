//! How a producer is made.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use vault_format::limits::{MAX_PRODUCER_ID_BYTES, MAX_RUN_BYTES};

use super::queue::Queue;
use super::sender::{Identity, Sender};
use super::{Producer, Report, Shared, State};
use crate::client::Client;
use crate::clock;
use crate::error::Error;
use crate::limits::{
    DEFAULT_BUFFER_BYTES, DEFAULT_LINGER, DEFAULT_REQUEST_BYTES, DEFAULT_VALUE_BYTES, MAX_REQUESTS_IN_FLIGHT,
};

/// How a producer is made; see [`Client::producer`].
#[derive(Clone, Debug)]
pub struct ProducerBuilder {
    client: Client,
    stream: String,
    id: Option<String>,
    idempotent: bool,
    linger: Duration,
    request_bytes: usize,
    requests_in_flight: usize,
    buffer_bytes: usize,
    value_bytes: usize,
    retry_time: Duration,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Client, stream: &str) -> Self {
        Self {
            retry_time: client.retry_time(),
            client,
            stream: stream.to_owned(),
            id: None,
            idempotent: true,
            linger: DEFAULT_LINGER,
            request_bytes: DEFAULT_REQUEST_BYTES,
            requests_in_flight: MAX_REQUESTS_IN_FLIGHT,
            buffer_bytes: DEFAULT_BUFFER_BYTES,
            value_bytes: DEFAULT_VALUE_BYTES,
        }
    }

    /// What the stream knows the producer by, 1 to 64 printable ASCII characters: a random one unless told otherwise. Of
    /// producers with one id only the newest is let in; what an older one has on its way is refused.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Without numbers on requests: one request is on its way at a time, and one whose answer got lost is not sent again.
    #[must_use]
    pub fn without_idempotence(mut self) -> Self {
        self.idempotent = false;
        self
    }

    /// How long a message waits for others to share its request: 5 ms unless told otherwise.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// At how many bytes of records a request is sent at once: 512 KiB unless told otherwise, at most 3 MiB.
    #[must_use]
    pub fn request_bytes(mut self, bytes: usize) -> Self {
        self.request_bytes = bytes.clamp(1, MAX_RUN_BYTES);
        self
    }

    /// How many requests are on their way at once, 1 to 5: 5 unless told otherwise.
    #[must_use]
    pub fn requests_in_flight(mut self, requests: usize) -> Self {
        self.requests_in_flight = requests.clamp(1, MAX_REQUESTS_IN_FLIGHT);
        self
    }

    /// How many bytes that are not acknowledged the producer holds before [`Producer::send`] waits: 32 MiB unless told
    /// otherwise, at least as much as one request may have.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes.clamp(2 * MAX_RUN_BYTES, Semaphore::MAX_PERMITS);
        self
    }

    /// The longest value that is sent: 64 MiB unless told otherwise. What is longer than one message travels as several.
    #[must_use]
    pub fn value_bytes(mut self, bytes: usize) -> Self {
        self.value_bytes = bytes;
        self
    }

    /// For how long a request is sent again: as long as the client's other requests, unless told otherwise.
    #[must_use]
    pub fn retry_time(mut self, time: Duration) -> Self {
        self.retry_time = time;
        self
    }

    /// Starts the producer, in the runtime that this is called in. Nothing is sent yet.
    pub fn start(self) -> Result<Producer, Error> {
        let id = self.id.clone().unwrap_or_else(|| format!("{:032x}", u128::from_le_bytes(clock::random())));
        if !(1..=MAX_PRODUCER_ID_BYTES).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(Error::Settings(format!(
                "a producer's id has 1 to {MAX_PRODUCER_ID_BYTES} printable ASCII characters"
            )));
        }
        // The path is built once, so that a wrong name is known here.
        self.client.path(&self.stream, "/messages")?;
        let requests_in_flight = if self.idempotent { self.requests_in_flight } else { 1 };
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: Queue::new(self.request_bytes, self.linger),
                pushed_runs: 0,
                ended: None,
                closing: false,
                report: Report::default(),
            }),
            room: Semaphore::new(self.buffer_bytes),
            wake: Notify::new(),
            settled_runs: watch::Sender::new(0),
        });
        let sender = Sender {
            shared: Arc::clone(&shared),
            client: self.client.clone(),
            stream: self.stream,
            identity: self.idempotent.then(|| Identity::new(id, self.client.now())),
            requests_in_flight,
            retry_time: self.retry_time,
        };
        let message_bytes = self.client.message_bytes();
        let task = tokio::spawn(sender.run());
        Ok(Producer { shared, message_bytes, value_bytes: self.value_bytes, task })
    }
}
