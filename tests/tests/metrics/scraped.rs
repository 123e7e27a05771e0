//! A real Prometheus scrapes two servers and answers the questions of docs/metrics.md.

use serde_json::Value;
use vault_tests::access::{AccessFile, token, with_token};
use vault_tests::prometheus::Prometheus;
use vault_tests::replicas::{Replicas, free_port};
use vault_tests::server::{Setup, temporary_directory};
use vault_tests::wait::{LONG, until};

const DOCUMENTATION: &str = include_str!("../../../docs/metrics.md");

/// The expressions in a document: one a line, but for comments.
fn expressions() -> Vec<&'static str> {
    let blocks = DOCUMENTATION.split("```promql\n").skip(1).map(|block| block.split("```").next().unwrap());
    blocks.flat_map(str::lines).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[test]
fn prometheus_scrapes_with_a_token_what_the_token_may_read() {
    let directory = temporary_directory();
    let tokens = [token("scraper", &["orders:read"]), token("all", &["all:admin"])];
    let file = AccessFile::new(directory.path(), &format!("tokens:\n{}", tokens.concat()));
    let setup = || {
        Setup::at(&directory.path().join("vault"), &format!("127.0.0.1:{}", free_port()))
            .with(["--access".into(), file.path().into_os_string()])
    };
    let servers = [setup().start(), setup().start()];
    let post = |path: &str| {
        let headers = [("Authorization", &*with_token("all")), ("Content-Type", "text/plain")];
        servers[0].client().send("POST", path, &headers, Some(b"hello")).unwrap().status
    };
    until("a server leads", LONG, || (post("/streams/orders/messages") == 200).then_some(()));
    assert_eq!(post("/streams/secrets/messages"), 200);
    assert_eq!(post("/streams/orders/messages?expected_offset=0"), 412);

    let targets = servers.each_ref().map(|server| server.address().to_string());
    let prometheus = Prometheus::start(&format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
         scrape_configs:\n\
         - job_name: message-vault\n  \
           authorization: {{credentials: scraper-token}}\n  \
           static_configs: [{{targets: {targets:?}}}]\n"
    ));
    until("both servers were scraped", LONG, || {
        let up = prometheus.query("up == 1");
        (up.len() == 2).then_some(())
    });
    let one = |expression: &str| -> f64 {
        let found = prometheus.query(expression);
        assert_eq!(found.len(), 1, "{expression}: {found:?}");
        found[0].1
    };
    assert_eq!(one("sum(messagevault_leading)"), 1.0);
    assert_eq!(one("max(messagevault_stream_next_offset{stream=\"orders\"})"), 1.0);
    assert_eq!(one("sum(messagevault_appends_total)"), 2.0);
    assert_eq!(one("sum(messagevault_appends_refused_total{code=\"offset_mismatch\"})"), 1.0);
    assert_eq!(one("count(count by (version) (messagevault_build_info))"), 1.0);
    let streams = prometheus.query("count by (stream) ({stream!=\"\"})");
    let names: Vec<_> = streams.iter().map(|(labels, _)| labels["stream"].as_str().unwrap()).collect();
    assert_eq!(names, ["orders"], "the token may read one of the two streams");
    assert!(prometheus.query("up == 0").is_empty(), "{}", prometheus.log());
}

#[test]
fn the_questions_in_the_document_have_answers() {
    let directory = temporary_directory();
    let mut replicas = Replicas::in_directory(directory.path());
    let (leader, follower) = replicas.settled();
    let targets = replicas.addresses().map(|address| address.to_string());
    let prometheus = Prometheus::start(&format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
         scrape_configs:\n- job_name: message-vault\n  static_configs: [{{targets: {targets:?}}}]\n"
    ));
    let expressions = expressions();
    assert!(expressions.len() >= 5, "{expressions:?}");
    let containing = |part: &str| {
        *expressions.iter().find(|expression| expression.contains(part)).unwrap_or_else(|| panic!("{part}"))
    };
    let (producer, consumer) = (replicas.client(leader), replicas.client(follower));
    producer.append_text("orders", "hello");
    // The follower knows of one message, and of no more while nobody reads there.
    assert_eq!(consumer.read_all("orders").len(), 1);
    let latency = until("commits were scraped", LONG, || {
        for _ in 0..10 {
            producer.append_text("orders", "hello");
        }
        producer.post("/streams/orders/messages?expected_offset=0", "text/plain", b"x").expect(412);
        let found = prometheus.query(containing("histogram_quantile"));
        found.into_iter().find(|(_, seconds)| seconds.is_finite())
    });
    assert_eq!(latency.0["backend"], "file");
    assert!((0.0001..10.0).contains(&latency.1), "{latency:?}");
    let refused = until("refusals were scraped", LONG, || {
        producer.post("/streams/orders/messages?expected_offset=0", "text/plain", b"x").expect(412);
        prometheus.query(containing("messagevault_appends_refused_total")).pop()
    });
    assert_eq!(refused.0["code"], "offset_mismatch");
    let behind = until("the follower's lag was scraped", LONG, || {
        let address = Value::from(targets[follower].clone());
        let found = prometheus.query(containing("messagevault_stream_next_offset"));
        found.into_iter().find(|(labels, behind)| labels["instance"] == address && *behind > 0.0)
    });
    assert!(behind.1 >= 10.0 && behind.0["stream"] == "orders", "{behind:?}");
    for expression in &expressions {
        let _ = prometheus.query(expression);
    }
    let no_leader = containing("messagevault_leading");
    assert!(prometheus.query(no_leader).is_empty(), "one server leads");
    for index in [follower, leader] {
        replicas.server_mut(index).kill();
    }
    until("Prometheus tells that nobody leads", LONG, || {
        (prometheus.query(no_leader).len() == 1).then_some(())
    });
}
