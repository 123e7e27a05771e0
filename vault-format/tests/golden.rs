//! The golden vectors: stored bytes that never change within a version of the format.
//!
//! Each `golden/<name>.bin` has a `golden/<name>.txt` beside it that says what it holds, for decoders in other
//! languages too. The tests read these files and never write them. `VAULT_GOLDEN_OUT=<directory>` makes them write what
//! the code makes today into another directory, for a new version of the format or a new vector; copying from there
//! into `golden/` is done by hand.

mod common;
mod vectors;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use vault_format::batch::Batch;
use vault_format::codec::Codec;

use crate::vectors::{GOLDEN, Vector, all, golden as stored};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/storage-format.md");

fn write_where_asked(vectors: &[Vector]) {
    let Some(out) = std::env::var_os("VAULT_GOLDEN_OUT") else { return };
    let out = Path::new(&out);
    assert!(
        out.canonicalize().is_ok_and(|out| !out.starts_with(GOLDEN)),
        "VAULT_GOLDEN_OUT is a directory that exists, and not the vectors' own"
    );
    for vector in vectors {
        fs::write(out.join(format!("{}.bin", vector.name)), &vector.bytes)
            .expect("the directory can be written");
        fs::write(out.join(format!("{}.txt", vector.name)), vector.describe(&vector.bytes))
            .expect("the directory can be written");
    }
}

#[test]
fn the_code_makes_the_stored_bytes() {
    let vectors = all();
    write_where_asked(&vectors);
    for vector in &vectors {
        assert!(vector.bytes == stored(vector.name, "bin"), "{}: other bytes than golden", vector.name);
    }
}

#[test]
fn the_stored_bytes_decode_to_what_is_written_beside_them() {
    for vector in all() {
        let described = vector.describe(&stored(vector.name, "bin"));
        let expected = String::from_utf8(stored(vector.name, "txt")).unwrap();
        assert_eq!(described, expected, "{}", vector.name);
    }
}

#[test]
fn the_directory_holds_these_vectors_and_no_others() {
    let known: BTreeSet<String> =
        all().iter().flat_map(|v| [format!("{}.bin", v.name), format!("{}.txt", v.name)]).collect();
    let found: BTreeSet<String> = fs::read_dir(GOLDEN)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    assert_eq!(found, known);
}

/// Whatever compressor made the stored bytes, and whatever makes them today.
#[test]
fn compressed_batches_hold_the_same_records_for_ever() {
    let (records, count) = vectors::repeating();
    let made = [Codec::Lz4, Codec::Zstd].map(vectors::compressed);
    let kept = ["messages-lz4", "messages-zstd", "messages-zstd-checked"].map(|name| stored(name, "bin"));
    for bytes in made.iter().chain(&kept) {
        let batch = Batch::decode(bytes).unwrap();
        let uncompressed = batch.uncompressed().unwrap();
        assert_eq!(uncompressed.records().filter(|record| record.is_ok()).count(), count as usize);
        assert!(uncompressed.into_bytes() == records, "codec {}", batch.header.codec);
    }
}

#[test]
fn the_chain_accepts_no_wrong_batch() {
    for vector in all().iter().filter(|vector| vector.name.starts_with("wrong-")) {
        let bytes = stored(vector.name, "bin");
        let mut chain = vectors::chain_in_block();
        let before = chain;
        match chain.accept(&bytes) {
            Ok(batch) => {
                let holds = batch.uncompressed().is_ok_and(|it| it.records().all(|record| record.is_ok()));
                assert!(!holds, "{}", vector.name);
            }
            Err(broken) => {
                assert_eq!(chain, before, "{}: a refused batch moves nothing", vector.name);
                let too_new = ["wrong-version-2", "wrong-codec-3", "wrong-kind-6"].contains(&vector.name);
                assert_eq!(broken.is_too_new(), too_new, "{}: {broken}", vector.name);
            }
        }
    }
}

#[test]
fn checksums_are_crc32c() {
    let bitwise = |bytes: &[u8]| {
        !bytes.iter().fold(!0u32, |crc, byte| {
            (0..8)
                .fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
        })
    };
    assert_eq!(bitwise(b"123456789"), 0xe306_9283);
    for vector in all() {
        assert_eq!(crc32c::crc32c(&vector.bytes), bitwise(&vector.bytes), "{}", vector.name);
    }
    let messages = stored("messages", "bin");
    assert_eq!(messages[124..128], bitwise(&messages[..124]).to_le_bytes());
}

#[test]
fn the_example_of_the_document_is_the_tiny_batch() {
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let bytes = stored("tiny", "bin");
    for (line, row) in bytes.chunks(16).enumerate().take(9) {
        let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown = format!("{:08x}  {}  {}", line * 16, hex[..8].join(" "), hex[8..].join(" "));
        assert!(document.contains(&shown), "the document does not show: {shown}");
    }
    assert!(vectors::chain_in_block().accept(&bytes).is_ok());
}
