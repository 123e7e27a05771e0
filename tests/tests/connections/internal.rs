//! The second listener, for whoever watches over the server.

use vault_tests::client::Client;
use vault_tests::replicas::free_port;
use vault_tests::server::{Setup, temporary_directory};

#[test]
fn status_and_metrics_move_to_the_internal_listener() {
    let directory = temporary_directory();
    let port = free_port();
    let internal = format!("127.0.0.1:{port}");
    let mut server =
        Setup::in_directory(directory.path()).with(["--internal-listen", internal.as_str()]).start();
    let (clients, internal) = (server.client(), Client::new(internal.parse().unwrap()));
    for path in ["/livez", "/readyz"] {
        assert_eq!((clients.get(path).status, internal.get(path).status), (200, 200), "{path}");
    }
    assert_eq!(internal.get("/status").expect(200).json()["role"], "leader");
    let _ = internal.get("/metrics").expect(200);
    for path in ["/status", "/metrics"] {
        clients.get(path).expect_problem(404, "no_such_route");
    }
    for path in ["/streams/orders", "/streams/orders/messages", "/"] {
        internal.get(path).expect_problem(404, "no_such_route");
    }
    assert_eq!(clients.append_text("orders", "hello").first_offset, 0);
    assert_eq!(internal.get("/streams").expect(200).json()["streams"][0]["next_offset"], 1);
    let found = internal.post("/refresh", "text/plain", b"").expect(200).json();
    assert_eq!((&found["role"], &found["streams"]), (&"leader".into(), &1.into()));
    clients.post("/refresh", "text/plain", b"").expect_problem(404, "no_such_route");
    server.stop_in_order();
}

#[test]
fn a_port_in_use_is_named() {
    let directory = temporary_directory();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let setup = Setup::in_directory(directory.path()).with(["--internal-listen", address.as_str()]);
    let (code, errors) = setup.run_to_end(std::time::Duration::from_secs(20));
    assert_eq!(code, Some(1));
    assert!(
        errors.contains(&format!("cannot listen on {address}; choose another --internal-listen")),
        "{errors}"
    );
}
