//! What comes between: a service that stands still or is gone, bytes that are damaged on their way.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use vault_format::ids::{Position, Term};
use vault_server::limits::AZURE_SMALL_REQUEST_TIME;
use vault_server::storage::{Metadata, Storage, StorageError};
use vault_tests::azurite::{ACCOUNT, Azurite, Setup};
use vault_tests::server::temporary_directory;

use super::{blob, connect, container};

fn is_unknown<T: std::fmt::Debug>(outcome: Result<T, StorageError>) -> String {
    let Err(StorageError::Unavailable(why)) = outcome else { panic!("{outcome:?} is definite") };
    why
}

#[tokio::test]
async fn a_service_that_stands_still_or_is_gone_leaves_the_outcome_open_and_goes_on_afterwards() {
    let directory = temporary_directory();
    let mut azurite = Setup::in_directory(directory.path()).start();
    let storage = connect(&azurite.connection_string());
    storage.create_container(&container("paused"), &Metadata::new()).await.unwrap();
    let name = blob("paused");
    storage.create_page_blob(&name, 512, Term(1)).await.unwrap();

    azurite.pause();
    let started = Instant::now();
    let why = is_unknown(storage.properties(&name).await);
    let waited = started.elapsed();
    azurite.resume();
    assert!(why.contains("no answer within 5 s"), "{why}");
    let limit = AZURE_SMALL_REQUEST_TIME..AZURE_SMALL_REQUEST_TIME + Duration::from_secs(2);
    assert!(limit.contains(&waited), "{waited:?}");
    storage.properties(&name).await.unwrap();

    azurite.stop();
    let why = is_unknown(storage.properties(&name).await);
    assert!(!why.contains("127.0.0.1"), "{why}");
    azurite.restart();
    assert_eq!(storage.properties(&name).await.unwrap().sequence_number, Term(1));
}

/// Answers every connection with the head of an answer, and a part of the body that it announces.
fn half_an_answer() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        // They stay open as long as the thread waits for more, which is to the end.
        let mut open = Vec::new();
        for mut client in listener.incoming().map_while(Result::ok) {
            client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").unwrap();
            open.push(client);
        }
    });
    port
}

#[tokio::test]
async fn an_answer_that_never_ends_is_given_up_in_time() {
    let (account, key) = ACCOUNT;
    let port = half_an_answer();
    let storage = connect(&format!(
        "AccountName={account};AccountKey={key};BlobEndpoint=http://127.0.0.1:{port}/{account}"
    ));
    let started = Instant::now();
    is_unknown(storage.container_metadata(&container("any")).await);
    assert!(started.elapsed() < AZURE_SMALL_REQUEST_TIME + Duration::from_secs(2));
}

/// The first byte of what is damaged; no header has it.
const MARK: u8 = 0xfe;

/// Hands connections on to `port`, and while `damages` holds, flips a bit in the first byte that is [`MARK`].
fn proxy(port: u16, damages: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            // Both end with their connection.
            std::thread::spawn(move || std::io::copy(&mut from_server, &mut to_client));
            let damages = damages.clone();
            std::thread::spawn(move || hand_on(client, server, &damages));
        }
    });
    own
}

fn hand_on(mut client: TcpStream, mut server: TcpStream, damages: &AtomicBool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        let damaged = buffer[..count].iter_mut().find(|byte| **byte == MARK);
        if let Some(byte) = damaged.filter(|_| damages.load(Ordering::Relaxed)) {
            *byte ^= 1;
        }
        if server.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn pages_that_are_damaged_on_their_way_are_not_stored() {
    let azurite = Azurite::shared();
    let damages = Arc::new(AtomicBool::new(false));
    let port = proxy(azurite.port(), damages.clone());
    let (account, key) = ACCOUNT;
    let storage = connect(&format!(
        "AccountName={account};AccountKey={key};BlobEndpoint=http://127.0.0.1:{port}/{account}"
    ));
    storage.create_container(&container("damaged"), &Metadata::new()).await.unwrap();
    let name = blob("damaged");
    storage.create_page_blob(&name, 8 << 20, Term(1)).await.unwrap();
    let bytes = Bytes::from(vec![MARK; 4 << 20]);
    damages.store(true, Ordering::Relaxed);
    let why = is_unknown(storage.put_pages(&name, Position(0), bytes.clone(), Term(1), None).await);
    assert!(why.contains("damaged on its way (Crc64Mismatch)"), "{why}");
    assert_eq!(storage.page_ranges(&name, 0..8 << 20).await.unwrap(), []);
    damages.store(false, Ordering::Relaxed);
    storage.put_pages(&name, Position(0), bytes.clone(), Term(1), None).await.unwrap();
    assert_eq!(storage.read(&name, 0..4 << 20).await.unwrap().bytes, bytes);
}
