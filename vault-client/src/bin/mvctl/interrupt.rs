//! Ctrl-C: commands end in order, and those that cannot are ended.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::failure::Exit;

/// Tells commands that they are to end.
#[derive(Clone)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Waits for SIGINT and SIGTERM. A second one, or `patience` after the first, ends the program: it may be writing where
    /// nobody reads.
    pub(crate) fn listen(patience: Duration) -> std::io::Result<Self> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            let mut asked = async || {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            asked().await;
            let _ = sender.send(true);
            let _ = tokio::time::timeout(patience, asked()).await;
            std::process::exit(Exit::Interrupted as i32);
        });
        Ok(Self(receiver))
    }

    /// Waits until the program is to end.
    pub(crate) async fn wait(&self) {
        // The sender lives as long as the program.
        let _ = self.0.clone().wait_for(|asked| *asked).await;
    }
}
