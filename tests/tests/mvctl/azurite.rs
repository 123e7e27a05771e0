//! Copies from Blob storage and back into it, on Azurite.

use std::path::Path;

use vault_tests::azurite::Azurite;
use vault_tests::mvctl::Mvctl;
use vault_tests::replicas::{free_port, on_azurite};
use vault_tests::server::{Setup, temporary_directory};

const PREFIX: &str = "mvctl-copies-";

#[test]
fn a_stream_comes_back_from_its_copy_after_it_is_lost() {
    let azurite = Azurite::shared();
    let connection = azurite.connection_string();
    let mut server = on_azurite(&azurite, PREFIX, free_port()).start();
    let mvctl = Mvctl::of(server.address()).environment("AZURE_STORAGE_CONNECTION_STRING", &connection);
    let _ = mvctl.run(["create", "orders", "--segment-bytes", "4MiB", "--codec", "lz4"]).expect(0);
    // Some 10 MB that no codec makes shorter, in several segments.
    let noise =
        |seed: u64| (0..14_000_u64).map(move |n| (seed * 14_000 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for seed in 0..8 {
        let lines: String = noise(seed).map(|n| format!("{n:016x}{:064x}\n", u128::from(n).pow(2))).collect();
        let _ = mvctl.run_with(lines.as_bytes(), ["append", "orders", "--key", "k"]).expect(0);
    }
    let original = mvctl.run(["read", "orders", "--json"]).expect(0).out;
    assert_eq!(original.iter().filter(|byte| **byte == b'\n').count(), 8 * 14_000);

    let place = temporary_directory();
    let directories =
        ["servers", "direct", "storage"].map(|name| place.path().join(name).display().to_string());
    let [servers, direct, storage] = &directories;
    let _ = mvctl.run(["copy", "orders", "--to", servers]).expect(0);
    let _ = mvctl.run(["copy", "orders", "--to", direct, "--direct"]).expect(0);
    let from_storage = ["copy", "orders", "--to", storage, "--from-storage", "azure:", "--prefix", PREFIX];
    let _ = mvctl.run(from_storage).expect(0);
    let _ = mvctl.run(["verify", "orders"]).expect(0);
    let _ = mvctl.run(["verify", "orders", "--storage", "azure:", "--prefix", PREFIX]).expect(0);

    for directory in [servers, direct] {
        let local = Setup::in_directory(Path::new(directory)).start();
        let read = Mvctl::of(local.address()).run(["read", "orders", "--json"]).expect(0).out;
        assert!(read == original, "the copy in {directory} holds something else");
    }
    // Nothing is written over a stream that is there. Once it is lost, it comes back.
    let restore = ["restore", "--from", storage, "--to-storage", "azure:", "--prefix", PREFIX];
    mvctl.run(restore).refuses(1, "exists already");
    let _ = mvctl.run(["delete", "orders", "--yes"]).expect(0);
    server.stop_in_order();
    let _ = mvctl.run(restore).expect(0);
    server.restart();
    let restored = mvctl.run(["read", "orders", "--json"]).expect(0).out;
    assert!(restored == original, "another stream came back");
    let _ = mvctl.run_with(b"one more\n", ["append", "orders"]).expect(0);
    assert_eq!(mvctl.run(["read", "orders", "--from", "112000", "--raw"]).expect(0).text(), "one more");
}
