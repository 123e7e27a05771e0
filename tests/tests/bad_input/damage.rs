//! Damaged and missing files. Damage is told from a tail, reported, and nothing is made worse: what comes before it is
//! served, appends are refused, the other streams go on.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use vault_format::header::{Header, Kind};
use vault_format::limits::BLOCK_BYTES;
use vault_tests::message::{Message, Stored};
use vault_tests::segments::{SegmentFile, container, header_of_version_2, segments};
use vault_tests::server::Server;
use vault_tests::wait::{LONG, until};

use crate::server;

/// A stream in a stopped vault, ready to be damaged.
struct Patient {
    server: Server,
    directory: TempDir,
    messages: Vec<Stored>,
}

impl Patient {
    /// Each request becomes a batch of its own, as there is one at a time.
    fn new(segment_bytes: u64, requests: usize, value_bytes: usize) -> Self {
        let (mut server, directory) = server();
        let client = server.client();
        client.create("s", segment_bytes);
        for request in 0..requests {
            client.append("s", &[Message::value(format!("{request} {}", "x".repeat(value_bytes)))]);
        }
        client.append_text("other", "of another stream");
        let messages = client.read_all("s");
        assert_eq!(messages.len(), requests);
        server.stop_in_order();
        Self { server, directory, messages }
    }

    fn small() -> Self {
        Self::new(4 << 20, 10, 700)
    }

    fn segments(&self) -> Vec<SegmentFile> {
        segments(self.directory.path(), "s")
    }

    fn last(&self) -> SegmentFile {
        self.segments().pop().expect("there is a segment")
    }

    fn decode(&self) -> (Option<i32>, String) {
        let decoder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("decoder/decode.py");
        let container = container(self.directory.path(), "s");
        let output = Command::new("python3").arg(decoder).arg(container).output().expect("python3 is there");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Starts the server on what is there now: messages below `readable` are served, then comes `code`.
    fn assert_held_back(&mut self, code: &str, readable: usize) {
        let before: Vec<_> =
            self.segments().iter().map(|segment| (segment.path.clone(), segment.bytes())).collect();
        self.server.restart();
        let client = self.server.client();
        let (served, refused) = client.read_until_refused("s", 0);
        assert!(served == self.messages[..readable], "{} messages are served, not {readable}", served.len());
        if let Some(refused) = refused {
            let problem = refused.expect_problem(500, code);
            assert_eq!(problem["retryable"], false);
        }
        let append = client.try_append("s", &[Message::value("after")]).expect("an answer");
        let problem = append.expect_problem(500, code);
        assert_eq!(
            (&problem["side_effects"], &problem["retryable"]),
            (&"none".into(), &false.into()),
            "{problem}"
        );
        let status = client.get("/status").expect(200).json().to_string();
        assert!(status.contains(code), "the status names it: {status}");
        until("the log names it", LONG, || self.server.log().contains(code).then_some(()));
        client.append_text("other", "other streams go on");
        assert_eq!(client.read_all("other").len(), 2);
        let summary = client.get("/streams/s").expect(200).json();
        assert!(summary["condition"] == code && summary["trouble"].is_string(), "{summary}");
        let metrics = client.get_as("/metrics", "text/plain").expect(200).body;
        let metrics = String::from_utf8(metrics).expect("it is text");
        for (stream, condition) in [("s", code), ("other", "open")] {
            let series =
                format!("messagevault_stream_condition{{stream=\"{stream}\",condition=\"{condition}\"}} 1");
            assert!(metrics.contains(&series), "{series} in {metrics}");
        }
        self.server.stop_in_order();
        for (path, bytes) in before {
            assert!(fs::read(&path).expect("it is still there") == bytes, "{} was changed", path.display());
        }
    }

    fn assert_corrupt(&mut self, readable: usize) {
        let (exit, stderr) = self.decode();
        assert_eq!(exit, Some(1), "the decoder sees the damage too: {stderr}");
        assert!(!stderr.is_empty(), "and says so");
        self.assert_held_back("corrupt", readable);
    }
}

/// How many messages come before a batch.
fn before(header: &Header) -> usize {
    usize::try_from(header.base_offset.0).expect("it is small")
}

#[test]
fn a_bit_in_a_payload() {
    let mut patient = Patient::small();
    let batch = patient.last().message_batches()[4];
    patient.last().flip_payload(&batch);
    patient.assert_corrupt(before(&batch));
}

#[test]
fn a_bit_in_a_header() {
    let mut patient = Patient::small();
    let batch = patient.last().message_batches()[4];
    patient.last().flip_header(&batch);
    patient.assert_corrupt(before(&batch));
}

#[test]
fn a_bit_in_the_last_batch_that_the_commit_batch_vouches_for() {
    let mut patient = Patient::small();
    let headers = patient.last().headers();
    let [.., batch, commit] = &headers[..] else { panic!("there are batches: {headers:?}") };
    assert_eq!((batch.kind, commit.kind), (Kind::Messages, Kind::Commit));
    patient.last().flip_payload(batch);
    patient.assert_corrupt(patient.messages.len() - 1);
}

#[test]
fn a_reader_that_comes_to_the_damage_is_told() {
    let mut patient = Patient::small();
    let batch = patient.last().message_batches()[4];
    patient.last().flip_payload(&batch);
    patient.server.restart();
    let path = format!("/streams/s/messages?from={}&wait=1", batch.base_offset);
    let answer = patient.server.client().get(&path);
    // An empty page would say that the stream ends here, and readers would wait for ever.
    answer.expect_problem(500, "corrupt");
}

#[test]
fn a_bit_in_the_first_page_of_the_first_segment() {
    let mut patient = Patient::small();
    let first = patient.last().headers()[0];
    patient.last().flip_header(&first);
    patient.assert_corrupt(0);
}

#[test]
fn a_bit_in_a_segment_that_is_full() {
    let mut patient = Patient::new(4 << 20, 20, 700_000);
    let segments = patient.segments();
    assert!(segments.len() >= 3, "several are full");
    let batch = segments[1].message_batches()[2];
    segments[1].flip_payload(&batch);
    // Nobody looks at old segments until they are read: this one comes to light then.
    patient.assert_corrupt(before(&batch));
}

#[test]
fn a_block_of_zeros_in_the_middle() {
    let mut patient = Patient::new(32 << 20, 30, 700_000);
    let segment = patient.last();
    let lost = segment.message_batches().into_iter().find(|batch| batch.position.0 >= BLOCK_BYTES);
    let lost = lost.expect("more than a block is written");
    assert!(segment.message_batches().last().expect("so it is").position.0 > 3 * BLOCK_BYTES);
    segment.write(BLOCK_BYTES, &vec![0; 4 << 20]);
    patient.assert_corrupt(before(&lost));
}

#[test]
fn a_segment_that_was_cut_off() {
    let mut patient = Patient::new(4 << 20, 20, 700_000);
    let cut = &patient.segments()[1];
    let batch = cut.message_batches()[2];
    cut.truncate(batch.position.0 + 1024);
    patient.assert_corrupt(before(&batch));
}

#[test]
fn a_last_segment_that_was_cut_off() {
    let mut patient = Patient::small();
    let batch = patient.last().message_batches()[6];
    patient.last().truncate(batch.position.0);
    patient.assert_corrupt(before(&batch));
}

#[test]
fn a_batch_of_a_later_version_of_the_format() {
    let mut patient = Patient::small();
    let last = patient.last().headers().pop().expect("there are batches");
    let like = Header { position: last.end(), ..last };
    patient.last().write(like.position.0, &header_of_version_2(&like));
    let (exit, stderr) = patient.decode();
    assert_eq!(exit, Some(3), "the decoder sees it too: {stderr}");
    patient.assert_held_back("format_too_new", patient.messages.len());
}

#[test]
fn remains_of_a_write_that_nobody_was_told_about_are_no_damage() {
    let mut patient = Patient::small();
    let end = patient.last().headers().pop().expect("there are batches").end();
    patient.last().write(end.0, &[0x55; 512]);
    patient.server.restart();
    let client = patient.server.client();
    assert!(client.read_all("s") == patient.messages, "all that was acknowledged");
    assert_eq!(client.append_text("s", "after").first_offset, patient.messages.len() as u64);
    assert_eq!(client.read_all("s").len(), patient.messages.len() + 1);
}

#[test]
fn a_directory_removed_under_a_running_server() {
    let (server, directory) = server();
    let client = server.client();
    for stream in ["s", "other"] {
        client.append_text(stream, "before");
    }
    let container = container(directory.path(), "s");
    fs::remove_dir_all(&container).expect("it is there");

    let refused = client.try_append("s", &[Message::value("after")]).expect("an answer");
    assert_ne!(refused.status, 200, "nothing is acknowledged that is not stored");
    until("the stream is known to be missing", LONG, || {
        let answer = client.try_append("s", &[Message::value("after")]).expect("an answer");
        assert_ne!(answer.status, 200, "nothing is acknowledged that is not stored");
        (answer.problem()["code"] == "data_missing").then_some(())
    });
    assert_eq!(client.put("/streams/s", &serde_json::json!({})).problem()["code"], "data_missing");
    assert!(!container.exists(), "it is not made anew by itself");
    client.append_text("other", "other streams go on");

    assert!((200..300).contains(&client.delete("/streams/s").status), "a DELETE forgets it");
    client.get("/streams/s").expect_problem(404, "stream_not_found");
    assert_eq!(client.append_text("s", "a new beginning").first_offset, 0);
}

#[test]
fn all_segments_removed_while_the_server_was_away() {
    let mut patient = Patient::small();
    for segment in patient.segments() {
        fs::remove_file(segment.path).expect("it is there");
    }
    patient.assert_held_back("data_missing", 0);
    assert!(patient.segments().is_empty(), "none is made anew");
}
