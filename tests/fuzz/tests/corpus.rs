//! All that fuzzing has found worth keeping, on any toolchain.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use vault_fuzz::TARGETS;

/// Panics so far, also those that tokio keeps to itself.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// One test, since panics are counted for all of the process.
#[test]
fn nothing_that_was_found_does_harm() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        before(panic);
    }));
    for (name, target) in TARGETS {
        let files = std::fs::read_dir(corpus().join(name)).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.collect();
        files.sort();
        assert!(files.len() >= 10, "{name} has {} files", files.len());
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            let ended = std::panic::catch_unwind(|| target(&bytes));
            assert!(
                ended.is_ok() && PANICS.load(Ordering::Relaxed) == 0,
                "{} makes {name} panic",
                file.display()
            );
        }
    }
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let mut directories: Vec<_> =
        std::fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    directories.sort();
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(directories, names);
}
