//! Closed ranges: the same bytes whenever they are asked for, and known by their tags.

use vault_tests::message::Message;

use crate::server;

const BATCHES: &str = "application/vnd.messagevault.batches";

#[test]
fn a_closed_range_is_the_same_bytes_after_more_appends_and_a_restart() {
    let (mut server, _directory) = server();
    let client = server.client();
    for n in 0..50 {
        client.append("s", &[Message::new("k", format!("{n}")), Message::value("y".repeat(50_000))]);
    }
    let targets =
        ["from=3&to=90", "from=3&to=90&max_bytes=100000", "from=10&to=20&limit=3", "from=0&to=100&key=k"];
    let mut first = Vec::new();
    for target in targets {
        for accept in ["application/json", "application/x-ndjson", BATCHES] {
            if accept != BATCHES || !target.contains("key") {
                let path = format!("/streams/s/messages?{target}");
                let answer = client.get_as(&path, accept).expect(200);
                assert_eq!(answer.headers["cache-control"], "private, max-age=31536000, immutable");
                first.push((path, accept, answer));
            }
        }
    }
    let check = |server: &vault_tests::server::Server| {
        let client = server.client();
        for (path, accept, before) in &first {
            let now = client.get_as(path, accept).expect(200);
            assert!(
                now.body == before.body && now.headers["etag"] == before.headers["etag"],
                "{path} {accept}"
            );
            let tag = before.headers["etag"].to_str().expect("a tag is text");
            for (method, status) in [("GET", 304), ("HEAD", 304)] {
                let headers = [("Accept", *accept), ("If-None-Match", tag)];
                let known = client.send(method, path, &headers, None).expect("an answer").expect(status);
                assert!(known.body.is_empty() && known.headers["etag"] == tag);
            }
            let head = client.send("HEAD", path, &[("Accept", accept)], None).expect("an answer").expect(200);
            assert!(head.body.is_empty() && head.headers["etag"] == tag);
        }
    };
    check(&server);
    for _ in 0..50 {
        client.append_text("s", &"more".repeat(50_000));
    }
    check(&server);
    server.stop_in_order();
    server.restart();
    check(&server);
    let open = server.client().get("/streams/s/messages?from=0&to=1000").expect(200);
    assert_eq!(open.headers["cache-control"], "no-store");
    assert!(!open.headers.contains_key("etag"));
}
