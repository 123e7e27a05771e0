//! Bodies in, what they are stored as, and what is refused.

use axum::body::{Body, Bytes};
use axum::http::Request;
use serde_json::json;
use vault_format::limits::MAX_RUN_BYTES;
use vault_format::record::Message;

use super::{JSON, LINES, MAX_MESSAGE, Server, TEXT, server};
use crate::http::append::RECORDS;

const S: &str = "/streams/s/messages";

async fn messages(server: &Server) -> Vec<serde_json::Value> {
    server.get(S).await.is(200).json()["messages"].as_array().unwrap().clone()
}

#[tokio::test]
async fn json_messages_come_back_as_they_went_in() {
    let server = server().await;
    let body = r#"{"messages":[
        {"key":"k","value":"a \"quoted\" \u00e4","headers":{"x":"1","y":"z"},"attributes":6},
        {"key_base64":"//8=","value_base64":"AP8="},
        {"json": { "n" : 1.500e3 , "s" : "two  spaces \" \\", "l" : [ 1 , 2 ] }},
        {"json": null}]}"#;
    let answer = server.post(S, JSON, body).await.is(200).json();
    assert_eq!((answer["first_offset"].as_u64(), answer["next_offset"].as_u64()), (Some(0), Some(4)));
    let found = messages(&server).await;
    let timestamp = answer["timestamp"].as_u64().unwrap();
    assert_eq!(
        found[0],
        json!({"offset": 0, "timestamp": timestamp, "id": found[0]["id"], "key": "k", "value": "a \"quoted\" ä",
            "headers": {"x": "1", "y": "z"}, "attributes": 6})
    );
    let id: vault_format::ids::MessageId = found[1]["id"].as_str().unwrap().parse().unwrap();
    assert_eq!((id.offset().0, id.timestamp().0), (1, timestamp));
    assert_eq!((&found[1]["key_base64"], &found[1]["value_base64"]), (&json!("//8="), &json!("AP8=")));
    assert_eq!(found[2]["value"], r#"{"n":1.500e3,"s":"two  spaces \" \\","l":[1,2]}"#);
    assert_eq!(found[3]["value"], "null");
    assert!(found[2].get("key").is_none() && found[2].get("headers").is_none());
}

#[tokio::test]
async fn a_wrong_json_message_is_named_and_nothing_is_stored() {
    let server = server().await;
    server.append("before").await;
    for (third, code) in [
        (r#"{"value":1}"#, "invalid_message"),
        (r#"{"value":"a","colour":"red"}"#, "invalid_message"),
        (r#"{"value":"a","value_base64":"AA=="}"#, "invalid_message"),
        (r#"{"value_base64":"A"}"#, "invalid_message"),
        (r#"{"key_base64":"?","value":""}"#, "invalid_message"),
        (r#"{"key":null,"value":""}"#, "invalid_message"),
        (r#"{"value":"a","attributes":3}"#, "invalid_message"),
        (r#"{"value":"a","attributes":256}"#, "invalid_message"),
        (r#"{"value":"a","headers":{"x":"1","x":"2"}}"#, "invalid_message"),
        (r#"{"value":"a","headers":{"x":1}}"#, "invalid_message"),
        (r#"{"value":"a","value":"b"}"#, "invalid_message"),
        ("{}", "invalid_message"),
        ("nonsense", "invalid_message"),
        (r#"["a","b"]"#, "invalid_message"),
        (r#"[null,null,"v",null,null,{},0]"#, "invalid_message"),
    ] {
        let body = format!(r#"{{"messages":[{{"value":"0"}},{{"value":"1"}},{third},{{"value":"3"}}]}}"#);
        let problem = server.post(S, JSON, body).await.problem(400, code);
        assert_eq!(problem["message_index"], 2, "{third}");
    }
    for body in [
        "",
        "[]",
        "{}",
        r#"{"messages":[]}"#,
        r#"{"messages":[{"value":""}]} x"#,
        r#"{"m":[]}"#,
        r#"[[{"value":""}]]"#,
    ] {
        let problem = server.post(S, JSON, body).await.problem(400, "invalid_body");
        assert!(problem.get("message_index").is_none(), "{body}");
    }
    assert_eq!(messages(&server).await.len(), 1);
}

#[tokio::test]
async fn limits_hold_to_the_byte() {
    let server = server().await;
    server.post(S, TEXT, vec![b'x'; MAX_MESSAGE]).await.is(200);
    server.post(S, TEXT, vec![b'x'; MAX_MESSAGE + 1]).await.problem(413, "message_too_large");
    let json =
        |bytes: usize| format!(r#"{{"messages":[{{"value":""}},{{"value":"{}"}}]}}"#, "x".repeat(bytes));
    server.post(S, JSON, json(MAX_MESSAGE)).await.is(200);
    let problem = server.post(S, JSON, json(MAX_MESSAGE + 1)).await.problem(413, "message_too_large");
    assert_eq!(problem["message_index"], 1);

    let run = |last: usize| {
        let mut records = Vec::new();
        for bytes in [MAX_MESSAGE, MAX_MESSAGE, last] {
            Message { value: &vec![b'x'; bytes], ..Message::default() }.encode(0, &mut records);
        }
        records
    };
    let fits = (1..).map(|less| run(MAX_MESSAGE - less)).find(|run| run.len() <= MAX_RUN_BYTES).unwrap();
    assert_eq!(fits.len(), MAX_RUN_BYTES);
    server.post(S, RECORDS, fits.clone()).await.is(200);
    let mut longer = run(MAX_MESSAGE);
    longer.truncate(MAX_RUN_BYTES + 1);
    server.post(S, RECORDS, longer).await.problem(413, "request_too_large");
    let lines = format!("\"{}\"\n", "x".repeat(MAX_MESSAGE - 100)).repeat(4);
    server.post(S, LINES, lines).await.problem(413, "request_too_large");
}

#[tokio::test]
async fn a_body_without_announced_length_is_put_together_and_limited() {
    let server = server().await;
    let chunked = |pieces: usize| {
        let pieces = (0..pieces).map(|n| Ok::<_, std::io::Error>(Bytes::from(vec![b"abc"[n % 3]; 1_000])));
        Body::from_stream(futures::stream::iter(pieces))
    };
    server.append(chunked(30)).await;
    let found = messages(&server).await;
    let value = found[0]["value"].as_str().unwrap();
    assert!(value.len() == 30_000 && value.starts_with("aaa") && value[27_000..].starts_with("aaa"));
    server.post(S, TEXT, chunked(MAX_MESSAGE / 1_000 + 1)).await.problem(413, "message_too_large");
    assert_eq!(
        server.app.bodies.available_permits(),
        crate::limits::REQUEST_BODIES_BYTES,
        "all is given back"
    );
}

#[tokio::test]
async fn bodies_that_find_no_memory_are_refused_before_they_are_kept() {
    let server = server().await;
    let all = u32::try_from(crate::limits::REQUEST_BODIES_BYTES).unwrap();
    let _taken = server.app.bodies.try_acquire_many(all).unwrap();
    let answer = server.post(S, TEXT, "x").await;
    assert_eq!(answer.headers["retry-after"], "1");
    answer.problem(429, "queue_full");
}

#[tokio::test]
async fn lines_are_stored_as_they_stand() {
    let server = server().await;
    let body = "{ \"a\" : 1 }\r\n\n\"text\"\n[1.0]";
    server.post(S, LINES, body).await.is(200);
    assert_eq!(server.get(S).await.values(), [r#"{ "a" : 1 }"#, "\"text\"", "[1.0]"]);
    for (body, index) in [("1\n{\n", 1), ("1\n2\n3 4", 2), ("1\n ", 1)] {
        assert_eq!(server.post(S, LINES, body).await.problem(400, "invalid_message")["message_index"], index);
    }
    let not_text = server.post(S, LINES, &b"1\n\"\xff\""[..]).await;
    assert_eq!(not_text.problem(400, "invalid_message")["message_index"], 1);
    server.post(S, LINES, "\n\n").await.problem(400, "invalid_body");
}

#[tokio::test]
async fn keys_are_taken_out_of_lines() {
    let server = server().await;
    let uri = |pointer: &str| format!("{S}?key={pointer}");
    let line = r#"{"user":{"id":"\u00e4"},"n":1.50,"b":true,"l":[1,{"x/y":"z"}],"o":null}"#;
    for (pointer, key) in
        [("/user/id", "ä"), ("/n", "1.50"), ("/b", "true"), ("/l/1/x~1y", "z"), ("/l/0", "1")]
    {
        server.post(&uri(pointer), LINES, line).await.is(200);
        assert_eq!(messages(&server).await.last().unwrap()["key"], key, "{pointer}");
    }
    for pointer in ["/missing", "/user", "/l", "/o", "/l/7", "/n/x", "/user/id/x"] {
        let two = format!("{line}\n");
        let problem = server.post(&uri(pointer), LINES, two).await.problem(400, "invalid_message");
        assert_eq!(problem["message_index"], 0, "{pointer}");
    }
    let problem = server.post(&uri("user"), LINES, line).await.problem(400, "invalid_parameter");
    assert!(problem["detail"].as_str().unwrap().contains("user"));
}

#[tokio::test]
async fn plain_bodies_and_records() {
    let server = server().await;
    let uri = format!("{S}?key=k%20%C3%A4");
    server.post(&uri, "application/octet-stream", &b"\0\xff"[..]).await.is(200);
    server.post(S, "text/plain; charset=utf-8", "").await.is(200);
    let mut records = Vec::new();
    for value in [b"one".as_slice(), b"two"] {
        Message { key: b"r", value, ..Message::default() }.encode(0, &mut records);
    }
    server.post(S, RECORDS, records.clone()).await.is(200);
    let found = messages(&server).await;
    assert_eq!((&found[0]["key"], &found[0]["value_base64"]), (&json!("k ä"), &json!("AP8=")));
    assert_eq!(
        (&found[1]["value"], &found[3]["key"], &found[3]["value"]),
        (&json!(""), &json!("r"), &json!("two"))
    );
    records.pop();
    assert_eq!(server.post(S, RECORDS, records).await.problem(400, "invalid_message")["message_index"], 1);
    server.post(S, RECORDS, "").await.problem(400, "invalid_body");
    let long_key = format!("{S}?key={}", "k".repeat(1_025));
    server.post(&long_key, TEXT, "x").await.problem(400, "invalid_message");
}

#[tokio::test]
async fn an_expected_offset_guards_an_append() {
    let server = server().await;
    let uri = |offset: u64| format!("{S}?expected_offset={offset}");
    server.post(&uri(0), TEXT, "a").await.is(200);
    let problem = server.post(&uri(0), TEXT, "b").await.problem(412, "offset_mismatch");
    assert_eq!((&problem["next_offset"], &problem["side_effects"]), (&json!(1), &json!("none")));
    server.post(&uri(2), TEXT, "b").await.problem(412, "offset_mismatch");
    server.post(&uri(1), TEXT, "b").await.is(200);
    assert_eq!(server.get(S).await.values(), ["a", "b"]);
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let server = server().await;
    let request = Request::post(S).header("content-type", TEXT).header("content-encoding", "gzip");
    let answer = server.send(request.body(Body::from("x")).unwrap()).await;
    answer.problem(415, "unsupported_media_type");
    server.post(S, "application/cloudevents+avro", "{}").await.problem(415, "unsupported_media_type");
    server.call("POST", S, "x").await.problem(415, "unsupported_media_type");
    let problem = server.post(&format!("{S}?colour=red"), TEXT, "x").await.problem(400, "invalid_parameter");
    assert!(problem["detail"].as_str().unwrap().contains("colour"));
    server.post(&format!("{S}?key=a"), JSON, "{}").await.problem(400, "invalid_parameter");
}
