//! Streams are listed, created, changed, described and deleted; who asks, and where.

use serde_json::{Value, json};
use vault_tests::access::{token, user};
use vault_tests::mvctl::Mvctl;
use vault_tests::server::{Setup, temporary_directory};

use super::vault;

#[test]
fn streams_are_created_and_confirmed() {
    let (_directory, server, mvctl) = vault();
    let flags = [
        "create",
        "orders",
        "--segment-bytes=4MiB",
        "--codec=zstd",
        "--append-bytes-per-second=1MiB",
        "--retention=30d",
        "--retention-bytes=64MiB",
        "--max-bytes=1GiB",
    ];
    assert_eq!(mvctl.run(flags).expect(0).text(), "created orders\n");
    assert!(mvctl.run(flags).expect(0).text().starts_with("confirmed orders"));
    assert_eq!(
        mvctl.run(["create", "orders", "--json"]).expect(0).json(),
        json!({"created": false, "name": "orders"})
    );
    let settings = server.client().get("/streams/orders").json()["settings"].clone();
    let wanted = json!({
        "segment_bytes": 4 << 20, "codec": "zstd", "append_bytes_per_second": 1 << 20,
        "retention_seconds": 2_592_000, "retention_bytes": 64 << 20, "max_bytes": 1 << 30,
    });
    assert_eq!(settings, wanted);
    mvctl.run(["create", "orders", "--codec=lz4"]).refuses(1, "`mvctl change`");
    mvctl.run(["create", "No_name"]).refuses(1, "invalid_name");
    mvctl.run(["create", "orders", "--retention=soon"]).refuses(2, "12h or 30d");
    mvctl.run(["create", "orders", "--segment-bytes=1"]).refuses(1, "segment_bytes");
    mvctl.run(["create"]).refuses(2, "<NAME>");
    mvctl.run(["nonsense"]).refuses(2, "nonsense");
}

#[test]
fn settings_are_changed_and_taken_away() {
    let (_directory, _server, mvctl) = vault();
    let _ = mvctl.run(["create", "orders", "--retention", "90"]).expect(0);
    assert_eq!(mvctl.run(["change", "orders", "--retention=2h"]).expect(0).text(), "changed orders\n");
    let info = mvctl.run(["info", "orders"]).expect(0).text();
    assert!(info.lines().any(|line| line.ends_with("  2h")), "{info}");
    let changed = mvctl.run(["change", "orders", "--retention=none", "--json"]).expect(0).json();
    assert_eq!(changed["settings"]["retention_seconds"], Value::Null);
    mvctl.run(["change", "orders"]).refuses(2, "give a setting");
    mvctl.run(["change", "missing", "--codec=lz4"]).refuses(3, "mvctl streams");
}

#[test]
fn streams_are_listed_and_described() {
    let (_directory, mut server, mvctl) = vault();
    let _ = mvctl.run_with(b"a\nb\n", ["append", "orders"]).expect(0);
    let _ = mvctl.run(["create", "events"]).expect(0);
    let list = mvctl.run(["streams"]).expect(0).text();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<_> = list.lines().map(words).collect();
    assert_eq!(rows.len(), 3, "{list}");
    assert_eq!((&*rows[1][0], &*rows[2][0]), ("events", "orders"));
    assert_eq!(rows[2][1..4], ["open", "0", "2"]);
    let described = mvctl.run(["streams", "or", "--json"]).expect(0).json();
    assert_eq!(described, server.client().get("/streams/orders").json());
    let info = mvctl.run(["info", "orders", "--json"]).expect(0).json();
    assert_eq!((&info["next_offset"], &info["name"]), (&json!(2), &json!("orders")));
    assert!(mvctl.run(["info", "orders"]).expect(0).text().contains("2, offsets 0 to 1"));
    mvctl.run(["info", "missing"]).refuses(3, "stream_not_found");
    assert_eq!(mvctl.run(["streams", "nothing", "--json"]).expect(0).text(), "");
    server.stop_in_order();
    server.restart();
    let mvctl = Mvctl::of(server.address());
    let listed = mvctl.run(["streams", "--json", "--all"]).expect(0).json_lines();
    assert_eq!(listed[1]["next_offset"], 2);
}

#[test]
fn a_stream_is_deleted_only_by_who_means_it() {
    let (_directory, server, mvctl) = vault();
    let _ = mvctl.run(["create", "orders"]).expect(0);
    mvctl.run(["delete", "orders"]).refuses(2, "--yes");
    mvctl.run_with(b"orders\n", ["delete", "orders"]).refuses(2, "--yes");
    assert_eq!(server.client().get("/streams/orders").status, 200);
    assert_eq!(mvctl.run(["delete", "orders", "--yes"]).expect(0).text(), "deleted orders\n");
    mvctl.run(["delete", "orders", "--yes"]).refuses(3, "stream_not_found");
}

#[test]
fn a_prefix_hides_what_others_have() {
    let (_directory, server, mvctl) = vault();
    let mine = mvctl.clone().environment("MESSAGEVAULT_STREAM_PREFIX", "team-a-");
    let _ = mvctl.run(["create", "others"]).expect(0);
    let _ = mine.run_with(b"a\n", ["append", "orders"]).expect(0);
    assert_eq!(server.client().get("/streams/team-a-orders").status, 200);
    let listed = mine.run(["streams", "--json"]).expect(0).json();
    assert_eq!(listed["name"], "orders");
    assert_eq!(mine.run(["info", "orders", "--json"]).expect(0).json()["name"], "orders");
    assert_eq!(mine.run(["read", "orders", "--raw"]).expect(0).text(), "a");
}

#[test]
fn callers_say_who_they_are_and_secrets_are_not_shown() {
    let (directory, access) = (temporary_directory(), temporary_directory());
    let file = access.path().join("access.yaml");
    let grants = ["all:admin"];
    let text = format!("users:\n{}tokens:\n{}", user("olga", 19_456, &grants), token("ci", &grants));
    std::fs::write(&file, text).unwrap();
    let flag = ["--access".into(), file.into_os_string()];
    let server = Setup::in_directory(directory.path()).with(flag).start();
    let mvctl = Mvctl::of(server.address());
    mvctl.run(["streams"]).refuses(1, "--token-file");
    let token_file = access.path().join("token");
    std::fs::write(&token_file, "ci-token\n").unwrap();
    let token_path = token_file.to_str().unwrap();
    let _ = mvctl.run(["streams", "--token-file", token_path]).expect(0);
    let _ = mvctl.run(["streams", "--token", "ci-token"]).expect(0);
    let _ = mvctl.clone().environment("MESSAGEVAULT_TOKEN", "ci-token").run(["streams"]).expect(0);
    let password_file = access.path().join("password");
    std::fs::write(&password_file, "olga's password\n").unwrap();
    let password_path = password_file.to_str().unwrap();
    let _ = mvctl.run(["streams", "--user=olga", "--password-file", password_path]).expect(0);
    let with_password = mvctl.clone().environment("MESSAGEVAULT_PASSWORD", "olga's password");
    let _ = with_password.run(["streams", "--user=olga"]).expect(0);
    mvctl.run(["streams", "--user=olga"]).refuses(2, "MESSAGEVAULT_PASSWORD");
    mvctl.run(["streams", "--user=olga", "--token=x"]).refuses(2, "give one");
    let wrong = mvctl.run(["streams", "--token", "wrong-secret", "-vvv"]).expect(1);
    assert!(!wrong.err.contains("wrong-secret"), "{}", wrong.err);
    let help = mvctl.environment("MESSAGEVAULT_TOKEN", "env-secret").run(["--help"]).expect(0);
    assert!(!help.text().contains("env-secret") && help.text().contains("Exit codes"));
}

#[test]
fn nobody_answers() {
    let nowhere = Mvctl::of("127.0.0.1:1".parse().unwrap());
    nowhere.run(["streams", "--timeout=0s"]).refuses(1, "--server");
    nowhere.run(["create", "orders", "--timeout=300ms"]).refuses(1, "127.0.0.1:1");
    nowhere.run(["streams", "--server", "ftp://x"]).refuses(2, "ftp://x");
    nowhere.run(["streams", "--server", ""]).refuses(2, "no server");
    nowhere.run(["streams", "--ca", "/nonexistent"]).refuses(2, "/nonexistent");
}

#[test]
fn shells_complete() {
    let (_directory, _server, mvctl) = vault();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(mvctl.run(["completions", shell]).expect(0).text().contains("append"), "{shell}");
    }
    mvctl.run(["completions", "tcsh"]).refuses(2, "tcsh");
}
