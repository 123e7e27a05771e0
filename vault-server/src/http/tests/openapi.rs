//! The description of the interface, held against the interface.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Request;
use serde_json::Value;
use vault_format::limits::{BLOCK_BYTES, MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES};

use super::{JSON, Server, server};
use crate::http::openapi::{AppendAnswer, AppendMessage, AppendRequest, ReadAnswer};
use crate::limits::{APPEND_BYTES_PER_SECOND, MAX_BYTES, RETENTION_BYTES, RETENTION_SECONDS};

async fn document(server: &Server) -> Value {
    server.get("/openapi.json").await.is(200).json()
}

#[tokio::test]
async fn every_route_is_described_with_every_method() {
    let server = server().await;
    let document = document(&server).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 8, "{paths:?}");
    for (path, methods) in paths {
        let uri = path.replace("{stream}", "orders");
        let answer = server.send(Request::builder().method("BREW").uri(&uri).body("".into()).unwrap()).await;
        answer.problem(405, "method_not_allowed");
        let allowed = answer.headers["allow"].to_str().unwrap().to_lowercase();
        let allowed: BTreeSet<_> =
            allowed.split(',').map(str::trim).filter(|method| *method != "head").collect();
        let described: BTreeSet<_> = methods.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(described, allowed, "{path}");
    }
}

/// Every `$ref` below `value`.
fn references<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(elements) => elements.iter().for_each(|element| references(element, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    let document = document(&server().await).await;
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 5, "{found:?}");
    for reference in found {
        assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn what_has_no_type_in_the_server_is_as_its_description_says() {
    let server = server().await;
    let message = || AppendMessage { value: Some("v".to_owned()), ..AppendMessage::default() };
    let messages = vec![
        AppendMessage { key: Some("k".to_owned()), ..message() },
        AppendMessage { key_base64: Some("/w==".to_owned()), ..message() },
        AppendMessage { value: None, value_base64: Some("/w==".to_owned()), ..message() },
        AppendMessage { value: None, json: Some(serde_json::json!({"a": [1]})), ..message() },
        AppendMessage {
            headers: BTreeMap::from([("h".to_owned(), "x".to_owned())]),
            attributes: 6,
            ..message()
        },
    ];
    let body = serde_json::to_string(&AppendRequest { messages }).unwrap();
    let answer = server.post("/streams/s/messages", JSON, body).await.is(200);
    let appended: AppendAnswer = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((appended.first_offset, appended.next_offset), (0, 5));

    let answer = server.get("/streams/s/messages").await.is(200);
    let read: ReadAnswer = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((read.next_offset, read.end_offset, read.first_offset), (5, Some(5), Some(0)));
    let [text, bytes, binary, json, all] = read.messages.as_slice() else { panic!("five messages") };
    assert_eq!((text.key.as_deref(), bytes.key_base64.as_deref()), (Some("k"), Some("/w==")));
    assert_eq!((binary.value_base64.as_deref(), json.value.as_deref()), (Some("/w=="), Some("{\"a\":[1]}")));
    assert_eq!((all.headers["h"].as_str(), all.attributes, all.offset), ("x", 6, 4));
    assert_eq!((all.id.len(), all.timestamp), (32, appended.timestamp));
    assert!(text.value_base64.is_none() && text.key_base64.is_none() && bytes.key.is_none());
}

#[tokio::test]
async fn the_documents_limits_are_those_that_hold() {
    let document = document(&server().await).await;
    let settings = &document["components"]["schemas"]["SettingsPatch"]["properties"];
    for (name, range) in [
        ("segment_bytes", MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES),
        ("append_bytes_per_second", APPEND_BYTES_PER_SECOND),
        ("retention_seconds", RETENTION_SECONDS),
        ("retention_bytes", RETENTION_BYTES),
        ("max_bytes", MAX_BYTES),
    ] {
        let setting = &settings[name];
        assert_eq!(setting["minimum"], *range.start(), "{name}: {setting}");
        assert_eq!(setting["maximum"], *range.end(), "{name}: {setting}");
    }
    assert_eq!(settings["segment_bytes"]["multipleOf"], BLOCK_BYTES);
}
