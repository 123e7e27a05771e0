//! The benchmark measures, and sees whether what comes out is what went in.

use std::time::Duration;

use vault_tests::client::Client;
use vault_tests::mvctl::Said;
use vault_tests::wait::{LONG, alone, until};

use super::vault;

#[test]
fn the_figures_are_there_and_the_stream_is_gone() {
    let _alone = alone();
    let (_directory, _server, mvctl) = vault();
    let flags = ["bench", "--producers=3", "--batch=10", "--size=100", "--seconds=1", "--readers=2"];
    let said = mvctl.run(flags.into_iter().chain(["--json"])).expect(0);
    let figures = said.json();
    let messages = figures["append"]["messages"].as_u64().unwrap();
    assert!(messages > 0 && messages.is_multiple_of(10));
    for phase in ["append", "tail", "replay"] {
        let of = &figures[phase];
        for member in ["messages_per_second", "mib_per_second", "p50_ms", "p99_ms", "max_ms"] {
            assert!(of[member].as_f64().is_some_and(|figure| figure >= 0.0), "{phase} {member}: {figures}");
        }
        let readers = if phase == "append" { 1 } else { 2 };
        assert_eq!(of["messages"], messages * readers);
        let ms = |name: &str| of[name].as_f64().unwrap();
        assert!(ms("p50_ms") <= ms("p99_ms") && ms("p99_ms") <= ms("max_ms"));
    }
    assert_eq!(mvctl.run(["streams", "--json"]).expect(0).text(), "");
    let text = mvctl.run(flags.into_iter().chain(["--keep", "--stream=kept"])).expect(0).text();
    assert!(text.contains("replay") && text.contains("was read once, in order"), "{text}");
    let kept = mvctl.run(["streams", "kept", "--json"]).expect(0).json();
    assert!(kept["next_offset"].as_u64().unwrap() > 0);
    mvctl.run(["bench", "--size=19"]).refuses(2, "20 bytes");
    mvctl.run(["bench", "--producers=0"]).refuses(2, "--producers");
}

fn bench_stream(client: &Client) -> String {
    until("the benchmark's stream is there", LONG, || {
        let listed = client.get("/streams?prefix=bench").json();
        listed["streams"][0]["name"].as_str().map(str::to_owned)
    })
}

#[test]
fn what_nobody_sent_is_noticed() {
    let _alone = alone();
    let (_directory, server, mvctl) = vault();
    let child = mvctl.start(["bench", "--producers=1", "--batch=5", "--size=100", "--seconds=2"]);
    let stream = bench_stream(&server.client());
    let _ = server.client().append_text(&stream, "somebody else's");
    let said = Said::of(child.wait_with_output().unwrap());
    said.refuses(1, "what was read is not what was written");
    assert_eq!(mvctl.run(["streams", "--json"]).expect(0).text(), "");
}

#[test]
fn an_interrupted_benchmark_leaves_nothing_behind() {
    let _alone = alone();
    let (_directory, server, mvctl) = vault();
    let child = mvctl.start(["bench", "--producers=2", "--seconds=60"]);
    let _ = bench_stream(&server.client());
    std::thread::sleep(Duration::from_millis(200));
    vault_tests::mvctl::interrupt(&child);
    let _ = Said::of(child.wait_with_output().unwrap()).expect(130);
    assert_eq!(mvctl.run(["streams", "--json"]).expect(0).text(), "");
}
