//! The lines with curl in the README and in the documentation of the interface run as they stand, but for the ports.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vault_tests::replicas::Replicas;
use vault_tests::server::temporary_directory;
use vault_tests::wait::StopAtEnd;

/// Makes curl fail where the server refuses, and end where it would go on for ever.
const CURL: &str = r#"
set -euo pipefail
curl() {
    local status=0
    case "$*" in
    *follow=true* | *text/event-stream*)
        command curl --disable --silent --show-error --fail-with-body --max-time 3 "$@" || status=$?
        [ "$status" = 28 ] || { echo "this was to go on: $*" >&2; return 1; }
        ;;
    *) command curl --disable --silent --show-error --fail-with-body --max-time 60 "$@" ;;
    esac
}
"#;

/// The blocks of shell lines in a document that have curl in them, with the line at which each begins.
fn blocks(document: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut block: Option<(usize, String)> = None;
    for (number, line) in document.lines().enumerate() {
        match (line, &mut block) {
            ("```sh", None) => block = Some((number + 1, String::new())),
            ("```", Some(_)) => blocks.extend(block.take().filter(|(_, text)| text.contains("curl "))),
            (line, Some((_, text))) => text.extend([line, "\n"]),
            _ => {}
        }
    }
    blocks
}

fn run_all(document: &str, addresses: [SocketAddr; 2], scratch: &Path) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
    let text = std::fs::read_to_string(&path).expect("the document is there");
    let blocks = blocks(&text);
    for (line, block) in &blocks {
        let here = block
            .replace("127.0.0.1:8480", &addresses[0].to_string())
            .replace("127.0.0.1:8481", &addresses[1].to_string());
        let output =
            Command::new("bash").args(["-c", &format!("{CURL}\n{here}")]).current_dir(scratch).output();
        let output = output.expect("bash is there");
        let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
        assert!(output.status.success(), "{document}:{line}:\n{block}\n{}\n{}", said[0], said[1]);
    }
    blocks.len()
}

#[test]
fn the_lines_in_the_documents_run() {
    let (directory, scratch) = (temporary_directory(), temporary_directory());
    let replicas = Replicas::in_directory(directory.path());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        let client = replicas.client(0);
        let stop = &stop;
        // Some lines wait for the next message.
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let answer = client.post("/streams/orders/messages", "text/plain", b"the next message");
                assert!(matches!(answer.status, 200 | 404), "{answer:?}");
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        for (document, at_least) in [("README.md", 3), ("docs/http-api.md", 6)] {
            let found = run_all(document, replicas.addresses(), scratch.path());
            assert!(found >= at_least, "{document} has {found} blocks with curl");
        }
    });
}
