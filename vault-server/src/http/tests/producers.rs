//! Idempotent producers, as clients meet them.

use serde_json::{Value, json};
use vault_format::limits::MAX_RUN_BYTES;
use vault_format::record::Message;

use super::{Answer, JSON, LINES, Server, TEXT, server};
use crate::http::append::RECORDS;

const S: &str = "/streams/s/messages";

async fn post(server: &Server, kind: &str, producer: [&str; 3], body: impl Into<Vec<u8>>) -> Answer {
    let [id, epoch, sequence] = producer;
    let all = [("producer-id", id), ("producer-epoch", epoch), ("producer-seq", sequence)];
    let given = all.into_iter().filter(|(_, value)| *value != "-");
    let headers: Vec<_> = [("content-type", kind)].into_iter().chain(given).collect();
    server.post_with(&headers, body.into()).await
}

async fn values(server: &Server) -> Vec<Value> {
    let read = server.get(S).await.json();
    read["messages"].as_array().unwrap().iter().map(|message| message["value"].clone()).collect()
}

#[tokio::test]
async fn a_request_of_any_type_is_stored_once_and_answered_as_the_first_time() {
    let server = server().await;
    let mut records = Vec::new();
    for value in ["r0", "r1"] {
        Message { value: value.as_bytes(), ..Message::default() }.encode(0, &mut records);
    }
    let bodies: [(&str, Vec<u8>); 4] = [
        (TEXT, b"t".to_vec()),
        (JSON, br#"{"messages":[{"value":"j0"},{"value":"j1"}]}"#.to_vec()),
        (LINES, b"\"l0\"\n\"l1\"\n".to_vec()),
        (RECORDS, records),
    ];
    let mut answers = Vec::new();
    for (sequence, (kind, body)) in bodies.iter().enumerate() {
        let producer = ["shop-7", "3", &sequence.to_string()];
        answers.push(post(&server, kind, producer, body.clone()).await.is(200).json());
    }
    for ((sequence, (kind, body)), answer) in bodies.iter().enumerate().zip(&answers) {
        let producer = ["shop-7", "3", &sequence.to_string()];
        assert_eq!(post(&server, kind, producer, body.clone()).await.is(200).json(), *answer, "{kind}");
    }
    assert_eq!(answers[3]["first_offset"], 5);
    assert_eq!(values(&server).await, ["t", "j0", "j1", "\"l0\"", "\"l1\"", "r0", "r1"].map(Value::from));
}

#[tokio::test]
async fn what_may_not_be_stored_says_why_and_whether_to_try_again() {
    let server = server().await;
    let refused = async |epoch: &str, sequence: &str, body: &str, status: u16, code: &str| {
        let answer = post(&server, LINES, ["p", epoch, sequence], body).await;
        let problem = answer.problem(status, code);
        assert_eq!(problem["side_effects"], "none", "{problem}");
        (problem["retryable"].clone(), problem["detail"].as_str().unwrap().to_owned())
    };
    let (again, why) = refused("1", "3", "1", 409, "producer_unknown").await;
    assert!(again == json!(false) && why.contains("start a new epoch"), "{why}");
    for sequence in 0..7 {
        post(&server, LINES, ["p", "1", &sequence.to_string()], "1").await.is(200);
    }
    let (again, why) = refused("1", "8", "1", 409, "producer_gap").await;
    assert!(again == json!(true) && why.contains("is 7"), "{why}");
    let (again, why) = refused("1", "1", "1", 409, "producer_forgotten").await;
    assert!(again == json!(false) && why.contains("from 2 on"), "{why}");
    let (again, why) = refused("1", "6", "1\n2", 409, "producer_reused").await;
    assert!(again == json!(false) && why.contains("of 1 messages"), "{why}");
    post(&server, LINES, ["p", "2", "0"], "1").await.is(200);
    let (again, why) = refused("1", "7", "1", 403, "producer_fenced").await;
    assert!(again == json!(false) && why.contains("epoch 2"), "{why}");
    assert_eq!(values(&server).await.len(), 8);
}

#[tokio::test]
async fn wrong_headers_are_refused_before_anything_is_made() {
    let server = server().await;
    let longer = "x".repeat(65);
    let higher = format!("{}0", u64::MAX);
    for producer in [
        ["p", "-", "-"],
        ["-", "1", "1"],
        ["p", "1", "-"],
        ["", "1", "1"],
        [&*longer, "1", "1"],
        ["ä", "1", "1"],
        ["p", "x", "1"],
        ["p", "1", ""],
        ["p", "+1", "1"],
        ["p", "1", &*higher],
    ] {
        post(&server, TEXT, producer, "x").await.problem(400, "invalid_parameter");
    }
    server.get(S).await.problem(404, "stream_not_found");
    let longest = "x".repeat(64);
    let highest = u64::MAX.to_string();
    for producer in [["p", "0", "0"], [&*longest, &*highest, "0"], ["a b/c", "1", "000"]] {
        post(&server, TEXT, producer, "x").await.is(200);
    }
}

#[tokio::test]
async fn the_stamp_counts_against_the_size_of_a_request() {
    let server = server().await;
    let mut records = Vec::new();
    let value = vec![b'x'; 1 << 20];
    for _ in 0..2 {
        Message { value: &value, ..Message::default() }.encode(0, &mut records);
    }
    let overhead = records.len() - 2 * value.len();
    let rest = MAX_RUN_BYTES - records.len() - overhead / 2;
    Message { value: &value[..rest], ..Message::default() }.encode(0, &mut records);
    assert_eq!(records.len(), MAX_RUN_BYTES);
    post(&server, RECORDS, ["-", "-", "-"], records.clone()).await.is(200);
    post(&server, RECORDS, ["p", "0", "0"], records).await.problem(413, "request_too_large");
}
