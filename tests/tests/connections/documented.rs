//! The limits in docs/http-api.md are those in force.

use std::time::Duration;

use vault_server::limits::{
    BODY_TIME, CONNECTION_BUFFER_BYTES, DRAIN_TIME, KEEPALIVE_AFTER, KEEPALIVE_EVERY, KEEPALIVE_TIMES,
    MAX_BASIC_BYTES, MAX_CONNECTIONS, MAX_DRAINED_BYTES, MAX_INTERNAL_CONNECTIONS, MAX_REQUEST_HEADERS,
    MAX_REQUESTS_PER_CONNECTION, MAX_SETTINGS_BODY_BYTES, MAX_TOKEN_BYTES, PROGRESS_BYTES, READ_MEMORY_BYTES,
    READ_MEMORY_WAIT, TLS_HANDSHAKE, WRITE_STALL,
};

const DOCUMENTATION: &str = include_str!("../../../docs/http-api.md");

fn bytes(bytes: usize) -> String {
    if bytes.is_multiple_of(1 << 20) {
        format!("{} MiB", bytes >> 20)
    } else {
        assert!(bytes.is_multiple_of(1 << 10), "{bytes}");
        format!("{} KiB", bytes >> 10)
    }
}

fn time(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

#[test]
fn the_documented_limits_of_connections_are_those_in_force() {
    let section = DOCUMENTATION.split("\n## ").find(|section| section.starts_with("Connections\n")).unwrap();
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    let found = rows.iter().map(|row| row.split(" | ").nth(1).unwrap().to_owned());
    let connections = format!("{MAX_CONNECTIONS} (`--max-connections`)");
    let expected = [
        connections.clone(),
        MAX_INTERNAL_CONNECTIONS.to_string(),
        MAX_REQUESTS_PER_CONNECTION.to_string(),
        connections,
        MAX_REQUEST_HEADERS.to_string(),
        bytes(CONNECTION_BUFFER_BYTES),
        bytes(CONNECTION_BUFFER_BYTES),
        bytes(MAX_BASIC_BYTES),
        bytes(MAX_TOKEN_BYTES),
        bytes(MAX_SETTINGS_BODY_BYTES),
        bytes(MAX_DRAINED_BYTES),
        time(DRAIN_TIME),
        "120 s (`--idle-timeout`)".to_owned(),
        time(TLS_HANDSHAKE),
        time(BODY_TIME),
        time(WRITE_STALL),
        bytes(PROGRESS_BYTES),
        time(KEEPALIVE_AFTER),
        time(WRITE_STALL),
        time(READ_MEMORY_WAIT),
    ];
    assert_eq!(found.collect::<Vec<_>>(), expected);
    let asked = format!(
        "asked every {}, and closed after the {KEEPALIVE_TIMES}th time in vain",
        time(KEEPALIVE_EVERY)
    );
    let pinged = format!("closed after another {}", time(WRITE_STALL));
    let memory = format!("readers share, {}", bytes(READ_MEMORY_BYTES));
    for said in [asked, pinged, memory] {
        assert!(section.contains(&said), "{said}");
    }
}
