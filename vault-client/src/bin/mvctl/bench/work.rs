//! Who appends, who reads, and what they hold against each other.

use std::time::Duration;

use futures::FutureExt;
use futures::stream::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use vault_client::{Client, Message, Reader, Received};

use super::body::{self, Head};
use super::figures::Measured;
use crate::failure::{Exit, Failure};

/// A batch is sent when it is whole, and not after a time.
const LINGER: Duration = Duration::from_secs(3_600);

/// The most bytes of a request: larger batches are several.
const REQUEST_BYTES: usize = 3 << 20;

/// How long a following reader may take for what was acknowledged before all appends ended.
const CATCH_UP: Duration = Duration::from_secs(60);

/// What all of them know.
#[derive(Clone)]
pub(super) struct Course {
    pub(super) client: Client,
    pub(super) stream: String,
    pub(super) producers: u32,
    pub(super) batch: u32,
    pub(super) size: usize,
    /// The time that stands in messages is counted from here.
    pub(super) began: Instant,
}

/// One producer: batch after batch, each once the one before it is acknowledged, until `end`. The latency is that of a
/// batch, from the request to the acknowledgement.
pub(super) async fn produce(course: Course, producer: u32, end: Instant) -> Result<Measured, Failure> {
    let sender = course.client.producer(&course.stream).linger(LINGER).request_bytes(REQUEST_BYTES);
    let sender = sender.start()?;
    let mut measured = Measured::new();
    while Instant::now() < end {
        for index in 0..course.batch {
            let sent_ns = u64::try_from(course.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let head = Head { producer, sequence: measured.messages + u64::from(index), sent_ns };
            sender.send(Message::new(body::make(head, course.size))).await?;
        }
        let begun = Instant::now();
        sender.flush().await?;
        measured.record(begun.elapsed());
        measured.messages += u64::from(course.batch);
    }
    sender.close().await;
    Ok(measured)
}

/// Holds what is read against what was written: of each producer every message, once, in order.
struct Checker {
    size: usize,
    next: Vec<u64>,
}

impl Checker {
    fn new(course: &Course) -> Self {
        Self { size: course.size, next: vec![0; course.producers as usize] }
    }

    fn take(&mut self, message: &Received) -> Result<Head, String> {
        let head = body::read(message, self.size)?;
        let offset = message.offset();
        let Some(next) = self.next.get_mut(head.producer as usize) else {
            return Err(format!("at offset {offset} stands a message that nobody here has sent"));
        };
        if head.sequence != *next {
            return Err(format!(
                "at offset {offset} stands message {} of producer {}, and message {next} was to come",
                head.sequence, head.producer
            ));
        }
        *next += 1;
        Ok(head)
    }

    /// What was read is all that was acknowledged.
    fn check(&self, acknowledged: &[u64]) -> Result<(), String> {
        for (producer, (read, acknowledged)) in self.next.iter().zip(acknowledged).enumerate() {
            if read != acknowledged {
                return Err(format!(
                    "{acknowledged} messages of producer {producer} were acknowledged, and {read} are there"
                ));
            }
        }
        Ok(())
    }
}

fn not_the_same(sentence: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("what was read is not what was written: {sentence}"))
}

/// How many messages of each producer were acknowledged, once that is known.
pub(super) type Acknowledged = watch::Receiver<Option<Vec<u64>>>;

/// One reader that follows while messages are appended. The latency is that of each message, from when it was handed to its
/// producer until it was read.
pub(super) async fn follow(course: Course, mut acknowledged: Acknowledged) -> Result<Measured, Failure> {
    let mut reader = course.client.reader(&course.stream).follow().start();
    let mut checker = Checker::new(&course);
    let mut measured = Measured::new();
    let mut total: Option<Vec<u64>> = None;
    let enough = |measured: &Measured, total: &Option<Vec<u64>>| {
        total.as_ref().is_some_and(|total| measured.messages >= total.iter().sum())
    };
    while !enough(&measured, &total) {
        let message = match reader.next().now_or_never() {
            Some(message) => message,
            None => tokio::select! {
                message = late(&mut reader, total.is_some()) => message?,
                _ = acknowledged.changed(), if total.is_none() => {
                    total = acknowledged.borrow().clone();
                    continue;
                }
            },
        };
        let Some(message) = message else { break };
        let head = checker.take(&message?).map_err(not_the_same)?;
        measured.messages += 1;
        let sent = course.began + Duration::from_nanos(head.sent_ns);
        measured.record(Instant::now().duration_since(sent));
    }
    checker.check(&total.unwrap_or_default()).map_err(not_the_same)?;
    Ok(measured)
}

type Next = Option<Result<Received, vault_client::ReadError>>;

/// The next message, which must come in time where all are stored.
async fn late(reader: &mut Reader, all_are_stored: bool) -> Result<Next, Failure> {
    if !all_are_stored {
        return Ok(reader.next().await);
    }
    timeout(CATCH_UP, reader.next()).await.map_err(|_| {
        let seconds = CATCH_UP.as_secs();
        not_the_same(format!("a following reader waited {seconds} s in vain for what was acknowledged"))
    })
}

/// One reader that reads everything from the start. The latency is how long it waited whenever nothing was at hand.
pub(super) async fn replay(course: Course, acknowledged: Vec<u64>) -> Result<Measured, Failure> {
    let mut reader = course.client.reader(&course.stream).start();
    let mut checker = Checker::new(&course);
    let mut measured = Measured::new();
    loop {
        let message = match reader.next().now_or_never() {
            Some(message) => message,
            None => {
                let begun = Instant::now();
                let message = reader.next().await;
                measured.record(begun.elapsed());
                message
            }
        };
        let Some(message) = message else { break };
        checker.take(&message?).map_err(not_the_same)?;
        measured.messages += 1;
    }
    checker.check(&acknowledged).map_err(not_the_same)?;
    Ok(measured)
}
