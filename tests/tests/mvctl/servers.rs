//! How the servers are.

use serde_json::Value;
use vault_tests::mvctl::{Mvctl, Said, interrupt, lines};
use vault_tests::replicas::Replicas;
use vault_tests::server::temporary_directory;
use vault_tests::wait::LONG;

use super::vault;

#[test]
fn servers_say_how_they_are() {
    let directory = temporary_directory();
    let replicas = Replicas::in_directory(directory.path());
    let [one, two] = replicas.addresses();
    let urls = format!("http://{one},http://{two},http://127.0.0.1:1");
    let mvctl = Mvctl::of(one);
    let said = mvctl.run(["status", "--json", "--server", &urls]).expect(0).json_lines();
    assert_eq!(said.len(), 3);
    let roles: Vec<_> = said[..2].iter().map(|line| line["status"]["role"].as_str().unwrap()).collect();
    assert!(roles.contains(&"leader") && roles.contains(&"follower"), "{roles:?}");
    assert!(said[2]["error"].as_str().unwrap().contains("refused") && said[2]["status"] == Value::Null);
    let text = mvctl.run(["status", "--server", &urls]).expect(0).text();
    assert!(text.contains("away") && text.contains("leader: http://"), "{text}");
    let away = mvctl.run(["status", "--json", "--server=http://127.0.0.1:1"]).expect(1);
    assert!(away.json()["error"].is_string() && away.err.starts_with("mvctl: "));
}

#[test]
fn a_watch_goes_on_until_ctrl_c() {
    let (_directory, _server, mvctl) = vault();
    for flags in [&["status", "--watch", "1", "--json"][..], &["status", "--watch=1"]] {
        let mut child = mvctl.start(flags);
        let lines = lines(child.stdout.take().unwrap());
        let word = if flags.contains(&"--json") { "\"status\"" } else { "leader:" };
        for _ in 0..2 {
            while !lines.recv_timeout(LONG).expect("it goes on").contains(word) {}
        }
        interrupt(&child);
        let said = Said::of(child.wait_with_output().unwrap()).expect(130);
        assert_eq!(said.err, "");
    }
    mvctl.run(["status", "--watch=0"]).refuses(2, "--watch");
}
