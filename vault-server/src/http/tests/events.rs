//! CloudEvents in all three modes, and what is refused in each.

use serde_json::{Value, json};

use super::{JSON, MAX_MESSAGE, server};

const S: &str = "/streams/s/messages";
const ONE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

/// An event with what every one has, and with `more` in front.
fn event(more: &str) -> String {
    format!(r#"{{{more}"specversion":"1.0","id":"i","source":"/s","type":"t"}}"#)
}

fn headers(more: &Value) -> Value {
    let mut all = json!({"ce_specversion": "1.0", "ce_id": "i", "ce_source": "/s", "ce_type": "t"});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

#[tokio::test]
async fn an_event_in_json_becomes_headers_key_and_value() {
    let server = server().await;
    for (more, headers_more, key, field, value) in [
        (
            r#""data":{"a" : [1, 2.50]},"#,
            json!({"content-type": "application/json"}),
            None,
            "value",
            r#"{"a":[1,2.50]}"#,
        ),
        (r#""data":"text","#, json!({"content-type": "application/json"}), None, "value", r#""text""#),
        (r#""data":null,"#, json!({"content-type": "application/json"}), None, "value", "null"),
        (
            r#""data":"<x a=\"\u00e4\"/>","datacontenttype":"text/xml","#,
            json!({"content-type": "text/xml"}),
            None,
            "value",
            "<x a=\"ä\"/>",
        ),
        (
            r#""data":7,"datacontenttype":"application/vnd.x+JSON; v=1","#,
            json!({"content-type": "application/vnd.x+JSON; v=1"}),
            None,
            "value",
            "7",
        ),
        (r#""data_base64":"AP8=","#, json!({}), None, "value_base64", "AP8="),
        ("", json!({}), None, "value", ""),
        (
            r#""partitionkey":"k\u00e4","subject":"a b","time":"2026-01-31T12:00:00.5+01:00","unset":null,"#,
            json!({"ce_partitionkey": "kä", "ce_subject": "a b", "ce_time": "2026-01-31T12:00:00.5+01:00"}),
            Some("kä"),
            "value",
            "",
        ),
        (
            r#""flag":true,"number":-2147483648,"empty":"","dataschema":"urn:x:y","#,
            json!({"ce_flag": "true", "ce_number": "-2147483648", "ce_empty": "", "ce_dataschema": "urn:x:y"}),
            None,
            "value",
            "",
        ),
    ] {
        server.post(S, ONE, event(more)).await.is(200);
        server.post(S, BATCH, format!(" [ {} ] ", event(more))).await.is(200);
        let found = server.messages().await;
        for message in &found[found.len() - 2..] {
            assert_eq!(message["headers"], headers(&headers_more), "{more}");
            assert_eq!(message.get("key").and_then(Value::as_str), key, "{more}");
            assert_eq!(message[field], value, "{more}");
        }
    }
}

#[tokio::test]
async fn a_wrong_event_is_named_and_nothing_is_stored() {
    let server = server().await;
    for wrong in [
        r#""data":1,"data_base64":"AA==","#,
        r#""data_base64":"A","#,
        r#""data_base64":null,"#,
        r#""data_base64":7,"#,
        r#""data":1,"data":2,"#,
        r#""data":{"a":1},"datacontenttype":"text/plain","#,
        r#""data":null,"datacontenttype":"text/plain","#,
        r#""id":"again","#,
        r#""subject":7,"#,
        r#""subject":"","#,
        r#""partitionkey":7,"#,
        r#""time":"2026-01-31","#,
        r#""dataschema":"/relative","#,
        r#""datacontenttype":"json","#,
        r#""Extension":"x","#,
        r#""an_extension":"x","#,
        r#""extension":1.5,"#,
        r#""extension":2147483648,"#,
        r#""extension":1e2,"#,
        r#""extension":{},"#,
        r#""extension":[],"#,
        r#""extension":"\u0000","#,
        r#""extension":"a","extension":"b","#,
    ] {
        let one = server.post(S, ONE, event(wrong)).await.problem(400, "invalid_message");
        assert_eq!(one["message_index"], 0, "{wrong}");
        let batch = format!("[{},{},{}]", event(""), event(""), event(wrong));
        let problem = server.post(S, BATCH, batch).await.problem(400, "invalid_message");
        assert_eq!(problem["message_index"], 2, "{wrong}");
    }
    for missing in ["specversion", "id", "source", "type"] {
        for instead in ["", r#""null":null,"#] {
            let wrong = event("").replace(&format!("\"{missing}\":"), &format!("{instead}\"x{missing}\":"));
            let problem = server.post(S, ONE, wrong).await.problem(400, "invalid_message");
            assert!(
                problem["detail"].as_str().unwrap().contains(&format!("`{missing}` is missing")),
                "{problem}"
            );
        }
        let unset =
            event("").replace(&format!("\"{missing}\":\""), &format!("\"{missing}\":null,\"x{missing}\":\""));
        server.post(S, ONE, unset).await.problem(400, "invalid_message");
    }
    server.post(S, ONE, event("").replace("1.0", "0.3")).await.problem(400, "invalid_message");
    for (kind, body) in
        [(ONE, ""), (ONE, "{"), (ONE, "nonsense"), (BATCH, ""), (BATCH, "{}"), (BATCH, "[]"), (BATCH, "[] x")]
    {
        server.post(S, kind, body).await.problem(400, "invalid_body");
    }
    for (kind, body) in
        [(ONE, "[]"), (ONE, "7"), (ONE, "{}"), (BATCH, "[7]"), (BATCH, "[{]"), (BATCH, "[[]]")]
    {
        server.post(S, kind, body).await.problem(400, "invalid_message");
    }
    let many: String = (0..61).map(|n| format!("\"x{n}\":1,")).collect();
    server.post(S, ONE, event(&many)).await.problem(400, "invalid_message");
    let long = format!("\"x\":\"{}\",", "y".repeat(17 << 10));
    server.post(S, ONE, event(&long)).await.problem(400, "invalid_message");
    let key = format!("\"partitionkey\":\"{}\",", "y".repeat(1_025));
    server.post(S, ONE, event(&key)).await.problem(400, "invalid_message");
    let large = format!("\"data\":\"{}\",", "y".repeat(MAX_MESSAGE));
    let batch = format!("[{},{}]", event(""), event(&large));
    assert_eq!(server.post(S, BATCH, batch).await.problem(413, "message_too_large")["message_index"], 1);
    server.post(&format!("{S}?key=x"), ONE, event("")).await.problem(400, "invalid_parameter");
    server.get(S).await.problem(404, "stream_not_found");
}

const BINARY: [(&str, &str); 4] =
    [("ce-specversion", "1.0"), ("ce-id", "i"), ("ce-source", "/s"), ("ce-type", "t")];

#[tokio::test]
async fn a_binary_event_has_its_attributes_in_headers() {
    let server = server().await;
    let more = [
        ("content-type", "image/png"),
        ("CE-Subject", "Euro%20%E2%82%AC"),
        ("ce-partitionkey", "42"),
        ("ce-quoted", "\"a \\\"b\\\"\""),
        ("ce-time", "2026-01-31T12:00:00Z"),
    ];
    server.post_with(&[&BINARY[..], &more].concat(), &b"\0\xff"[..]).await.is(200);
    server.post_with(&BINARY, "").await.is(200);
    // Of a body that would be read otherwise nothing is looked at.
    server.post_with(&[&BINARY[..], &[("content-type", JSON)]].concat(), "no JSON").await.is(200);
    let found = server.messages().await;
    let more = json!({"content-type": "image/png", "ce_subject": "Euro €", "ce_partitionkey": "42",
        "ce_quoted": "a \"b\"", "ce_time": "2026-01-31T12:00:00Z"});
    assert_eq!(
        (&found[0]["headers"], &found[0]["key"], &found[0]["value_base64"]),
        (&headers(&more), &json!("42"), &json!("AP8="))
    );
    assert_eq!((&found[1]["headers"], &found[1]["value"]), (&headers(&json!({})), &json!("")));
    assert_eq!(
        (&found[2]["headers"], &found[2]["value"]),
        (&headers(&json!({"content-type": JSON})), &json!("no JSON"))
    );
    // Whole events win over headers that only repeat what is in them.
    let structured = [&BINARY[1..2], &[("ce-type", "other"), ("content-type", ONE)]].concat();
    server.post_with(&structured, event("")).await.is(200);
    assert_eq!(server.messages().await[3]["headers"], headers(&json!({})));
}

#[tokio::test]
async fn a_wrong_binary_event_is_refused() {
    let server = server().await;
    for more in [
        ("ce-id", "again"),
        ("ce-datacontenttype", "text/plain"),
        ("ce-data", "x"),
        ("ce-an_extension", "x"),
        ("ce-subject", ""),
        ("ce-subject", "%C0%A0"),
        ("ce-subject", "ä"),
        ("ce-subject", "\"open"),
        ("ce-subject", "%00"),
        ("ce-time", "now"),
        ("content-type", "nonsense"),
    ] {
        let problem =
            server.post_with(&[&BINARY[..], &[more]].concat(), "x").await.problem(400, "invalid_message");
        assert_eq!(problem["message_index"], 0, "{more:?}");
    }
    for missing in 0..BINARY.len() {
        let mut some = BINARY.to_vec();
        let (name, _) = some.remove(missing);
        let problem = server.post_with(&some, "x").await.problem(400, "invalid_message");
        assert!(problem["detail"].as_str().unwrap().contains(&name[3..]), "{problem}");
    }
    let avro = [&BINARY[..], &[("content-type", "application/cloudevents+avro")]].concat();
    server.post_with(&avro, "x").await.problem(415, "unsupported_media_type");
    server.post_with(&BINARY, vec![b'x'; MAX_MESSAGE + 1]).await.problem(413, "message_too_large");
    server.get(S).await.problem(404, "stream_not_found");
}
