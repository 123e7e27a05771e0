//! What the audit log tells of appends.

use std::io::Write;
use std::sync::Mutex;

use super::*;
use crate::access::audit::{Peer, TARGET};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The events of the audit log until now.
    fn told(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["target"] == TARGET).collect()
    }
}

#[tokio::test]
async fn a_stream_that_an_append_creates_is_told_of_once() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let server = server().await;
    let append = || {
        let request = Request::post("/streams/s/messages").header("content-type", TEXT);
        request.extension(Peer("192.0.2.7:99".parse().unwrap())).body(Body::from("x")).unwrap()
    };
    // The one that finds it made by the other has nothing to tell.
    let (a, b) = tokio::join!(server.send(append()), server.send(append()));
    a.is(200);
    b.is(200);
    server.send(append()).await.is(200);
    let told = log.told();
    assert_eq!(told.len(), 1, "{told:?}");
    for (field, value) in [
        ("who", "anybody"),
        ("peer", "192.0.2.7:99"),
        ("what", "POST /streams/{stream}/messages, creating the stream"),
        ("stream", "s"),
    ] {
        assert_eq!(told[0][field], value, "{told:?}");
    }
    assert_eq!(told[0]["status"], 201);
}
