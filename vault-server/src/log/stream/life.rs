//! What happens to a stream during one reign: it is recovered, appended to, and closed.

use std::sync::{Arc, Mutex, RwLock};

use tokio::sync::{mpsc, watch};
use vault_format::ids::Offset;

use super::{OpenStream, State, Stream};
use crate::limits::RECENT_BYTES_PER_STREAM;
use crate::log::error::{StreamFault, Unusable};
use crate::log::following::{Follower, locate};
use crate::log::fresh::Fresh;
use crate::log::meta;
use crate::log::reader::Reader;
use crate::log::recent::Recent;
use crate::log::recover::{Purpose, RecoverError, Recovered, recover};
use crate::log::reign::Reign;
use crate::log::retention::Policy;
use crate::log::retention::ends::Ends;
use crate::log::retention::overtaken::{guard_oldest, is_trimmed};
use crate::log::retry::Backoff;
use crate::log::settings::StreamMeta;
use crate::log::store::Store;
use crate::log::tail::Tail;
use crate::log::writer::{Command, Retaining, Shown, Writer, WriterEnd, WriterParts};
use crate::storage::StorageError;

impl Stream {
    /// Everything that happens to the stream during one reign.
    pub(super) async fn live(self: Arc<Self>, reign: Reign) {
        let mut command = self.command.subscribe();
        let recovered = tokio::select! {
            biased;
            _ = command.wait_for(|command| *command != Command::Run) => return self.close(),
            recovered = self.recover(&reign) => recovered,
        };
        let (store, recovered) = match recovered {
            Ok(recovered) => recovered,
            Err(RecoverError::Unusable(Unusable::Fault(fault))) => return self.record(fault),
            Err(RecoverError::Unusable(_)) => return self.set_missing(),
            Err(RecoverError::Reign(end)) => {
                self.context.reign_is_over(reign.term, end);
                return self.close();
            }
        };
        let term = reign.term;
        let (open, writer) = self.start(store, reign, &recovered, command);
        let fault = recovered.fault;
        let opened = self.state.send_if_modified(|state| {
            let opening = matches!(state, State::Opening { .. });
            if opening {
                *state = State::Open(Arc::clone(&open));
            }
            opening
        });
        if !opened {
            return;
        }
        if let Some(fault) = fault {
            return self.record(fault);
        }
        let Some(writer) = writer else { return };
        match writer.run().await {
            WriterEnd::Fault(fault) => self.record(fault),
            WriterEnd::ReignOver(end) => {
                self.context.reign_is_over(term, end);
                self.close();
            }
            // A fault that a reader found has halted the writer; what comes before it is still read.
            WriterEnd::Halted if open.fault().is_some() => {}
            WriterEnd::Finished | WriterEnd::Halted => self.close(),
        }
    }

    /// Recovers, again and again while storage does not answer.
    async fn recover(&self, reign: &Reign) -> Result<(Store, Recovered), RecoverError> {
        let mut backoff = Backoff::default();
        loop {
            let trouble = match self.try_recover(reign).await {
                Err(RecoverError::Unusable(trouble @ (Unusable::Storage(_) | Unusable::TimedOut))) => trouble,
                outcome => return outcome,
            };
            tracing::warn!(stream = %self.name, %trouble, "cannot open the stream, trying again");
            self.state.send_if_modified(|state| {
                let opening = matches!(state, State::Opening { .. });
                if opening {
                    *state = State::Opening { trouble: Some(trouble) };
                }
                opening
            });
            backoff.wait(&self.context.env).await;
        }
    }

    async fn try_recover(&self, reign: &Reign) -> Result<(Store, Recovered), RecoverError> {
        let before = self.meta().id;
        let (store, meta) = self.store().await?;
        if meta.id != before {
            // Deleted and made anew behind the vault's back. What was there is gone, and so is what is known of it.
            tracing::warn!(stream = %self.name, id = %meta.id, "the stream was made anew");
            self.context.blocks.forget(before);
            self.context.let_go(before);
            self.context.count_change();
        }
        let StreamMeta { begun, trimmed, settings, .. } = meta;
        let purpose = Purpose::Lead { reign, segment_bytes: settings.segment_bytes };
        let mut recovered = recover(&store, purpose, begun).await?;
        if trimmed || Policy::of(&settings).retains() {
            guard_oldest(&store, reign, &mut recovered.segments).await?;
        }
        self.note_lost_front(&store, &mut recovered).await?;
        if !begun && !recovered.segments.is_empty() {
            // A leader ended between making the first segment and putting that on record.
            self.begin().await?;
        }
        Ok((store, recovered))
    }

    /// The stream as its container says: what stands in storage counts, since another leader may have changed it.
    async fn store(&self) -> Result<(Store, StreamMeta), Unusable> {
        // Not under the lock of those who change it: they may wait for a lease, and nothing is to wait for that here.
        let meta = loop {
            let meta_read = self.meta_read();
            let meta = meta::read(&self.context, &self.container).await?;
            if self.set_meta_unless_newer(meta.clone(), meta_read) {
                break meta;
            }
        };
        let (storage, env) = (Arc::clone(&self.context.storage), self.context.env.clone());
        let (container, metrics) = (self.container.clone(), Arc::clone(&self.metrics));
        Ok((Store { storage, env, container, id: meta.id, metrics }, meta))
    }

    /// Holds the stream back where its first segments are gone and retention has deleted none.
    async fn note_lost_front(&self, store: &Store, recovered: &mut Recovered) -> Result<(), Unusable> {
        let Some(first) = recovered.segments.first().filter(|first| first.base > Offset::ZERO) else {
            return Ok(());
        };
        // Asked for after the list was: retention may have begun in between.
        if recovered.fault.is_none() && !is_trimmed(store).await? {
            let lost = format!(
                "what comes before segment {:020} is gone, and retention has deleted nothing",
                first.base
            );
            recovered.fault = Some(StreamFault::DataMissing(lost));
        }
        Ok(())
    }

    /// The stream as a follower reads it, found now.
    pub(super) async fn follow(&self) -> Result<OpenStream, Unusable> {
        let began = self.context.env.clock.monotonic();
        let (store, meta) = self.store().await?;
        let mut recovered = locate(&store, meta.begun).await?;
        self.note_lost_front(&store, &mut recovered).await?;
        let follower = Some(Follower::new(&recovered, began));
        let reader = self.reader_at(store, &recovered);
        let fault = Mutex::new(recovered.fault);
        Ok(OpenStream { reader, requests: None, term: None, follower, fault, confirmed: Fresh::default() })
    }

    fn reader_at(&self, store: Store, recovered: &Recovered) -> Reader {
        let segment = recovered.segments.last().map_or(Offset::ZERO, |segment| segment.base);
        let shown = Shown {
            tail: watch::Sender::new(Tail { segment, chain: recovered.chain }),
            segments: Arc::new(RwLock::new(recovered.segments.clone())),
            ends: Arc::new(Ends::default()),
            recent: Arc::new(Recent::new(Arc::clone(&self.context.recent), RECENT_BYTES_PER_STREAM)),
            sent: Arc::default(),
            stalled: Arc::default(),
        };
        let (blocks, heads) = (Arc::clone(&self.context.blocks), Arc::clone(&self.context.heads));
        Reader { store, shown, blocks, heads }
    }

    fn start(
        self: &Arc<Self>,
        store: Store,
        reign: Reign,
        recovered: &Recovered,
        command: watch::Receiver<Command>,
    ) -> (Arc<OpenStream>, Option<Writer>) {
        let reader = self.reader_at(store.clone(), recovered);
        let (sender, requests) = mpsc::unbounded_channel();
        let (stream, trimmed) = (Arc::clone(self), Arc::clone(self));
        let parts = WriterParts {
            store,
            reign: reign.clone(),
            segment_bytes: Arc::clone(&self.segment_bytes),
            codec: self.codec.clone(),
            begin: Arc::new(move || {
                let stream = Arc::clone(&stream);
                Box::pin(async move { stream.begin().await })
            }),
            trim: Arc::new(move || {
                let stream = Arc::clone(&trimmed);
                Box::pin(async move { stream.trim().await })
            }),
            shown: reader.shown.clone(),
            requests,
            command,
            pacing: self.context.options.pacing,
            clock: Arc::clone(&self.context.stamping),
            retaining: Retaining::new(self.policy.subscribe(), Arc::clone(&self.context.steady)),
        };
        let open = OpenStream {
            reader,
            requests: Some(sender),
            term: Some(reign),
            follower: None,
            // Known before anybody reads: a strong read goes by it.
            fault: Mutex::new(recovered.fault.clone()),
            confirmed: Fresh::default(),
        };
        let writer = recovered.fault.is_none().then(|| Writer::new(parts, recovered));
        (Arc::new(open), writer)
    }

    /// Changes what the container says, for as long as this server leads, and then what is known of it here.
    pub(crate) async fn update_meta(
        &self,
        change: impl Fn(&mut StreamMeta),
    ) -> Result<StreamMeta, StorageError> {
        let stream = self.meta().id;
        // Two at a time would wait for each other's lease as well. But the answers that they end with may come the other
        // way round: the older settings would be in force.
        let _one = self.changing.lock().await;
        let meta = meta::update(&self.context, &self.container, stream, change).await?;
        self.set_meta(meta.clone());
        Ok(meta)
    }

    /// Puts on record that retention deletes segments of the stream.
    async fn trim(&self) -> Result<(), StorageError> {
        if self.meta().trimmed {
            return Ok(());
        }
        self.update_meta(|meta| meta.trimmed = true).await.map(|_| ())
    }

    /// Puts on record that the stream has a segment.
    async fn begin(&self) -> Result<(), StorageError> {
        self.update_meta(|meta| meta.begun = true).await.map(|_| ())
    }
}
