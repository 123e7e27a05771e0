//! Contenders on an API server in memory, whose requests and answers are lost, delayed and refused.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::*;

/// The API server's store.
#[derive(Default)]
struct Store {
    lease: Mutex<(u64, Option<Lease>)>,
}

impl Store {
    fn with(spec: Option<LeaseSpec>) -> Arc<Self> {
        let store = Arc::new(Self::default());
        store.put(Lease { spec, ..Lease::default() });
        store
    }

    fn free() -> Arc<Self> {
        Self::with(None)
    }

    fn get(&self) -> Option<Lease> {
        self.lease.lock().unwrap().1.clone()
    }

    fn holder(&self) -> Option<String> {
        self.get()?.spec?.holder_identity
    }

    /// Writes as somebody who does not ask for the version.
    fn put(&self, mut lease: Lease) -> Lease {
        let mut held = self.lease.lock().unwrap();
        held.0 += 1;
        let uid = held.1.as_ref().and_then(|lease| lease.metadata.uid.clone());
        lease.metadata.uid = uid.or_else(|| Some(format!("uid-{}", held.0)));
        lease.metadata.resource_version = Some(held.0.to_string());
        held.1 = Some(lease.clone());
        lease
    }

    fn change(&self, change: impl FnOnce(&mut Lease)) {
        let mut lease = self.get().unwrap();
        change(&mut lease);
        self.put(lease);
    }

    fn delete(&self) {
        self.lease.lock().unwrap().1 = None;
    }
}

/// One contender's way to the store.
struct Line {
    store: Arc<Store>,
    env: Env,
    /// Nothing is answered, and nothing arrives.
    cut: AtomicBool,
    /// What is asked for is done, and not answered.
    mute: AtomicBool,
    forbidden: AtomicBool,
}

impl Line {
    fn new(store: &Arc<Store>, env: &Env) -> Arc<Self> {
        let no = || AtomicBool::new(false);
        Arc::new(Self { store: Arc::clone(store), env: env.clone(), cut: no(), mute: no(), forbidden: no() })
    }

    async fn answer<T>(&self, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        self.env.clock.sleep(Duration::from_millis(5)).await;
        if self.forbidden.load(Ordering::SeqCst) {
            return Err(Failure::Forbidden("no".to_owned()));
        }
        if self.cut.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        let done = work();
        if self.mute.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        self.env.clock.sleep(Duration::from_millis(5)).await;
        done
    }
}

#[async_trait]
impl Leases for Line {
    async fn read(&self) -> Result<Option<Lease>, Failure> {
        self.answer(|| Ok(self.store.get())).await
    }

    async fn make(&self, lease: &Lease) -> Result<Lease, Failure> {
        self.answer(|| match self.store.get() {
            Some(_) => Err(Failure::Conflict),
            None => Ok(self.store.put(lease.clone())),
        })
        .await
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, Failure> {
        self.answer(|| match self.store.get() {
            None => Err(Failure::Missing),
            Some(there) if there.metadata.resource_version != lease.metadata.resource_version => {
                Err(Failure::Conflict)
            }
            Some(_) => Ok(self.store.put(lease.clone())),
        })
        .await
    }
}

/// A contender, and its way to the store.
fn contender(store: &Arc<Store>, env: &Env, name: &str) -> (Contender, Arc<Line>) {
    let line = Line::new(store, env);
    (Contender::new(Arc::clone(&line) as Arc<dyn Leases>, env.clone(), name), line)
}

async fn take(contender: &Contender) -> Held {
    contender.take(&CancellationToken::new(), |_| {}).await.expect("nobody tells it to end")
}

/// The time at which something ends.
async fn timed<T>(env: &Env, work: impl Future<Output = T>) -> (T, Duration) {
    let begun = env.clock.monotonic();
    (work.await, env.clock.monotonic().saturating_sub(begun))
}

async fn sleep(env: &Env, seconds: f64) {
    env.clock.sleep(Duration::from_secs_f64(seconds)).await;
}

fn spec(holder: &str, seconds: Option<i32>, renewed: Option<i64>) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: seconds,
        renew_time: renewed.map(|second| MicroTime(Timestamp::from_second(second).unwrap())),
        ..LeaseSpec::default()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_free_is_taken_at_once_whatever_it_says() {
    for spec in [
        None,
        Some(LeaseSpec::default()),
        Some(spec("", Some(1), Some(0))),
        Some(LeaseSpec { lease_transitions: Some(i32::MAX), ..LeaseSpec::default() }),
    ] {
        let (env, store) = (Env::controlled(1), Store::with(spec));
        let (a, _) = contender(&store, &env, "a");
        let (_held, took) = timed(&env, take(&a)).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_eq!(store.holder().as_deref(), Some(a.identity()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_one_holds_is_waited_for_by_the_own_clock() {
    // Wall clocks that are hours apart, and fields that are missing, make no difference.
    for (seconds, renewed, wait) in [
        (Some(15), Some(0), 15.0),
        (Some(15), Some(4_000_000_000), 15.0),
        (None, None, 15.0),
        (Some(0), None, 15.0),
        (Some(-3), None, 15.0),
        (Some(40), None, 40.0),
    ] {
        let (env, store) = (Env::controlled(1), Store::with(Some(spec("other", seconds, renewed))));
        let (a, _) = contender(&store, &env, "other");
        let (_held, took) = timed(&env, take(&a)).await;
        assert!((wait..wait + 1.0).contains(&took.as_secs_f64()), "{seconds:?} {renewed:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_one_is_made_and_taken_once_nobody_can_hold_it_any_more() {
    let (env, store) = (Env::controlled(1), Arc::new(Store::default()));
    let (a, _) = contender(&store, &env, "a");
    let mut told = Vec::new();
    let stop = CancellationToken::new();
    let (held, took) = timed(&env, a.take(&stop, |trouble| told.push(trouble))).await;
    assert!(held.is_some());
    assert!((LEASE_ANEW..LEASE_ANEW + Duration::from_secs(1)).contains(&took), "{took:?}");
    assert!(told.iter().all(|told| told.as_ref().is_some_and(|why| why.contains("is new"))), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn of_many_at_once_one_gets_through_and_keeps_it() {
    let env = Env::controlled(1);
    for store in [Store::free(), Arc::new(Store::default())] {
        let stop = CancellationToken::new();
        let all: Vec<_> = (0..5).map(|_| contender(&store, &env, "same").0).collect();
        let taking = all.into_iter().map(|contender| {
            let stop = stop.clone();
            tokio::spawn(async move { contender.take(&stop, |_| {}).await })
        });
        let taking: Vec<_> = taking.collect();
        sleep(&env, 100.0).await;
        stop.cancel();
        let mut held = Vec::new();
        for taking in taking {
            held.extend(taking.await.unwrap());
        }
        assert_eq!(held.len(), 1);
        assert!(held[0].tenure().lasts(), "it is renewed");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_cut_off_stops_before_another_one_begins() {
    for cut_at in [0.001, 1.0, 2.999, 3.003, 3.007, 17.5] {
        for mute in [false, true] {
            let (env, store) = (Env::controlled(1), Store::free());
            let ((a, line), (b, _)) = (contender(&store, &env, "a"), contender(&store, &env, "b"));
            let mut held = take(&a).await;
            let tenure = held.tenure();
            let (alive, worked) = (env.clone(), Arc::new(Mutex::new(Duration::ZERO)));
            let work = {
                let worked = Arc::clone(&worked);
                async move {
                    loop {
                        *worked.lock().unwrap() = alive.clock.monotonic();
                        alive.clock.sleep(Duration::from_millis(10)).await;
                    }
                }
            };
            let working = tokio::spawn(async move { tenure.during::<()>(work).await });
            let next = tokio::spawn(async move { (take(&b).await, b) });
            sleep(&env, cut_at).await;
            let cut = env.clock.monotonic();
            (if mute { &line.mute } else { &line.cut }).store(true, Ordering::SeqCst);
            let lost = held.lost().await;
            assert!(matches!(lost, Lost::Silent { failure: Failure::NoAnswer(_) }), "{lost:?}");
            let stopped = env.clock.monotonic();
            assert!(stopped - cut <= LEASE - LEASE_GRACE, "{:?}", stopped - cut);
            assert_eq!(working.await.unwrap(), None, "it was dropped");
            held.stop_work().await;
            let (_held, _b) = next.await.unwrap();
            let began = env.clock.monotonic();
            assert!(began >= stopped + LEASE_GRACE, "{:?}", began - stopped);
            // What it sent unheard was written, until it stopped.
            let last = if mute { stopped } else { cut };
            assert!(began - last < LEASE + LEASE_LOOK_EVERY + LEASE_RETRY, "{:?}", began - last);
            assert!(*worked.lock().unwrap() <= stopped);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_silence_is_got_over() {
    let (env, store) = (Env::controlled(1), Store::free());
    let (a, line) = contender(&store, &env, "a");
    let held = take(&a).await;
    for flag in [&line.cut, &line.mute, &line.forbidden] {
        sleep(&env, 2.0).await;
        flag.store(true, Ordering::SeqCst);
        sleep(&env, 5.0).await;
        flag.store(false, Ordering::SeqCst);
        sleep(&env, 20.0).await;
        assert!(held.tenure().lasts());
    }
    assert_eq!(store.holder().as_deref(), Some(a.identity()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_does_not_lose_the_lease() {
    let (env, store) = (Env::controlled(1), Store::free());
    let (a, line) = contender(&store, &env, "a");
    line.mute.store(true, Ordering::SeqCst);
    let taking = tokio::spawn(async move { take(&a).await });
    sleep(&env, 3.1).await;
    line.mute.store(false, Ordering::SeqCst);
    // What it sent second came through unheard, and it looks on.
    let held =
        env.timeout(Duration::from_secs(10), taking).await.expect("it finds that it is its own").unwrap();
    assert!(held.tenure().lasts());
}

#[tokio::test(start_paused = true)]
async fn a_label_is_no_reason_to_end() {
    let (env, store) = (Env::controlled(1), Store::free());
    let (a, _) = contender(&store, &env, "a");
    let held = take(&a).await;
    for round in 0..20 {
        store.change(|lease| {
            let labels = lease.metadata.labels.get_or_insert_default();
            labels.insert("round".to_owned(), round.to_string());
        });
        sleep(&env, 1.3).await;
        assert!(held.tenure().lasts());
    }
    let labels = store.get().unwrap().metadata.labels.unwrap();
    assert_eq!(labels.get("round").map(String::as_str), Some("19"), "and it stays");
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_ends_its_holder_before_another_one_begins() {
    for cut in [false, true] {
        let (env, store) = (Env::controlled(1), Store::free());
        let ((a, line), (b, _)) = (contender(&store, &env, "a"), contender(&store, &env, "b"));
        let mut held = take(&a).await;
        let next = tokio::spawn(async move { take(&b).await });
        sleep(&env, 4.0).await;
        line.cut.store(cut, Ordering::SeqCst);
        store.delete();
        let lost = held.lost().await;
        // Another contender may have made a new one meanwhile.
        assert!(cut || lost == Lost::Deleted || lost == Lost::Taken(SOMEBODY.to_owned()), "{lost:?}");
        assert!(!held.tenure().lasts() && !next.is_finished());
        next.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_away_ends_its_holder() {
    for (holder, says) in
        [(Some("other"), "held by other"), (Some(""), "held by nobody"), (None, "held by nobody")]
    {
        let (env, store) = (Env::controlled(1), Store::free());
        let (a, _) = contender(&store, &env, "a");
        let mut held = take(&a).await;
        sleep(&env, 4.0).await;
        store.change(|lease| lease.spec.as_mut().unwrap().holder_identity = holder.map(str::to_owned));
        let (lost, after) = timed(&env, held.lost()).await;
        assert!(lost.to_string().contains(says), "{lost}");
        assert!(after < LEASE_RENEW_EVERY + Duration::from_secs(1) && !held.tenure().lasts());
        assert_ne!(store.holder().as_deref(), Some(a.identity()), "and is left alone");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_is_taken_within_two_seconds() {
    let (env, store) = (Env::controlled(1), Store::free());
    let ((a, _), (b, _)) = (contender(&store, &env, "a"), contender(&store, &env, "b"));
    let held = take(&a).await;
    let next = tokio::spawn(async move { take(&b).await });
    sleep(&env, 20.3).await;
    assert!(!next.is_finished());
    held.stop_work().await;
    held.give_back().await.unwrap();
    let (_held, took) = timed(&env, next).await;
    assert!(took <= LEASE_LOOK_EVERY + Duration::from_millis(100), "{took:?}");
    assert_eq!(store.get().unwrap().spec.unwrap().lease_transitions, Some(2));
}

#[tokio::test(start_paused = true)]
async fn missing_rights_are_told_of_and_tried_again() {
    let (env, store) = (Env::controlled(1), Store::free());
    let (a, line) = contender(&store, &env, "a");
    line.forbidden.store(true, Ordering::SeqCst);
    let told = Arc::new(Mutex::new(None));
    let taking = {
        let told = Arc::clone(&told);
        let stop = CancellationToken::new();
        tokio::spawn(async move { a.take(&stop, |trouble| *told.lock().unwrap() = trouble).await.is_some() })
    };
    sleep(&env, 30.0).await;
    let why = told.lock().unwrap().clone().unwrap();
    assert!(why.contains("needs the Role that lets it get, create and update its Lease"), "{why}");
    line.forbidden.store(false, Ordering::SeqCst);
    assert!(taking.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn work_that_slept_past_its_time_does_no_further_step() {
    let env = Env::controlled(1);
    let tenure = Tenure {
        env: env.clone(),
        until: Arc::new(AtomicU64::new(nanoseconds(Duration::from_secs(10)))),
        over: CancellationToken::new(),
        work: TaskTracker::new(),
    };
    let (woken, steps) = (Arc::new(tokio::sync::Notify::new()), Arc::new(AtomicU64::new(0)));
    let work = {
        let (woken, steps) = (Arc::clone(&woken), Arc::clone(&steps));
        async move {
            loop {
                woken.notified().await;
                steps.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    let held = tenure.clone();
    let working = tokio::spawn(async move { held.during::<()>(work).await });
    for (second, steps_then) in [(9, 1), (12, 1)] {
        sleep(&env, (Duration::from_secs(second) - env.clock.monotonic()).as_secs_f64()).await;
        // Nobody has said that it is over: the clock does.
        woken.notify_one();
        sleep(&env, 0.001).await;
        assert_eq!(steps.load(Ordering::SeqCst), steps_then, "{second}");
    }
    assert_eq!(working.await.unwrap(), None);
}

/// Whatever happens to messages, to the Lease and to operators: there are never two that work.
#[tokio::test(start_paused = true)]
async fn never_do_two_work_at_once() {
    let mut handovers = 0;
    for seed in 0..60 {
        let (env, store) = (Env::controlled(seed), Arc::new(Store::default()));
        let dice = |sides: u64| {
            let mut bytes = [0; 8];
            env.entropy.fill(&mut bytes);
            u64::from_le_bytes(bytes) % sides
        };
        let working = Arc::new(Mutex::new(Vec::<Tenure>::new()));
        let (mut lines, mut stops, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for name in ["a", "b", "c"] {
            let line = Line::new(&store, &env);
            let stop = Arc::new(Mutex::new(CancellationToken::new()));
            lines.push(Arc::clone(&line));
            stops.push(Arc::clone(&stop));
            let (env, working) = (env.clone(), Arc::clone(&working));
            all.push(tokio::spawn(async move {
                loop {
                    // One that ended is started again, as somebody else.
                    let told = stop.lock().unwrap().clone();
                    let contender = Contender::new(Arc::clone(&line) as Arc<dyn Leases>, env.clone(), name);
                    let Some(mut held) = contender.take(&told, |_| {}).await else {
                        *stop.lock().unwrap() = CancellationToken::new();
                        continue;
                    };
                    working.lock().unwrap().push(held.tenure());
                    tokio::select! {
                        _ = held.lost() => continue,
                        () = told.cancelled() => {}
                    }
                    *stop.lock().unwrap() = CancellationToken::new();
                    held.stop_work().await;
                    let _ = held.give_back().await;
                }
            }));
        }
        for _ in 0..400 {
            let line = &lines[usize::try_from(dice(3)).unwrap()];
            match dice(40) {
                0..8 => line.cut.fetch_xor(true, Ordering::SeqCst),
                8..14 => line.mute.fetch_xor(true, Ordering::SeqCst),
                14 => {
                    store.delete();
                    false
                }
                15 => {
                    stops[usize::try_from(dice(3)).unwrap()].lock().unwrap().cancel();
                    false
                }
                _ => false,
            };
            sleep(&env, dice(2_000) as f64 / 1_000.0).await;
            let mut working = working.lock().unwrap();
            let before = working.len();
            working.retain(Tenure::lasts);
            handovers += before - working.len();
            assert!(working.len() <= 1, "seed {seed}: {} work", working.len());
        }
        for task in all {
            task.abort();
        }
    }
    assert!(handovers > 60, "it was put to the test: {handovers}");
}
