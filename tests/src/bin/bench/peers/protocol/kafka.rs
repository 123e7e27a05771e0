//! Apache Kafka, in the versions of its protocol before compact encodings: one record batch a request, and fetches of
//! stored batches. See <https://kafka.apache.org/protocol>.

use anyhow::{Context, bail, ensure};

use super::{Answers, Append, Found, How, Read};
use crate::peers::value::{Template, value};

const PRODUCE: (i16, i16) = (0, 7);
const FETCH: (i16, i16) = (1, 4);
const LIST_OFFSETS: (i16, i16) = (2, 1);
const CREATE_TOPICS: (i16, i16) = (19, 2);
const DELETE_TOPICS: (i16, i16) = (20, 1);

/// How long the broker may take, in ms.
const TIMEOUT_MS: i32 = 30_000;

/// What one fetch brings at most. Whoever asks for less waits more often for an answer.
const FETCH_BYTES: i32 = 8 << 20;

/// In front of a record batch's length, and with it.
const BATCH_HEAD_BYTES: usize = 12;

/// From a record batch's length up to its records.
const BATCH_FIELDS_BYTES: usize = 49;

/// A request, or a part of one.
#[derive(Debug, Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn request((key, version): (i16, i16)) -> Self {
        Self::default().i32(0).i16(key).i16(version).i32(0).text("bench")
    }

    fn i16(mut self, number: i16) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn i32(mut self, number: i32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn i64(mut self, number: i64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        let length = i16::try_from(text.len()).expect("names are short");
        self.i16(length).bytes(text.as_bytes())
    }

    /// The whole request, with its length in front.
    fn end(mut self) -> Vec<u8> {
        let length = i32::try_from(self.0.len() - 4).expect("requests are below 2 GiB");
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

/// Makes a topic of one partition.
pub(crate) fn create_topic(topic: &str, configs: &[(&str, &str)]) -> Vec<u8> {
    let count = i32::try_from(configs.len()).expect("they are few");
    let request = Fields::request(CREATE_TOPICS).i32(1).text(topic).i32(1).i16(1).i32(0).i32(count);
    let with = configs.iter().fold(request, |request, (name, value)| request.text(name).text(value));
    with.i32(TIMEOUT_MS).bytes(&[0]).end()
}

/// Deletes it.
pub(crate) fn delete_topic(topic: &str) -> Vec<u8> {
    Fields::request(DELETE_TOPICS).i32(1).text(topic).i32(TIMEOUT_MS).end()
}

/// Asks for the offset behind the last message.
pub(crate) fn list_offsets(topic: &str) -> Vec<u8> {
    Fields::request(LIST_OFFSETS).i32(-1).i32(1).text(topic).i32(1).i32(0).i64(-1).end()
}

/// What the answers to these say: the error, and the bytes behind it.
pub(crate) fn outcome(answer: &[u8], topic: &str, fields_before: usize) -> anyhow::Result<(i16, Vec<u8>)> {
    // Length, correlation, other fields, the number of topics, the topic's name, ...
    let at = 8 + fields_before + 2 + topic.len();
    let error = answer.get(at..at + 2).context("an answer that is too short")?;
    Ok((i16::from_be_bytes([error[0], error[1]]), answer[at + 2..].to_vec()))
}

/// The length of the answer at the front of what was received, its length field included, once it is known.
pub(crate) fn answer_bytes(received: &[u8]) -> Option<usize> {
    let length = received.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))?;
    Some(4 + usize::try_from(length).unwrap_or(0))
}

fn varint(value: i64, out: &mut Vec<u8>) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        out.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push((zigzag & 0x7f) as u8);
}

fn take_varint(bytes: &mut &[u8]) -> anyhow::Result<i64> {
    let (mut zigzag, mut shift) = (0u64, 0);
    loop {
        let (byte, rest) = bytes.split_first().context("a record is cut off")?;
        *bytes = rest;
        ensure!(shift < 64, "a number is too long");
        zigzag |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
        }
    }
}

/// One record batch a request.
#[derive(Debug)]
pub(crate) struct Appender {
    template: Template,
    /// Where the record batch begins.
    batch: usize,
    topic: String,
}

impl Appender {
    pub(crate) fn new(topic: &str, producer: u16, messages: usize) -> Self {
        let value = value(producer);
        let (mut records, mut ends) = (Vec::new(), Vec::new());
        for delta in (0..).take(messages) {
            let mut record = vec![0];
            varint(0, &mut record);
            varint(delta, &mut record);
            varint(-1, &mut record);
            varint(i64::try_from(value.len()).expect("values are short"), &mut record);
            record.extend_from_slice(&value);
            // No headers.
            record.push(0);
            varint(i64::try_from(record.len()).expect("records are short"), &mut records);
            records.extend_from_slice(&record);
            ends.push(records.len() - 1);
        }
        let count = i32::try_from(messages).expect("batches are short");
        let length = i32::try_from(BATCH_FIELDS_BYTES + records.len()).expect("batches are below 2 GiB");
        // Leader epoch, magic, checksum, attributes; last offset; two times; producer's id, epoch and sequence.
        let batch = Fields::default().i64(0).i32(length).i32(0).bytes(&[2]).i32(0).i16(0);
        let now = jiff::Timestamp::now().as_millisecond();
        let batch = batch.i32(count - 1).i64(now).i64(now).i64(-1).i16(-1).i32(-1).i32(count);
        let head = batch.0.len();
        let batch = batch.bytes(&records).0;
        let length = i32::try_from(batch.len()).expect("batches are below 2 GiB");
        // Outside of transactions, acknowledged by all replicas.
        let request = Fields::request(PRODUCE).i16(-1).i16(-1).i32(TIMEOUT_MS);
        let request = request.i32(1).text(topic).i32(1).i32(0).i32(length).bytes(&batch).end();
        let at = request.len() - batch.len();
        let values = ends.into_iter().map(|end| at + head + end - value.len()).collect();
        Self { template: Template { bytes: request, values, producer }, batch: at, topic: topic.to_owned() }
    }
}

impl Append for Appender {
    fn request(&mut self, first: u64, due_us: u64) -> &[u8] {
        self.template.stamp(first, due_us);
        // The checksum is over everything behind it.
        let (head, summed) = self.template.bytes[self.batch..].split_at_mut(BATCH_HEAD_BYTES + 9);
        head[BATCH_HEAD_BYTES + 5..].copy_from_slice(&crc32c::crc32c(summed).to_be_bytes());
        &self.template.bytes
    }

    fn answers(&mut self, received: &[u8], _send: &mut Vec<u8>) -> anyhow::Result<Answers> {
        let Some(bytes) = answer_bytes(received).filter(|bytes| received.len() >= *bytes) else {
            return Ok(Answers { bytes: 0, messages: 0 });
        };
        // The numbers of topics and partitions, and the partition's.
        let (error, _) = outcome(&received[..bytes], &self.topic, 4 + 4 + 4)?;
        ensure!(error == 0, "Kafka answers with error {error}");
        Ok(Answers { bytes, messages: self.template.values.len() })
    }
}

/// Fetches from one offset to the next.
#[derive(Debug)]
pub(crate) struct Reader {
    topic: String,
    how: How,
    next_offset: i64,
    /// Bytes of stored batches that are to come; `None` where an answer's head is.
    left: Option<usize>,
    /// Of these, bytes of a batch that nobody looks at.
    passing: usize,
}

impl Reader {
    pub(crate) fn new(topic: &str, how: How) -> Self {
        Self { topic: topic.to_owned(), how, next_offset: 0, left: None, passing: 0 }
    }

    /// The head of an answer: how many bytes of batches follow, and its own bytes.
    fn head(&self, received: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
        // Length, correlation, throttle, topics, the name, partitions, partition; error, two offsets, transactions.
        let before = 4 + 4 + 4 + 4 + 2 + self.topic.len() + 4 + 4;
        let at = before + 2 + 8 + 8 + 4;
        let Some(head) = received.get(..at + 4) else { return Ok(None) };
        let number = |at: usize| i32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let error = i16::from_be_bytes([head[before], head[before + 1]]);
        ensure!(error == 0, "Kafka answers a fetch with error {error}");
        ensure!(number(at - 4) <= 0, "nobody has aborted a transaction");
        Ok(Some((usize::try_from(number(at)).unwrap_or(0), at + 4)))
    }

    /// The batch at the front: its bytes, and how many messages it has. `None` where not all of it is there that is
    /// looked at.
    fn batch(
        &mut self,
        received: &[u8],
        found: &mut dyn FnMut(Found<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<Option<usize>> {
        let Some(head) = received.get(..BATCH_HEAD_BYTES + BATCH_FIELDS_BYTES) else { return Ok(None) };
        let long = |at: usize| head[at..].first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
        let int = |at: usize| head[at..].first_chunk().map_or(0, |bytes| i32::from_be_bytes(*bytes));
        let bytes = BATCH_HEAD_BYTES + usize::try_from(int(8))?;
        let (first, count) = (long(0), int(57));
        let next = first + i64::from(int(23)) + 1;
        ensure!(head[16] == 2, "a batch of format {}", head[16]);
        if self.how == How::Skim {
            self.next_offset = next;
            found(Found::Passed(u64::try_from(count)?))?;
            return Ok(Some(bytes));
        }
        let Some(batch) = received.get(..bytes) else { return Ok(None) };
        let crc = crc32c::crc32c(&batch[BATCH_HEAD_BYTES + 9..]);
        ensure!(crc == int(17).cast_unsigned(), "a batch is damaged");
        let mut records = &batch[BATCH_HEAD_BYTES + BATCH_FIELDS_BYTES..];
        for offset in first..first + i64::from(count) {
            let length = usize::try_from(take_varint(&mut records)?)?;
            let (mut record, rest) = records.split_at_checked(length).context("a record is cut off")?;
            records = rest;
            record = record.get(1..).context("a record is empty")?;
            take_varint(&mut record)?;
            take_varint(&mut record)?;
            ensure!(take_varint(&mut record)? == -1, "nobody has sent a key");
            let length = usize::try_from(take_varint(&mut record)?)?;
            // A fetch begins with the batch that holds the offset.
            if offset >= self.next_offset {
                found(Found::Value(record.get(..length).context("a value is cut off")?))?;
            }
        }
        self.next_offset = next;
        Ok(Some(bytes))
    }
}

impl Read for Reader {
    fn begin(&mut self) -> Vec<u8> {
        let (wait_ms, at_least) = if self.how == How::Follow { (TIMEOUT_MS, 1) } else { (500, 1) };
        let request = Fields::request(FETCH).i32(-1).i32(wait_ms).i32(at_least).i32(FETCH_BYTES).bytes(&[0]);
        let request = request.i32(1).text(&self.topic).i32(1).i32(0).i64(self.next_offset).i32(FETCH_BYTES);
        request.end()
    }

    fn take(
        &mut self,
        received: &[u8],
        send: &mut Vec<u8>,
        found: &mut dyn FnMut(Found<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<usize> {
        let mut taken = 0;
        loop {
            let rest = &received[taken..];
            let Some(left) = self.left else {
                let Some((batches, bytes)) = self.head(rest)? else { return Ok(taken) };
                if batches == 0 && self.how != How::Follow {
                    bail!("the stream ends early");
                }
                self.left = Some(batches);
                taken += bytes;
                continue;
            };
            if left == 0 {
                self.left = None;
                send.extend_from_slice(&self.begin());
                return Ok(taken);
            }
            if self.passing > 0 {
                let bytes = self.passing.min(rest.len());
                if bytes == 0 {
                    return Ok(taken);
                }
                self.passing -= bytes;
                self.left = Some(left - bytes);
                taken += bytes;
                continue;
            }
            let Some(bytes) = self.batch_or_its_beginning(rest, left, found)? else { return Ok(taken) };
            self.passing = bytes;
        }
    }
}

impl Reader {
    /// The bytes that are done with: a batch, or what a fetch has of the last one, whose end comes with the next fetch.
    fn batch_or_its_beginning(
        &mut self,
        rest: &[u8],
        left: usize,
        found: &mut dyn FnMut(Found<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<Option<usize>> {
        if left < BATCH_HEAD_BYTES + BATCH_FIELDS_BYTES {
            return Ok(Some(left));
        }
        if let Some(length) = rest.get(8..12).and_then(|bytes| bytes.first_chunk()) {
            let bytes = BATCH_HEAD_BYTES + usize::try_from(i32::from_be_bytes(*length))?;
            if bytes > left {
                return Ok(Some(left));
            }
        }
        self.batch(rest, found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{acknowledged_in_pieces, found_in_pieces};
    use super::*;

    /// The batch that a producer sends for `messages` messages from `offset` on, as the broker stores it.
    fn stored(offset: i64, messages: usize) -> Vec<u8> {
        let mut append = Appender::new("t", 1, messages);
        let at = append.batch;
        let mut batch = append.request(0, 0)[at..].to_vec();
        batch[..8].copy_from_slice(&offset.to_be_bytes());
        batch
    }

    fn fetched(batches: &[u8]) -> Vec<u8> {
        let length = i32::try_from(batches.len()).unwrap();
        let answer = Fields::default().i32(0).i32(0).i32(0).i32(1).text("t").i32(1).i32(0);
        answer.i16(0).i64(9).i64(9).i32(-1).i32(length).bytes(batches).end()
    }

    #[test]
    fn batches_are_read_however_they_are_cut() {
        let (two, one) = (stored(0, 2), stored(2, 1));
        let cut = one.len() - 7;
        let answers = [fetched(&[&two, &one[..cut]].concat()), fetched(&one)].concat();
        let make = |how| move || -> Box<dyn Read> { Box::new(Reader::new("t", how)) };
        assert_eq!(found_in_pieces(&make(How::Skim), &answers), ["2 passed", "1 passed"]);
        let found = found_in_pieces(&make(How::Whole), &answers);
        assert_eq!(
            found.iter().map(|value| &value[4..16]).collect::<Vec<_>>(),
            ["000000000000", "000000000001", "000000000000"]
        );
        let mut damaged = fetched(&two);
        *damaged.last_mut().unwrap() ^= 1;
        let error = make(How::Whole)().take(&damaged, &mut Vec::new(), &mut |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("damaged"));
    }

    #[test]
    fn an_answer_with_an_error_is_no_acknowledgement() {
        let answer = |error: i16| {
            let fields = Fields::default().i32(0).i32(0).i32(1).text("t").i32(1).i32(0).i16(error);
            fields.i64(0).i64(-1).i64(0).i32(0).end()
        };
        let mut append = Appender::new("t", 1, 5);
        assert_eq!(acknowledged_in_pieces(&mut append, &answer(0)).unwrap(), 5);
        assert!(acknowledged_in_pieces(&mut append, &answer(3)).is_err());
    }

    #[test]
    fn numbers_of_any_length_come_back() {
        for number in [0, -1, 1, 63, -64, 64, 1_050, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            varint(number, &mut bytes);
            assert_eq!(take_varint(&mut bytes.as_slice()).unwrap(), number);
        }
    }
}
