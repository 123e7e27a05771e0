//! Messages come out: which, how they are written, and to whom.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::json;
use vault_tests::mvctl::{Mvctl, Said, interrupt, lines};
use vault_tests::wait::LONG;

use super::vault;

fn offsets(said: &Said) -> Vec<u64> {
    said.json_lines().iter().map(|line| line["offset"].as_u64().expect("a number")).collect()
}

#[test]
fn json_is_what_the_server_says() {
    let (_directory, server, mvctl) = vault();
    let client = server.client();
    let body = json!({"messages": [
        {"key": "42", "value": "paid \u{1}\u{7f}\u{2028} ä", "headers": {"a": "1", "b\"": "\n"}, "attributes": 2},
        {"key_base64": "/w==", "value_base64": "AP8="},
        {"value": ""},
    ]});
    let _ =
        client.post("/streams/orders/messages", "application/json", body.to_string().as_bytes()).expect(200);
    let lines = client.get_as("/streams/orders/messages", "application/x-ndjson");
    assert_eq!(mvctl.run(["read", "orders", "--json"]).expect(0).out, lines.body);
}

#[test]
fn text_is_a_line_a_message() {
    let (_directory, _server, mvctl) = vault();
    let _ = mvctl.run_with(b"a\tb\\\x1b[31m\xff\n", ["append", "orders", "--key=k\nk"]).expect(0);
    let text = mvctl.run(["read", "orders"]).expect(0).text();
    let columns: Vec<_> = text.strip_suffix('\n').unwrap().split('\t').collect();
    assert_eq!((columns.len(), columns[0], columns[2]), (4, "0", r"k\nk"), "{text}");
    assert_eq!(columns[3], r"a\tb\\\u{1b}[31m\xFF");
    assert!(columns[1].ends_with('Z') && columns[1].len() == 24, "{}", columns[1]);
}

#[test]
fn reading_begins_and_ends_where_it_is_told_to() {
    let (_directory, _server, mvctl) = vault();
    let _ = mvctl.run_with(b"0\n1\n2\n3\n4\n", ["append", "orders"]).expect(0);
    let read =
        |flags: &[&str]| offsets(&mvctl.run(["read", "orders", "--json"].iter().chain(flags)).expect(0));
    assert_eq!(read(&["--from=3"]), [3, 4]);
    assert_eq!(read(&["--from=1", "--to=3"]), [1, 2]);
    assert_eq!(read(&["--limit=2"]), [0, 1]);
    assert_eq!(read(&["--limit=0"]), [0; 0]);
    assert_eq!(read(&["--from=latest"]), [0; 0]);
    assert_eq!(read(&["--since=15m"]), [0, 1, 2, 3, 4]);
    assert_eq!(read(&["--since=2999-01-01T00:00:00Z"]), [0; 0]);
    assert_eq!(read(&["--since=0", "--limit=1"]), [0]);
    assert_eq!(read(&["--direct", "--skip-deleted"]), [0, 1, 2, 3, 4]);
    assert_eq!(mvctl.run(["read", "orders", "--raw"]).expect(0).text(), "01234");
    mvctl.run(["read", "orders", "--from=6"]).refuses(1, "beyond_tail");
    mvctl.run(["read", "missing"]).refuses(3, "`mvctl streams`");
    mvctl.run(["read", "orders", "--from=first"]).refuses(2, "earliest, latest or an offset");
    mvctl.run(["read", "orders", "--since=yesterday"]).refuses(2, "15m");
    mvctl.run(["read", "orders", "--json", "--raw"]).refuses(2, "--raw");
}

#[test]
fn whoever_follows_sees_messages_at_once_and_ctrl_c_ends_it() {
    let (_directory, server, mvctl) = vault();
    let client = server.client();
    let _ = client.append_text("orders", "first");
    let mut child = mvctl.start(["read", "orders", "--follow", "--json"]);
    let lines = lines(child.stdout.take().unwrap());
    let next = || lines.recv_timeout(LONG).expect("the message comes");
    assert!(next().contains("first"));
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(50));
        let sent = Instant::now();
        let _ = client.append_text("orders", "another");
        assert!(next().contains("another"));
        assert!(sent.elapsed() < Duration::from_secs(2), "{:?}", sent.elapsed());
    }
    interrupt(&child);
    let said = Said::of(child.wait_with_output().unwrap()).expect(130);
    assert_eq!(said.err, "");
}

#[test]
fn whoever_has_had_enough_may_leave() {
    let (_directory, _server, mvctl) = vault();
    let input: String = (0..300_000).map(|n| format!("{n}\n")).collect();
    let _ = mvctl.run_with(input.as_bytes(), ["append", "orders"]).expect(0);
    let mut child = mvctl.start(["read", "orders"]);
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 100]).unwrap();
    drop(stdout);
    let said = Said::of(child.wait_with_output().unwrap()).expect(0);
    assert_eq!(said.err, "");
    // One that follows, and has nothing to write, ends too.
    let mut child = mvctl.start(["read", "orders", "--from=299999", "--follow"]);
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 6]).unwrap();
    drop(stdout);
    let said = Said::of(child.wait_with_output().unwrap()).expect(0);
    assert_eq!(said.err, "");
    // One that nobody reads from is ended by Ctrl-C all the same.
    let mut child = mvctl.start(["read", "orders", "--raw", "--follow"]);
    let mut stdout = child.stdout.take().unwrap();
    // It listens for Ctrl-C before it writes anything. Then the pipe fills.
    stdout.read_exact(&mut [0]).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(stdout);
}

#[test]
fn streams_are_merged_by_the_ids_of_their_messages() {
    let (_directory, server, mvctl) = vault();
    let client = server.client();
    for n in 0..20 {
        let stream = ["orders", "payments"][n % 2];
        let _ = client.append_text(stream, &n.to_string());
        std::thread::sleep(Duration::from_millis(2));
    }
    let merged = mvctl.run(["merge", "payments", "orders", "--json"]).expect(0).json_lines();
    let ids: Vec<_> = merged.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted() && ids.len() == 20, "{ids:?}");
    for (n, line) in merged.iter().enumerate() {
        assert_eq!(
            (line["value"].as_str(), line["stream"].as_str()),
            (Some(&*n.to_string()), Some(["orders", "payments"][n % 2]))
        );
    }
    let text = mvctl.run(["merge", "orders", "payments", "--limit=1"]).expect(0).text();
    assert!(text.starts_with("orders\t0\t"), "{text}");
    mvctl.run(["merge", "orders", "missing"]).refuses(3, "missing: ");
    mvctl.run(["merge"]).refuses(2, "<STREAM>");
}

#[test]
fn a_reader_goes_on_when_its_server_comes_back() {
    let directory = vault_tests::server::temporary_directory();
    let address = format!("127.0.0.1:{}", vault_tests::replicas::free_port());
    let mut server = vault_tests::server::Setup::at(directory.path(), &address).start();
    let mvctl = Mvctl::of(server.address());
    let _ = server.client().append_text("orders", "before");
    let mut child = mvctl.start(["read", "orders", "--follow", "--json"]);
    let lines = lines(child.stdout.take().unwrap());
    let next = || lines.recv_timeout(LONG).expect("the message comes");
    assert!(next().contains("before"));
    server.kill();
    server.restart();
    // It takes requests a moment before it leads, which mvctl waits for.
    let _ = mvctl.run_with(b"after\n", ["append", "orders"]).expect(0);
    assert!(next().contains("after"));
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
