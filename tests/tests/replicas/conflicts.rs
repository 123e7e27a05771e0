//! A vault that is not the one that this server is for: it ends with one sentence and has changed nothing.

use std::time::Duration;

use vault_server::storage::Storage;
use vault_tests::azurite::Azurite;
use vault_tests::replicas::{free_port, on_azurite};

use super::{connect, run};

const SOON: Duration = Duration::from_secs(30);

fn assert_refused(setup: vault_tests::server::Setup, named: &[&str]) {
    let (code, stderr) = setup.with(["--log", "error"]).run_to_end(SOON);
    assert_eq!(code, Some(1), "{stderr}");
    assert_eq!(stderr.lines().filter(|line| !line.trim().is_empty()).count(), 1, "one sentence: {stderr:?}");
    for name in named {
        assert!(stderr.contains(name), "{name} must be named: {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn another_vaults_system_container_is_refused() {
    let azurite = Azurite::shared();
    let ours = on_azurite(&azurite, "uid-", free_port()).with(["--vault-uid", "ours"]).start();
    ours.client().append_text("s", "one");
    let theirs = on_azurite(&azurite, "uid-", free_port()).with(["--vault-uid", "theirs"]);
    assert_refused(theirs, &["ours", "theirs", "uid-sys"]);
    ours.client().append_text("s", "the right one is not disturbed");
    assert_eq!(ours.client().read_all("s").len(), 2);
}

#[test]
fn overlapping_prefixes_are_refused_either_way_round() {
    let azurite = Azurite::shared();
    let _running = on_azurite(&azurite, "overlap-a-", free_port()).start();
    for prefix in ["overlap-", "overlap-a-b-"] {
        assert_refused(on_azurite(&azurite, prefix, free_port()), &["overlap-a-", prefix, "overlap;"]);
        let made = run(async { connect(&azurite).list_containers(&format!("{prefix}sys")).await.unwrap() });
        assert!(made.is_empty(), "{made:?}");
    }
}
