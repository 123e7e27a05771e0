//! Reads a whole stream as fast as it can, sealed segments from Blob storage and the rest through the servers, and says how
//! much that was: `cargo run -p vault-client --example direct_replay http://127.0.0.1:8480 orders`

use std::error::Error;
use std::io::Write;

use futures::TryStreamExt;
use vault_client::Client;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(urls), Some(stream)) = (arguments.next(), arguments.next()) else {
        return Err("usage: direct_replay URL[,URL...] STREAM".into());
    };
    // Where storage cannot be read without the servers, as on files, everything comes through them.
    let mut reader = Client::connect(&urls)?.reader(&stream).direct().start();
    let (mut messages, mut bytes) = (0_u64, 0_u64);
    while let Some(message) = reader.try_next().await? {
        messages += 1;
        bytes += message.value().len() as u64;
    }
    writeln!(std::io::stdout(), "{messages} messages, {bytes} bytes")?;
    Ok(())
}
