//! One server, streams in two storage accounts.

use serde_json::json;
use vault_server::storage::Storage;
use vault_tests::azurite;
use vault_tests::server::Setup;

use super::connect;

/// A key like an account's: 64 bytes in base64. It guards nothing.
const KEY: &str = "c2Vjb25kLXNlY29uZC1zZWNvbmQtc2Vjb25kLXNlY29uZC1zZWNvbmQtc2Vjb25kLXNlY29uZC1zZWNvbmQtcw==";

#[tokio::test]
async fn a_stream_can_live_in_another_account_of_its_own_key() {
    let first = azurite::Setup::in_memory().start();
    let second = azurite::Setup::in_memory().account("second", KEY).start();
    let mut server = Setup::bare()
        .with(["--listen", "127.0.0.1:0", "--storage", "azure:", "--account", "second"])
        .environment("AZURE_STORAGE_CONNECTION_STRING", &first.connection_string())
        .environment("AZURE_STORAGE_CONNECTION_STRING_SECOND", &second.connection_string())
        .start();
    let client = server.client();
    client.put("/streams/there", &json!({ "account": "second" })).expect(201);
    client.put("/streams/here", &json!({})).expect(201);
    for stream in ["here", "there"] {
        let target = format!("/streams/{stream}/messages");
        client.post(&target, "text/plain", stream.as_bytes()).expect(200);
    }
    // Who reads directly is sent to the stream's own account, with a signature of that account's key.
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for (stream, azurite) in [("here", &first), ("there", &second)] {
        let plan = client.get(&format!("/streams/{stream}/access?live=true")).expect(200).json();
        assert_eq!(plan["container_url"], format!("{}/mv-{stream}", azurite.endpoint()));
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let url = format!("{}?{}", text(&plan["segments"][0]["url"]), text(&plan["sas"]));
        let range = format!("bytes=0-{}", plan["segments"][0]["end"].as_u64().unwrap() - 1);
        let answer = http.get(url).header("range", range).send().await.unwrap();
        assert_eq!(answer.status(), 206);
        let stored = answer.bytes().await.unwrap();
        assert!(stored.windows(stream.len()).any(|found| found == stream.as_bytes()));
    }
    let names = async |azurite: &azurite::Azurite| -> Vec<String> {
        let listed = connect(&azurite.connection_string()).list_containers("mv-").await.unwrap();
        listed.into_iter().map(|entry| entry.name.to_string()).collect()
    };
    assert_eq!(names(&first).await, ["mv-here", "mv-sys"]);
    assert_eq!(names(&second).await, ["mv-there"]);
    server.stop_in_order();
    server.restart();
    let read = server.client().get("/streams/there/messages").expect(200).json();
    assert_eq!(read["messages"][0]["value"], "there");
    let refused = server.client().put("/streams/nowhere", &json!({ "account": "third" })).expect(400).json();
    assert_eq!(refused["code"], "invalid_settings");
    assert!(!server.log().contains(KEY));
}
