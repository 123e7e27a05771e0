//! Streams that Kubernetes owns, and what of a stream's metadata nobody here may touch; direct reads where there are
//! none.

use std::time::Duration;

use serde_json::json;
use vault_format::names::ContainerName;

use super::{Server, TEXT, server};
use crate::storage::{LeaseTarget, Metadata, Storage};

async fn metadata(server: &Server) -> Metadata {
    server.app.storage.container_metadata(&ContainerName::listed("mv-s").unwrap()).await.unwrap()
}

/// Changes the metadata as another program would.
async fn set(server: &Server, name: &str, value: &str) {
    let container = ContainerName::listed("mv-s").unwrap();
    let target = LeaseTarget::Container(container.clone());
    let mut metadata = metadata(server).await;
    metadata.insert(name.to_owned(), value.to_owned());
    let lease = server.app.storage.acquire_lease(&target, Duration::from_secs(15)).await.unwrap();
    server.app.storage.set_container_metadata(&container, &metadata, &lease).await.unwrap();
    server.app.storage.release_lease(&target, &lease).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_kubernetes_owns_is_changed_and_deleted_there() {
    let server = server().await;
    server.append("x").await;
    assert_eq!(server.get("/streams/s").await.json()["owner"], json!(null));
    set(&server, "owner", "vaultstream/shop/orders").await;
    // This server has not listed the streams since, but storage knows.
    for (method, body) in
        [("DELETE", ""), ("PATCH", r#"{"segment_bytes":4194304}"#), ("DELETE", ""), ("PATCH", "{}")]
    {
        let problem = server.call(method, "/streams/s", body).await.problem(409, "managed_by_kubernetes");
        assert!(problem["detail"].as_str().unwrap().contains("vaultstream/shop/orders"), "{problem}");
    }
    let described = server.get("/streams/s").await.json();
    assert_eq!(
        (&described["owner"], &described["condition"]),
        (&json!("vaultstream/shop/orders"), &json!("open"))
    );
    assert_ne!(described["settings"]["segment_bytes"], 4_194_304);
    server.call("PUT", "/streams/s", "").await.is(200);
    server.append("y").await;
    assert_eq!(server.get("/streams/s/messages").await.values(), ["x", "y"]);
}

#[tokio::test]
async fn an_unknown_owner_keeps_a_patch_off_before_the_server_has_noticed() {
    let server = server().await;
    server.append("x").await;
    set(&server, "owner", "messagevault/shop/main").await;
    server
        .call("PATCH", "/streams/s", r#"{"segment_bytes":4194304}"#)
        .await
        .problem(409, "managed_by_kubernetes");
    assert_ne!(metadata(&server).await["segment_bytes"], "4194304");
    assert_eq!(server.get("/streams/s").await.json()["owner"], "messagevault/shop/main");
}

#[tokio::test]
async fn metadata_that_this_version_does_not_know_survives_a_patch() {
    let server = server().await;
    server.append("x").await;
    set(&server, "from_the_future", "7").await;
    let limit = |limit: &str| format!(r#"{{"append_bytes_per_second":{limit}}}"#);
    server.call("PATCH", "/streams/s", limit("2048")).await.is(200);
    assert_eq!(metadata(&server).await["append_bytes_per_second"], "2048");
    server.call("PATCH", "/streams/s", limit("null")).await.is(200);
    let left = metadata(&server).await;
    assert!(!left.contains_key("append_bytes_per_second"));
    assert_eq!((&*left["from_the_future"], &*left["begun"]), ("7", "true"));
}

#[tokio::test]
async fn without_a_storage_account_there_are_no_direct_reads() {
    let server = server().await;
    server.get("/streams/s/access").await.problem(404, "stream_not_found");
    server.post("/streams/s/messages", TEXT, "x").await.is(200);
    let problem = server.get("/streams/s/access?live=true").await.problem(409, "no_direct_access");
    assert!(problem["detail"].as_str().unwrap().contains("memory"), "{problem}");
    for wrong in
        ["live=1", "limit=0", "limit=1001", "from=earliest", "from=-1", "colour=red", "from=1&from=2"]
    {
        server.get(&format!("/streams/s/access?{wrong}")).await.problem(400, "invalid_parameter");
    }
    server.call("POST", "/streams/s/access", "").await.problem(405, "method_not_allowed");
}
