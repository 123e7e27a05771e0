//! `/metrics` of the real program: held against its document, against Prometheus' own checker, and scraped by Prometheus.
#![expect(clippy::unwrap_used, reason = "a test that finds what it needs missing has failed")]

mod checked;
mod documented;
mod exposition;
mod scraped;

use vault_tests::client::Client;
use vault_tests::replicas::Replicas;

/// A leader and a follower that have done a little of everything, and their metrics.
fn busy(replicas: &Replicas) -> [String; 2] {
    let (leader, follower) = replicas.settled();
    let (leader, follower) = (replicas.client(leader), replicas.client(follower));
    leader.append_text("orders", "hello");
    follower.append_text("orders", "handed on");
    leader.post("/streams/orders/messages?expected_offset=9", "text/plain", b"x").expect(412);
    assert_eq!(leader.read_all("orders").len(), 2);
    assert_eq!(follower.read_all("orders").len(), 2);
    let _ = leader.get("/no/such/route").expect(404);
    [metrics(&leader), metrics(&follower)]
}

fn metrics(client: &Client) -> String {
    String::from_utf8(client.get_as("/metrics", "text/plain").expect(200).body).unwrap()
}
