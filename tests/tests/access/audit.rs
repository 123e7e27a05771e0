//! The audit log.

use vault_tests::access::{as_user, token, user, with_token};
use vault_tests::wait::{LONG, until};

use super::{CHEAP, Guarded, SOON, ask, setup};

fn file() -> String {
    format!("users:\n{}tokens:\n{}", user("shop", CHEAP, &["orders:write"]), token("admin", &["all:admin"]))
}

/// The lines of the audit log that hold all these parts.
fn told(log: &str, parts: &[&str]) -> Vec<String> {
    let fits = |line: &&str| line.contains("audit: ") && parts.iter().all(|part| line.contains(part));
    log.lines().filter(fits).map(str::to_owned).collect()
}

#[test]
fn it_tells_who_did_what_from_where_whatever_else_is_logged() {
    let folder = vault_tests::server::temporary_directory();
    let file = vault_tests::access::AccessFile::new(folder.path(), &file());
    let server = setup(&folder, &file).with(["--log", "error"]).start();
    let client = server.client();
    let admin = with_token("admin");
    ask(&client, &admin, "PUT", "/streams/orders").expect(201);
    ask(&client, &admin, "PATCH", "/streams/orders").expect(200);
    ask(&client, &as_user("shop"), "POST", "/streams/orders/messages").expect(200);
    ask(&client, &as_user("shop"), "DELETE", "/streams/orders").expect(403);
    ask(&client, &admin, "DELETE", "/streams/orders").expect(204);
    ask(&client, &admin, "DELETE", "/streams/orders").expect(404);
    ask(&client, "Bearer rubbish", "GET", "/streams/orders").expect(401);
    // Now it is an append that creates the stream. All but one find it made, and have nothing to tell.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let client = server.client();
            scope.spawn(move || {
                ask(&client, &as_user("shop"), "POST", "/streams/orders/messages").expect(200)
            });
        }
    });
    for (parts, count) in [
        (
            &["carried out", "token admin", "127.0.0.1:", "PUT /streams/{stream}", "orders", "201"]
                as &[&str],
            1,
        ),
        (&["carried out", "token admin", "PATCH", "200"], 1),
        (&["carried out", "DELETE", "204"], 1),
        (&["carried out", "DELETE", "404"], 1),
        (&["refused", "user shop", "127.0.0.1:", "DELETE", "orders", "403"], 1),
        (&["refused", "GET /streams/{stream}", "orders", "401"], 1),
        (&["carried out", "user shop", "127.0.0.1:", "POST", "creating the stream", "orders", "201"], 1),
        (&["carried out"], 5),
        (&["refused"], 2),
        (&["POST"], 1),
    ] {
        // The log is read by another thread.
        until(&format!("{parts:?} is told {count} times"), LONG, || {
            (told(&server.log(), parts).len() == count).then_some(())
        });
    }
    let log = server.log();
    assert!(!log.contains("rubbish") && !log.contains("admin-token"), "{log}");
}

#[test]
fn who_names_it_in_the_filter_decides() {
    let folder = vault_tests::server::temporary_directory();
    let file = vault_tests::access::AccessFile::new(folder.path(), &file());
    let mut server = setup(&folder, &file).with(["--log", "info,audit=off"]).start();
    ask(&server.client(), &with_token("admin"), "PUT", "/streams/orders").expect(201);
    server.stop_in_order();
    assert!(told(&server.log(), &[]).is_empty(), "{}", server.log());
}

#[test]
fn a_flood_of_refusals_is_counted() {
    let guarded = Guarded::start(&file());
    let client = guarded.client();
    for _ in 0..100 {
        ask(&client, "Bearer rubbish", "GET", "/").expect(401);
    }
    let left_out = until("those left out are counted", 3 * SOON, || {
        told(&guarded.server.log(), &["left_out"]).first().cloned()
    });
    assert!(left_out.contains("left_out=80") || left_out.contains("left_out: 80"), "{left_out}");
    assert_eq!(told(&guarded.server.log(), &["refused", "401"]).len(), 20);
}
