//! Sends each line of its input as a message, and says where each is stored:
//! `cargo run -p vault-client --example producer http://127.0.0.1:8480 orders < lines`

use std::error::Error;
use std::io::Write;

use futures::stream::{FuturesOrdered, StreamExt};
use vault_client::{Client, Receipt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(urls), Some(stream)) = (arguments.next(), arguments.next()) else {
        return Err("usage: producer URL[,URL...] STREAM".into());
    };
    let producer = Client::connect(&urls)?.producer(&stream).start()?;
    let mut receipts: FuturesOrdered<<Receipt as IntoFuture>::IntoFuture> = FuturesOrdered::new();
    for line in std::io::stdin().lines() {
        // Waits while the producer holds as much as it may. The receipt tells when the message is stored.
        receipts.push_back(producer.send(line?).await?.into_future());
        // Not to keep the receipts of all lines: those of the oldest are looked at meanwhile.
        while receipts.len() >= 1_000 {
            tell(receipts.next().await.transpose()?.map(|stored| stored.offset.0))?;
        }
    }
    producer.flush().await?;
    while let Some(stored) = receipts.next().await {
        tell(Some(stored?.offset.0))?;
    }
    // What it counted: nothing is lost without being told.
    let report = producer.close().await;
    writeln!(
        std::io::stderr(),
        "{} stored, {} not, {} unknown",
        report.acknowledged,
        report.not_stored,
        report.unknown
    )?;
    Ok(())
}

fn tell(offset: Option<u64>) -> std::io::Result<()> {
    offset.map_or(Ok(()), |offset| writeln!(std::io::stdout(), "{offset}"))
}
