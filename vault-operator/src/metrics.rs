//! What the operator counts, for Prometheus. Names and labels are described in `docs/metrics.md`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};
use vault_server::storage::operation::Operation;

use crate::conditions::State;

/// The states that resources are counted by.
const STATES: [&str; 4] = ["ready", "reconciling", "stalled", "paused"];

/// The kinds that resources are counted by.
const KINDS: [&str; 2] = ["MessageVault", "VaultStream"];

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    reconciles: IntCounterVec,
    durations: HistogramVec,
    resources: IntGaugeVec,
    storage: IntGaugeVec,
    leading: IntGaugeVec,
    /// The state that each resource was last found in, by its uid.
    states: Mutex<HashMap<String, (&'static str, &'static str)>>,
    /// What each open storage counts.
    requests: Mutex<Option<Arc<Requests>>>,
}

/// Requests to storage up to now, by operation.
pub type Requests = dyn Fn() -> BTreeMap<Operation, u64> + Send + Sync;

impl Metrics {
    /// Nothing was counted yet.
    ///
    /// # Errors
    ///
    /// Where two metrics have one name.
    pub fn new() -> prometheus::Result<Self> {
        let name = |name: &str| format!("messagevault_operator_{name}");
        let registry = Registry::new();
        let reconciles = IntCounterVec::new(
            Opts::new(
                name("reconciles_total"),
                "Reconciliations, by what the resource was found to be after them.",
            ),
            &["kind", "outcome"],
        )?;
        let durations = HistogramVec::new(
            HistogramOpts::new(name("reconcile_duration_seconds"), "How long a reconciliation took.")
                .buckets(vec![0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 120.0]),
            &["kind"],
        )?;
        let resources = IntGaugeVec::new(
            Opts::new(name("resources"), "Resources by the state that they were last found in."),
            &["kind", "state"],
        )?;
        let storage = IntGaugeVec::new(
            Opts::new(
                name("storage_requests"),
                "Requests to storage accounts since the storage was opened, by operation.",
            ),
            &["operation"],
        )?;
        let leading = IntGaugeVec::new(
            Opts::new(name("leading"), "1 while this operator works, 0 while another one does."),
            &[],
        )?;
        let build = IntGaugeVec::new(
            Opts::new(name("build_info"), "Always 1; the operator's version."),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        for kind in KINDS {
            for state in STATES {
                resources.with_label_values(&[kind, state]).set(0);
                reconciles.with_label_values(&[kind, state]);
            }
        }
        registry.register(Box::new(reconciles.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        registry.register(Box::new(resources.clone()))?;
        registry.register(Box::new(storage.clone()))?;
        registry.register(Box::new(leading.clone()))?;
        registry.register(Box::new(build))?;
        Ok(Self {
            registry,
            reconciles,
            durations,
            resources,
            storage,
            leading,
            states: Mutex::default(),
            requests: Mutex::default(),
        })
    }

    /// Counts a reconciliation.
    pub fn reconciled(&self, kind: &'static str, uid: &str, state: &State, took: Duration) {
        self.reconciles.with_label_values(&[kind, state.word()]).inc();
        self.durations.with_label_values(&[kind]).observe(took.as_secs_f64());
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.insert(uid.to_owned(), (kind, state.word()));
    }

    /// A resource is gone.
    pub fn gone(&self, uid: &str) {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Whether this operator works.
    pub fn set_leading(&self, leading: bool) {
        self.leading.with_label_values::<&str>(&[]).set(i64::from(leading));
    }

    /// Where requests to storage are counted.
    pub fn count_requests(&self, requests: Arc<Requests>) {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner) = Some(requests);
    }

    /// All of it, in Prometheus' text format.
    ///
    /// # Errors
    ///
    /// Where the encoder fails.
    pub fn text(&self) -> prometheus::Result<Vec<u8>> {
        let mut counts: HashMap<(&str, &str), i64> = HashMap::new();
        for at in self.states.lock().unwrap_or_else(PoisonError::into_inner).values() {
            *counts.entry(*at).or_default() += 1;
        }
        for kind in KINDS {
            for state in STATES {
                let count = counts.get(&(kind, state)).copied().unwrap_or(0);
                self.resources.with_label_values(&[kind, state]).set(count);
            }
        }
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (operation, count) in requests.map(|requests| requests()).unwrap_or_default() {
            self.storage
                .with_label_values(&[operation.as_str()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::Reason;

    #[test]
    fn resources_are_counted_by_the_state_that_they_are_in() {
        let metrics = Metrics::new().unwrap();
        let (ready, stalled) = (State::Ready(Reason::new("R", "")), State::Stalled(Reason::new("S", "")));
        metrics.reconciled("VaultStream", "a", &stalled, Duration::from_millis(5));
        metrics.reconciled("VaultStream", "a", &ready, Duration::from_millis(5));
        metrics.reconciled("VaultStream", "b", &ready, Duration::from_millis(5));
        metrics.reconciled("VaultStream", "c", &ready, Duration::from_millis(5));
        metrics.gone("c");
        let text = String::from_utf8(metrics.text().unwrap()).unwrap();
        for line in [
            "messagevault_operator_resources{kind=\"VaultStream\",state=\"ready\"} 2",
            "messagevault_operator_resources{kind=\"VaultStream\",state=\"stalled\"} 0",
            "messagevault_operator_resources{kind=\"MessageVault\",state=\"ready\"} 0",
            "messagevault_operator_reconciles_total{kind=\"VaultStream\",outcome=\"stalled\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
