//! A vault in this process, and what is built on it: copies, and several streams read as one.

mod copies;
mod merged;
mod vaults;

use futures::TryStreamExt;
use vault_client::{Client, Message, Offset};

/// Appends texts, one request each, and answers their offsets.
async fn append(client: &Client, stream: &str, texts: &[&str]) -> Vec<Offset> {
    let mut offsets = Vec::new();
    for text in texts {
        let run =
            vault_client::Run::of([Message::new((*text).to_owned())]).expect("short texts are messages");
        offsets.push(client.append(stream, run, None).await.expect("it is stored").first_offset);
    }
    offsets
}

/// All that stands in a stream.
async fn texts(client: &Client, stream: &str) -> Vec<String> {
    let reader = client.reader(stream).start();
    reader.map_ok(|message| text(message.value())).try_collect().await.expect("the stream can be read")
}

fn text(value: &[u8]) -> String {
    String::from_utf8(value.to_vec()).expect("texts were appended")
}
