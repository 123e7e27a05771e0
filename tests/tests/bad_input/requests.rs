//! Requests that are refused store nothing and say what is wrong.

use serde_json::json;
use vault_tests::client::Client;
use vault_tests::message::{Message, to_json, to_records};

use crate::server;

const JSON: &str = "application/json";
const MIB: usize = 1 << 20;
const APPEND: &str = "/streams/s/messages";

/// The stream holds exactly these texts.
fn assert_holds(client: &Client, texts: &[&str]) {
    let stored = client.read_all("s");
    assert_eq!(stored.iter().map(|one| one.message.text()).collect::<Vec<_>>(), texts);
}

#[test]
fn malformed_json_names_the_message() {
    let (server, _directory) = server();
    let client = server.client();
    client.append_text("s", "before");
    let wrong = [
        r#"{"value":7}"#,
        r#"{"value":"unfinished"#,
        r#"{"key":"k"}"#,
        r#"{"value":"a","vlaue":"b"}"#,
        r#"{"value":"a","value_base64":"YQ=="}"#,
        r#"{"value_base64":"%%"}"#,
        r#"{"value":"a","attributes":3}"#,
        r"7",
    ];
    for message in wrong {
        let body = format!(r#"{{"messages":[{{"value":"a"}},{{"value":"b"}},{message}]}}"#);
        let answer = client.post(APPEND, JSON, body.as_bytes());
        let problem = answer.problem();
        assert_eq!((answer.status, &problem["message_index"]), (400, &json!(2)), "{message}: {problem}");
        assert_eq!((&problem["retryable"], &problem["side_effects"]), (&json!(false), &json!("none")));
    }
    for body in ["", "{", "[]", "{}", r#"{"messages":[]}"#, r#"{"messages":[{"value":"a"}]} and more"#] {
        assert_eq!(client.post(APPEND, JSON, body.as_bytes()).problem()["status"], 400, "{body}");
    }
    assert_holds(&client, &["before"]);
}

#[test]
fn a_malformed_line_or_record_names_the_message() {
    let (server, _directory) = server();
    let client = server.client();
    client.append_text("s", "before");
    let lines = client.post(APPEND, "application/x-ndjson", b"{\"n\":1}\n{\"n\":2}\n{\"n\":\n");
    assert_eq!((lines.status, &lines.problem()["message_index"]), (400, &json!(2)));

    let mut records = to_records(&[Message::value("a"), Message::value("b")]);
    records.extend([5, 0, 0]);
    let cut_off = client.post(APPEND, "application/vnd.messagevault.records", &records);
    assert_eq!((cut_off.status, &cut_off.problem()["message_index"]), (400, &json!(2)));
    assert_holds(&client, &["before"]);
}

#[test]
fn a_message_may_be_exactly_as_long_as_allowed() {
    let (server, _directory) = server();
    let client = server.client();
    let longest = "x".repeat(MIB);
    let too_long = "x".repeat(MIB + 1);
    let bodies = |text: &str| {
        [
            (JSON, to_json(&[Message::value(text)])),
            ("application/octet-stream", text.as_bytes().to_vec()),
            ("text/plain", text.as_bytes().to_vec()),
            ("application/x-ndjson", format!("\"{}\"", &text[2..]).into_bytes()),
            ("application/vnd.messagevault.records", to_records(&[Message::value(text)])),
        ]
    };
    for (kind, body) in bodies(&too_long) {
        let problem = client.post(APPEND, kind, &body).expect_problem(413, "message_too_large");
        assert_eq!(problem["side_effects"], "none", "{kind}");
    }
    // The stream was not even made by what was refused.
    assert!([200, 404].contains(&client.get("/streams/s").status));
    for (count, (kind, body)) in (1..).zip(bodies(&longest)) {
        assert_eq!(client.post(APPEND, kind, &body).expect(200).appended().next_offset, count, "{kind}");
    }
    let stored = client.read_all("s");
    assert!(stored.len() == 5 && stored.iter().all(|one| one.message.value.len() == MIB));
}

#[test]
fn a_request_of_more_than_3_mib_is_refused_whole() {
    let (server, _directory) = server();
    let client = server.client();
    client.append_text("s", "before");
    let four = vec![Message::value("x".repeat(MIB - 100)); 4];
    for (kind, body) in [(JSON, to_json(&four)), ("application/vnd.messagevault.records", to_records(&four))]
    {
        let problem = client.post(APPEND, kind, &body).expect_problem(413, "request_too_large");
        assert_eq!(problem["side_effects"], "none", "{kind}");
    }
    assert_holds(&client, &["before"]);
    client.append("s", &four[..3]);
}

#[test]
fn an_unknown_content_type_is_refused() {
    let (server, _directory) = server();
    let client = server.client();
    client.append_text("s", "before");
    for kind in ["application/xml", "application/jsonx", "multipart/form-data; boundary=x", "nonsense"] {
        client.post(APPEND, kind, b"{}").expect_problem(415, "unsupported_media_type");
    }
    assert_holds(&client, &["before"]);
}

#[test]
fn an_offset_beyond_the_tail_is_refused_with_the_tail() {
    let (server, _directory) = server();
    let client = server.client();
    client.append_text("s", "zero");
    client.append_text("s", "one");
    let at_tail = client.get(&format!("{APPEND}?from=2")).expect(200);
    assert!(at_tail.messages().is_empty());
    for from in ["3", "1000000", "281474976710655"] {
        let problem = client.get(&format!("{APPEND}?from={from}")).expect_problem(416, "beyond_tail");
        assert_eq!(problem["end_offset"], 2);
    }
    for from in ["-1", "two", "1e3", "99999999999999999999999"] {
        client.get(&format!("{APPEND}?from={from}")).expect_problem(400, "invalid_parameter");
    }
}

#[test]
fn a_wrong_expected_offset_stores_nothing() {
    let (server, _directory) = server();
    let client = server.client();
    client.append_text("s", "zero");
    let body = to_json(&[Message::value("again")]);
    for expected in [0, 2, 77] {
        let answer = client.post(&format!("{APPEND}?expected_offset={expected}"), JSON, &body);
        assert_eq!(answer.expect_problem(412, "offset_mismatch")["next_offset"], 1);
    }
    assert_holds(&client, &["zero"]);
    assert_eq!(
        client.post(&format!("{APPEND}?expected_offset=1"), JSON, &body).expect(200).appended().first_offset,
        1
    );
}

#[test]
fn what_does_not_exist_is_said_so() {
    let (server, _directory) = server();
    let client = server.client();
    client.get("/streams/nobody/messages").expect_problem(404, "stream_not_found");
    client.get("/nowhere").expect_problem(404, "no_such_route");
    client.post("/streams", JSON, b"{}").expect_problem(405, "method_not_allowed");
    client.get("/streams?colour=red").expect_problem(400, "invalid_parameter");
    client.put("/streams/s", &json!({"segment_bytes": 5})).expect_problem(400, "invalid_settings");
    client.put("/streams/s", &json!({"sgement_bytes": 4 << 20})).expect_problem(400, "invalid_settings");
}
