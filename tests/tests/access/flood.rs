//! Wrong passwords in a flood.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use vault_tests::access::{as_user, basic, user};
use vault_tests::wait::{StopAtEnd, alone};

use super::{Guarded, ask};

/// What OWASP asks of argon2id: 19 MiB, twice.
const REAL: u32 = 19 << 10;

/// How long the flood lasts.
const FLOOD: Duration = Duration::from_secs(5);

/// A server that verified every wrong password at once would need a gigabyte and more.
const MEMORY: u64 = 200 << 20;

#[test]
fn a_flood_of_wrong_passwords_harms_no_good_client() {
    let _alone = alone();
    let guarded = Guarded::start(&format!(
        "users:\n{}{}",
        user("shop", REAL, &["orders:write"]),
        user("late", REAL, &["orders:read"])
    ));
    let client = guarded.client();
    ask(&client, &as_user("shop"), "POST", "/streams/orders/messages").expect(200);
    let (stop, busy, wrong) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let slowest = std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        for guesser in 0..64 {
            let (guarded, stop, busy, wrong) = (&guarded, &stop, &busy, &wrong);
            let client = guarded.client();
            scope.spawn(move || {
                let mut guess = 0;
                while !stop.load(Ordering::Relaxed) {
                    let name = ["shop", "nobody"][guess % 2];
                    let answer = ask(&client, &basic(name, &format!("{guesser} {guess}")), "GET", "/");
                    match answer.status {
                        401 => wrong.fetch_add(1, Ordering::Relaxed),
                        429 => {
                            assert!(answer.headers.contains_key("retry-after"));
                            // As such clients do.
                            std::thread::sleep(Duration::from_millis(20));
                            busy.fetch_add(1, Ordering::Relaxed)
                        }
                        status => panic!("{status}"),
                    };
                    guess += 1;
                }
            });
        }
        let (began, mut slowest) = (Instant::now(), Duration::ZERO);
        while began.elapsed() < FLOOD {
            let asked = Instant::now();
            ask(&client, &as_user("shop"), "POST", "/streams/orders/messages").expect(200);
            slowest = slowest.max(asked.elapsed());
        }
        // Somebody who comes now, and was never seen before, gets a turn as well.
        ask(&client, &as_user("late"), "GET", "/streams/orders/messages").expect(200);
        slowest
    });
    let (busy, wrong) = (busy.into_inner(), wrong.into_inner());
    assert!(busy > 0 && wrong > 0, "{busy} {wrong}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let (_, most) = guarded.server.resident_bytes();
    assert!(most < MEMORY, "{most}");
    let log = guarded.server.log();
    let told =
        log.lines().filter(|line| line.contains("audit: refused") && !line.contains("left_out")).count();
    assert!((1..=100).contains(&told), "{told} of {wrong} refusals are told one by one");
}
