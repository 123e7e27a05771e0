//! The lines with curl and mvctl in the README and in the documentation run as they stand, but for the ports.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vault_tests::replicas::Replicas;
use vault_tests::server::{program_named, temporary_directory};
use vault_tests::wait::StopAtEnd;

/// Makes curl fail where the server refuses, and both end where they would go on for ever.
const COMMANDS: &str = r#"
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
mvctl() {
    local status=0
    case "$*" in
    *--follow* | *--watch*)
        timeout --signal INT 2 mvctl "$@" || status=$?
        [ "$status" = 124 ] || { echo "this was to go on: $*" >&2; return 1; }
        ;;
    *) command mvctl "$@" ;;
    esac
}
"#;

/// The blocks of shell lines in a document that have curl or mvctl in them, with the line at which each begins.
fn blocks(document: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut block: Option<(usize, String)> = None;
    for (number, line) in document.lines().enumerate() {
        match (line, &mut block) {
            ("```sh", None) => block = Some((number + 1, String::new())),
            ("```", Some(_)) => blocks.extend(block.take().filter(|(_, text)| speaks(text))),
            (line, Some((_, text))) => text.extend([line, "\n"]),
            _ => {}
        }
    }
    blocks
}

fn speaks(block: &str) -> bool {
    block.contains("curl ") || block.contains("mvctl ")
}

fn run_all(document: &str, addresses: [SocketAddr; 2], scratch: &Path) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
    let text = std::fs::read_to_string(&path).expect("the document is there");
    let blocks = blocks(&text);
    let mvctl = program_named("mvctl");
    let programs = mvctl.parent().expect("a program stands in a directory").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&path)));
    let path = path.expect("directories of programs have no colons");
    for (line, block) in &blocks {
        let here = block
            .replace("127.0.0.1:8480", &addresses[0].to_string())
            .replace("127.0.0.1:8481", &addresses[1].to_string());
        let mut bash = Command::new("bash");
        bash.args(["-c", &format!("{COMMANDS}\n{here}")]).current_dir(scratch).env("PATH", &path);
        bash.env("MESSAGEVAULT_URL", format!("http://{},http://{}", addresses[0], addresses[1]));
        let output = bash.output().expect("bash is there");
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
        for (document, at_least) in [("README.md", 3), ("docs/http-api.md", 6), ("docs/mvctl.md", 8)] {
            let found = run_all(document, replicas.addresses(), scratch.path());
            assert!(found >= at_least, "{document} has {found} blocks with curl or mvctl");
        }
    });
}
