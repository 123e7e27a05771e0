//! Of several operators one works, whatever becomes of the others.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use vault_tests::kubernetes::Gate;
use vault_tests::kubernetes::process::{Process, text};
use vault_tests::operator::{Field, LEASE, SETTLES, STREAM, VAULT};
use vault_tests::wait::until;

use crate::common::{Containers, touch};

/// How long the Lease lasts.
const LASTS: Duration = Duration::from_secs(15);

/// How long an operator works that can renew it no more.
const WORKS: Duration = Duration::from_secs(10);

/// How much later something may be seen on a machine that is busy with other tests.
const BUSY: Duration = Duration::from_secs(5);

/// What an operator says when it begins to work.
const BEGINS: &str = "this operator works";

/// A further operator.
struct Further {
    process: Process,
    log: PathBuf,
}

impl Further {
    fn start(field: &Field, name: &str, command: Command) -> Self {
        let log = field.cluster.path(&format!("{name}-{}.log", field.namespace));
        let process = Process::start(command, &log).unwrap();
        let started = Self { process, log };
        until("the operator waits for the Lease", SETTLES, || started.says("waiting for the Lease"));
        started
    }

    fn says(&self, what: &str) -> Option<()> {
        text(&self.log).contains(what).then_some(())
    }

    fn until_it_works(&self) {
        until("the operator takes over", SETTLES, || self.says(BEGINS));
    }

    /// Waits until it ends by itself, having said that it works no more.
    fn until_it_gives_up(&mut self, why: &str) {
        let ended = until("the operator ends", SETTLES, || self.process.ended());
        let said = text(&self.log);
        assert_eq!(ended.code(), Some(1), "{said}");
        let last = said.trim_end().lines().last().unwrap_or_default();
        assert!(last.contains("the operator has stopped working") && last.contains(why), "{said}");
    }
}

/// The command of an operator that reaches the API server by a gate.
fn through(gate: &Gate, field: &Field) -> Command {
    let mut command = field.command();
    command.env("KUBECONFIG", field.kubeconfig_by(gate.port()));
    command
}

/// An operator that works and reaches the API server by a gate, with a vault and a stream. It looks at containers all the
/// time, and needs no API server for that.
fn behind_a_gate(field: &Field) -> (Gate, Further) {
    let gate = Gate::to(field.cluster.port());
    let mut command = through(&gate, field);
    command.args(["--look-every", "1s"]);
    let first = Further::start(field, "first", command);
    first.until_it_works();
    vault(field);
    (gate, first)
}

/// A vault and a stream beside it, ready.
fn vault(field: &Field) {
    let mut spec = field.vault(&field.prefix());
    spec["replicas"] = json!(1);
    field.apply(VAULT, "events", &spec);
    field.apply(STREAM, "till", &json!({"vaultRef": {"name": "events"}}));
    field.until_ready(VAULT, "events");
    field.until_ready(STREAM, "till");
}

#[test]
fn a_standby_takes_over_at_once_after_an_orderly_end_and_soon_after_a_crash() {
    let mut field = Field::new().start();
    vault(&field);
    let mut second = Further::start(&field, "second", field.command());
    assert!(field.ask("/metrics").unwrap().1.contains("messagevault_operator_leading 1"));
    // Longer than the Lease lasts.
    std::thread::sleep(LASTS + Duration::from_secs(3));
    assert!(second.says(BEGINS).is_none(), "{}", text(&second.log));

    let killed = Instant::now();
    field.operator().kill();
    second.until_it_works();
    assert!(killed.elapsed() > WORKS, "{:?}", killed.elapsed());
    assert!(killed.elapsed() < LASTS + Duration::from_secs(2) + BUSY, "{:?}", killed.elapsed());
    touch(&field, "events", "second");
    field.until_ready(VAULT, "events");

    let third = Further::start(&field, "third", field.command());
    let told = Instant::now();
    second.process.signal(Signal::TERM);
    third.until_it_works();
    assert!(told.elapsed() < Duration::from_secs(2) + BUSY, "{:?}", told.elapsed());
    assert_eq!(until("the second ends", SETTLES, || second.process.ended()).code(), Some(0));
    assert!(second.says("the Lease is given back").is_some(), "{}", text(&second.log));
    touch(&field, "events", "third");
    field.until_ready(VAULT, "events");
    let lease = field.get("Lease", LEASE).unwrap();
    assert_eq!(
        (&lease["spec"]["leaseTransitions"], &lease["spec"]["leaseDurationSeconds"]),
        (&json!(3), &json!(15))
    );
}

#[test]
fn an_operator_that_is_cut_off_ends_before_another_one_begins() {
    let field = Field::new();
    let (gate, mut first) = behind_a_gate(&field);
    let second = Further::start(&field, "second", field.command());
    let cut = Instant::now();
    gate.shut();
    first.until_it_gives_up("the Lease was not renewed for 10 s");
    let ended = cut.elapsed();
    assert!(second.says(BEGINS).is_none(), "{}", text(&second.log));
    assert!(ended < WORKS + BUSY, "{ended:?}");
    second.until_it_works();
    assert!(
        cut.elapsed() > ended && cut.elapsed() < LASTS + Duration::from_secs(3) + BUSY,
        "{:?}",
        cut.elapsed()
    );
    touch(&field, "events", "second");
    field.until_ready(VAULT, "events");
}

#[test]
fn an_operator_that_slept_for_long_changes_nothing_when_it_wakes() {
    let field = Field::new();
    let (gate, mut first) = behind_a_gate(&field);
    let containers = Containers::of(&field, &field.prefix());
    let retention = || containers.meta("till").unwrap().settings.retention_seconds;
    // So it does while it is awake.
    containers.change("till", |meta| meta.settings.retention_seconds = Some(1_000));
    until("the container is put right", SETTLES, || retention().is_none().then_some(()));

    let second = Further::start(&field, "second", field.command());
    first.process.signal(Signal::STOP);
    // The first one does not hear of this, the second one does.
    for (kind, name) in [(VAULT, "events"), (STREAM, "till")] {
        field.annotate(kind, name, "messagevault.io/paused", Some("true"));
    }
    second.until_it_works();
    field.until_condition(STREAM, "till", "Paused", "True");
    containers.change("till", |meta| meta.settings.retention_seconds = Some(2_000));
    // Nobody tells it that another one works now.
    gate.shut();
    first.process.signal(Signal::CONT);
    first.until_it_gives_up("the Lease");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(retention(), Some(2_000), "{}", text(&first.log));
    assert!(field.get("Lease", LEASE).unwrap()["spec"]["holderIdentity"].is_string());
}

#[test]
fn a_lease_that_is_taken_away_or_deleted_ends_its_operator() {
    let field = Field::new();
    let mut first = Further::start(&field, "first", field.command());
    first.until_it_works();
    // Fields that others have there stay.
    field.patch("Lease", LEASE, &json!({"metadata": {"labels": {"a": "b"}}}));
    std::thread::sleep(Duration::from_secs(5));
    assert!(first.process.ended().is_none(), "{}", text(&first.log));
    field.patch("Lease", LEASE, &json!({"spec": {"holderIdentity": "somebody"}}));
    first.until_it_gives_up("the Lease is held by somebody now");
    let lease = field.get("Lease", LEASE).unwrap();
    assert_eq!(
        (&lease["spec"]["holderIdentity"], &lease["metadata"]["labels"]["a"]),
        (&json!("somebody"), &json!("b"))
    );

    let mut second = Further::start(&field, "second", field.command());
    second.until_it_works();
    let third = Further::start(&field, "third", field.command());
    let deleted = Instant::now();
    field.delete("Lease", LEASE);
    second.until_it_gives_up("the Lease");
    assert!(third.says(BEGINS).is_none(), "{}", text(&third.log));
    third.until_it_works();
    assert!(deleted.elapsed() > WORKS, "{:?}", deleted.elapsed());
}

#[test]
fn without_rights_or_a_lease_it_says_what_it_waits_for() {
    let mut field = Field::new();
    field.delete("Lease", LEASE);
    let cluster = field.cluster.clone();
    let namespace = format!("--namespace={}", field.namespace);
    let binding = "rolebinding/message-vault-operator-lease";
    let kept = cluster.kubectl(["get", binding, "--output=json", &namespace]).expect(0).out;
    let _ = cluster.kubectl(["delete", binding, &namespace]).expect(0);
    field.launch_operator(field.command());
    let says = |field: &Field, what: &str| {
        until(&format!("it says that {what}"), SETTLES, || {
            let (status, body) = field.ask("/readyz").unwrap();
            (status == 503 && body.contains(what)).then_some(())
        });
    };
    says(&field, "the operator needs the Role that lets it get, create and update its Lease");
    let _ = cluster.kubectl_in(&String::from_utf8_lossy(&kept), ["apply", "--filename=-"]).expect(0);
    says(&field, "the Lease is new");
    until("it is ready", SETTLES, || (field.ask("/readyz").unwrap().0 == 200).then_some(()));
    let holder = field.get("Lease", LEASE).unwrap()["spec"]["holderIdentity"].clone();
    assert!(holder.as_str().unwrap().starts_with("vault-operator_"), "{holder}");
    assert_eq!(field.stop_operator(), Some(0), "{}", field.log());
    assert!(field.get("Lease", LEASE).unwrap()["spec"]["holderIdentity"].is_null());
}

#[test]
fn an_api_server_that_does_not_answer_at_the_start_is_waited_for() {
    let mut field = Field::new();
    let gate = Gate::to(field.cluster.port());
    gate.shut();
    field.launch_operator(through(&gate, &field));
    until("it says so", SETTLES, || {
        let (status, body) = field.ask("/readyz").unwrap();
        (status == 503 && body.contains("the resources cannot be listed")).then_some(())
    });
    gate.open();
    until("it is ready", SETTLES, || (field.ask("/readyz").unwrap().0 == 200).then_some(()));
    vault(&field);
}
