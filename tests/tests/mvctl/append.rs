//! Messages go in: what a message is, what is refused, and what is said of the rest.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use vault_tests::mvctl::{Mvctl, Said, interrupt};
use vault_tests::wait::{LONG, until};

use super::vault;

/// The values of a stream, in order.
fn values(mvctl: &Mvctl, stream: &str) -> Vec<String> {
    let lines = mvctl.run(["read", stream, "--json"]).expect(0).json_lines();
    lines.iter().map(|line| line["value"].as_str().unwrap_or("?").to_owned()).collect()
}

#[test]
fn each_line_is_a_message() {
    let (directory, _server, mvctl) = vault();
    let said = mvctl.run_with(b"a\n\nb\r\n\xff\nlast", ["append", "orders", "--json"]).expect(0);
    assert_eq!(said.err, "appended 5 messages, offsets 0 to 4\n");
    assert_eq!(
        said.json(),
        json!({"acknowledged": 5, "not_stored": 0, "unknown": 0, "first_offset": 0, "last_offset": 4, "next_line": 6})
    );
    assert_eq!(values(&mvctl, "orders"), ["a", "", "b\r", "?", "last"]);
    let file = directory.path().join("lines");
    std::fs::write(&file, "one\n").unwrap();
    let path = file.to_str().unwrap();
    let flags = ["append", "other", path, "--key=k", "--header=source=shop", "--header=x=a=b", "--quiet"];
    assert_eq!(mvctl.run(flags).expect(0).err, "");
    let read = mvctl.run(["read", "other", "--json"]).expect(0).json();
    assert_eq!((&read["key"], &read["headers"]), (&json!("k"), &json!({"source": "shop", "x": "a=b"})));
    let nothing = mvctl.run(["append", "other"]).expect(0);
    assert_eq!((&*nothing.err, &*nothing.text()), ("appended no messages\n", ""));
}

#[test]
fn each_line_is_json() {
    let (_directory, _server, mvctl) = vault();
    let lines = b"{\"id\":1.50,\"u\":{\"n\":\"x\"}}\r\n\n {\"id\":true,\"u\":{\"n\":\"y\"}}\n";
    let flags = ["append", "orders", "--format=ndjson", "--key"];
    let _ = mvctl.run_with(lines, flags.into_iter().chain(["/u/n"])).expect(0);
    let _ = mvctl.run_with(lines, flags.into_iter().chain(["/id"])).expect(0);
    let read = mvctl.run(["read", "orders", "--json"]).expect(0).json_lines();
    let keys: Vec<_> = read.iter().map(|line| line["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["x", "y", "1.50", "true"]);
    assert_eq!(read[0]["value"], "{\"id\":1.50,\"u\":{\"n\":\"x\"}}");
    assert_eq!(read[1]["value"], " {\"id\":true,\"u\":{\"n\":\"y\"}}");
}

#[test]
fn a_wrong_line_is_named_and_what_comes_before_it_is_stored() {
    let (_directory, _server, mvctl) = vault();
    let ndjson = ["append", "orders", "--format=ndjson", "--key=/id", "--json"];
    let said = mvctl.run_with(b"{\"id\":1}\n\n{\"id\":2}\n{\"id\":null}\n{\"id\":4}\n", ndjson);
    assert_eq!(said.json()["next_line"], 4);
    assert_eq!((&said.json()["acknowledged"], &said.json()["not_stored"]), (&json!(2), &json!(1)));
    assert!(said.err.contains("go on at line 4 of the input"), "{}", said.err);
    said.refuses(1, "stdin: line 4: there is no string, number or boolean at `/id`");
    mvctl.run_with(b"{\"id\":1}\n{\n", ["append", "orders", "--format=ndjson"]).refuses(1, "not JSON: EOF");
    mvctl
        .run_with(b"\"\xff\"\n", ["append", "orders", "--format=ndjson"])
        .refuses(1, "line 1: invalid utf-8");
    mvctl.run_with(b"a\nbcdef\n", ["append", "lines", "--value-bytes=4"]).refuses(1, "line 2: it is longer");
    assert_eq!(values(&mvctl, "lines"), ["a"]);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_sent() {
    let (_directory, server, mvctl) = vault();
    mvctl.run(["append", "orders", "/nonexistent"]).refuses(2, "/nonexistent");
    mvctl.run(["append", "orders", "--format=ndjson", "--key=id"]).refuses(2, "JSON pointer");
    mvctl.run(["append", "orders", "--header=x"]).refuses(2, "source=shop");
    mvctl.run(["append", "orders", "--header=x=1", "--header=x=2"]).refuses(2, "header");
    mvctl.run(["append", "orders", "--expected-offset=0"]).refuses(2, "--format whole");
    mvctl.run(["append", "orders", "--format=csv"]).refuses(2, "csv");
    mvctl.run_with(b"a\n", ["append", "No_name"]).refuses(1, "invalid_name");
    assert_eq!(server.client().get("/streams/orders").status, 404);
}

#[test]
fn a_whole_file_is_a_message_however_long() {
    let (directory, _server, mvctl) = vault();
    let file = directory.path().join("whole");
    let bytes: Vec<u8> =
        (0..5_000_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()).collect();
    std::fs::write(&file, &bytes[..5_000_001]).unwrap();
    let path = file.to_str().unwrap();
    let said = mvctl.run(["append", "orders", path, "--format=whole", "--header=h=v", "--json"]).expect(0);
    assert_eq!((&said.json()["acknowledged"], &said.json()["last_offset"]), (&json!(1), &json!(4)));
    assert!(mvctl.run(["read", "orders", "--raw"]).expect(0).out == bytes[..5_000_001]);
    let read = mvctl.run(["read", "orders", "--json"]).expect(0).json();
    assert_eq!((&read["headers"], &read["attributes"]), (&json!({"h": "v"}), &json!(null)));
    let parts = mvctl.run(["read", "orders", "--parts", "--json"]).expect(0).json_lines();
    assert!(parts.len() == 5 && parts.iter().all(|part| part["headers"]["mv-part"].is_string()));
    mvctl.run(["append", "orders", path, "--format=whole", "--value-bytes=1MiB"]).refuses(1, "--value-bytes");
    let _ = mvctl.run_with(b"", ["append", "empty", "--format=whole"]).expect(0);
    assert_eq!(values(&mvctl, "empty"), [""]);
}

#[test]
fn a_conditional_append_is_stored_where_it_belongs() {
    let (_directory, _server, mvctl) = vault();
    let flags = |offset| ["append", "orders", "--format=whole", "--json", "--expected-offset", offset];
    assert_eq!(mvctl.run_with(b"a\n", flags("0")).expect(0).json()["first_offset"], 0);
    mvctl.run_with(b"b", flags("0")).refuses(1, "offset_mismatch");
    assert_eq!(mvctl.run_with(b"b", flags("1")).expect(0).json()["last_offset"], 1);
    assert_eq!(values(&mvctl, "orders"), ["a\n", "b"]);
    mvctl.run_with(&vec![0; (1 << 20) + 1], flags("2")).refuses(1, "at most 1048576 bytes");
}

#[test]
fn what_is_typed_is_sent_at_once_and_ctrl_c_says_what_was_stored() {
    let (_directory, server, mvctl) = vault();
    let mut child = mvctl.start(["append", "orders", "--json"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\nthr").unwrap();
    let client = server.client();
    until("two messages are stored", LONG, || {
        let next = client.get("/streams/orders").json()["next_offset"].as_u64();
        next.filter(|next| *next == 2)
    });
    interrupt(&child);
    let said = Said::of(child.wait_with_output().unwrap()).expect(130);
    let told = said.json();
    assert_eq!(
        (&told["acknowledged"], &told["next_line"], &told["unknown"]),
        (&json!(2), &json!(3), &json!(0))
    );
    assert!(said.err.contains("go on at line 3 of the input"), "{}", said.err);
    drop(stdin);
}

#[test]
fn a_server_that_is_killed_in_the_middle_loses_and_repeats_nothing() {
    let directory = vault_tests::server::temporary_directory();
    let port = vault_tests::replicas::free_port();
    let setup = vault_tests::server::Setup::at(directory.path(), &format!("127.0.0.1:{port}"));
    let mut server = setup.start();
    let mvctl = Mvctl::of(server.address());
    let lines: String = (0..400_000).map(|n| format!("line {n} of the input\n")).collect();
    let mut child = mvctl.start(["append", "orders", "--json"]);
    let mut stdin = child.stdin.take().unwrap();
    let reader = std::thread::spawn(move || Said::of(child.wait_with_output().unwrap()));
    let (most, last) = lines.split_at(lines.len() - 10);
    let client = server.client();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| stdin.write_all(most.as_bytes()).unwrap());
        until("the first messages are stored", LONG, || {
            client.get("/streams/orders").json()["next_offset"].as_u64().filter(|next| *next > 0)
        });
        server.kill();
        std::thread::sleep(Duration::from_millis(300));
        server.restart();
        writer.join().unwrap();
    });
    stdin.write_all(last.as_bytes()).unwrap();
    drop(stdin);
    let said = reader.join().unwrap().expect(0);
    assert_eq!(said.json()["acknowledged"], 400_000, "{}", said.err);
    let read = mvctl.run(["read", "orders", "--json"]).expect(0).json_lines();
    assert_eq!(read.len(), 400_000);
    for (n, message) in read.iter().enumerate() {
        assert_eq!(message["value"], format!("line {n} of the input"));
    }
}

#[test]
fn what_nobody_answered_may_be_stored() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mvctl = Mvctl::of(listener.local_addr().unwrap());
    // Takes what comes and says nothing.
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let _ = connection.unwrap().read(&mut [0; 100]);
        }
    });
    let said = mvctl.run_with(b"one\ntwo\n", ["append", "orders", "--json", "--timeout=0s"]);
    let told = said.json();
    assert_eq!(
        (&told["unknown"], &told["not_stored"], &told["next_line"]),
        (&json!(2), &json!(0), &json!(1))
    );
    said.refuses(5, "lines 1 to 2 of the input may be stored: read the end of the stream");
    let whole = ["append", "orders", "--format=whole", "--expected-offset=0", "--timeout=0s"];
    mvctl.run_with(b"one", whole).refuses(5, "may have been carried out");
    mvctl.run(["create", "orders", "--timeout=0s"]).refuses(5, "may have been carried out");
    mvctl.run(["read", "orders", "--timeout=0s"]).refuses(1, "--server");
}

#[test]
fn a_server_that_does_not_come_back_leaves_an_exact_account() {
    let (_directory, mut server, mvctl) = vault();
    let mut child =
        mvctl.command(["append", "orders", "--json", "--timeout=2s"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\n").unwrap();
    let client = server.client();
    until("two messages are stored", LONG, || {
        let next = client.get("/streams/orders").json()["next_offset"].as_u64();
        next.filter(|next| *next == 2)
    });
    server.kill();
    stdin.write_all(b"three\nfour\n").unwrap();
    drop(stdin);
    let said = Said::of(child.wait_with_output().unwrap());
    // Nothing could be sent: the connection was gone, or was found gone when it was used.
    let told = said.json();
    assert_eq!((&told["acknowledged"], &told["next_line"]), (&json!(2), &json!(3)), "{}", said.err);
    let lost = told["not_stored"].as_u64().unwrap() + told["unknown"].as_u64().unwrap();
    assert_eq!(lost, 2);
    if told["unknown"] == 0 {
        said.refuses(1, "go on at line 3 of the input");
    } else {
        said.refuses(5, "lines 3 to 4 of the input may be stored: read from offset 2 on");
    }
}
