//! Follows a stream for ever, through restarts and failovers of the servers, and remembers in a file where it is:
//! `cargo run -p vault-client --example tailing_consumer http://127.0.0.1:8480 orders [FILE]`

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use futures::StreamExt;
use vault_client::{Client, Offset, ReadError, Start};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(urls), Some(stream)) = (arguments.next(), arguments.next()) else {
        return Err("usage: tailing_consumer URL[,URL...] STREAM [FILE]".into());
    };
    let file = arguments.next().map(PathBuf::from);
    let client = Client::connect(&urls)?;
    let mut from = match file.as_ref().filter(|file| file.exists()) {
        Some(file) => Start::Offset(Offset(std::fs::read_to_string(file)?.trim().parse()?)),
        None => Start::Earliest,
    };
    loop {
        // Servers that are away for long are no reason to end.
        let mut reader = client.reader(&stream).from(from).follow().retry_time(None).start();
        while let Some(message) = reader.next().await {
            match message {
                Ok(message) => {
                    writeln!(
                        std::io::stdout(),
                        "{} {}",
                        message.offset(),
                        String::from_utf8_lossy(message.value())
                    )?;
                    // Behind the work: whoever is killed in between does the last message once more.
                    if let Some(file) = &file {
                        let next = message.offset().0 + 1;
                        let fresh = file.with_extension("new");
                        std::fs::write(&fresh, next.to_string())?;
                        std::fs::rename(fresh, file)?;
                    }
                }
                // Retention was faster: messages were missed, which somebody should know.
                Err(ReadError::BelowFirst { wanted, first_offset }) => {
                    writeln!(std::io::stderr(), "missed the messages from {wanted} to {first_offset}")?;
                    from = Start::Offset(first_offset);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
