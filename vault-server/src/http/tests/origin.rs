//! Requests that browsers send for pages of other sites.

use super::*;
use crate::http::app::HttpSettings;
use crate::http::origin;

/// Whether a request with these headers is taken; `to` is its URI.
fn taken(settings: &HttpSettings, method: &str, to: &str, headers: &[(&str, &str)]) -> bool {
    let mut request = Request::builder().method(method).uri(to);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    origin::check(settings, &request.body(()).unwrap().into_parts().0).is_ok()
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let server = server().await;
    let own = ("host", "localhost:8480");
    let foreign = [
        vec![own, ("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")],
        vec![own, ("origin", "http://evil.example")],
        vec![own, ("sec-fetch-site", "cross-site")],
        vec![own, ("sec-fetch-site", "same-site")],
        vec![own, ("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
        vec![own, ("origin", "null")],
        vec![own, ("origin", "http://localhost:8481")],
        vec![own, ("origin", "file://localhost:8480")],
        vec![own, ("origin", "http://localhost:8480"), ("origin", "http://evil.example")],
        vec![own, ("origin", "")],
    ];
    for headers in foreign {
        let problem = server.post_with(&[&[("content-type", TEXT)], &headers[..]].concat(), "x").await;
        assert_eq!(problem.problem(403, "cross_site")["side_effects"], "none", "{headers:?}");
        for method in ["PUT", "PATCH", "DELETE"] {
            assert!(!taken(&server.app.settings, method, "/streams/s", &headers), "{method} {headers:?}");
        }
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert!(taken(&server.app.settings, method, "/streams/s", &headers), "{method} {headers:?}");
        }
    }
    server.get("/streams/s").await.problem(404, "stream_not_found");
    for headers in [
        vec![],
        vec![own],
        vec![own, ("sec-fetch-site", "none")],
        vec![own, ("origin", "http://localhost:8480"), ("sec-fetch-site", "same-origin")],
        vec![own, ("origin", "HTTPS://LOCALHOST:8480")],
        vec![("host", "localhost"), ("origin", "https://localhost")],
        vec![("host", "localhost:443"), ("origin", "https://localhost")],
        vec![own, ("origin", "http://127.0.0.1:8480")],
    ] {
        server.post_with(&[&[("content-type", TEXT)], &headers[..]].concat(), "x").await.is(200);
    }
}

#[tokio::test]
async fn the_advertised_origin_counts_with_its_scheme() {
    let server = server().await;
    let advertise = "https://vault.example".to_owned();
    let settings = HttpSettings { advertise, local_names_only: false, ..server.app.settings.clone() };
    for (origin, good) in [
        ("https://vault.example", true),
        ("https://vault.example:443", true),
        ("http://vault.example", false),
        ("https://vault.example:8480", false),
        ("https://vault.example.evil.example", false),
        ("http://inside:8480", true),
    ] {
        let headers = [("host", "inside:8480"), ("origin", origin)];
        assert_eq!(taken(&settings, "POST", "/streams/s/messages", &headers), good, "{origin}");
    }
}

#[tokio::test]
async fn on_loopback_where_nobody_is_asked_a_name_must_be_local() {
    let server = server().await;
    let advertise = "http://vault.example:8480".to_owned();
    let settings = HttpSettings { advertise, ..server.app.settings.clone() };
    let everywhere = HttpSettings { local_names_only: false, ..settings.clone() };
    for (host, good) in [
        ("localhost", true),
        ("LocalHost:1", true),
        ("localhost.:8480", true),
        ("a.localhost:8480", true),
        ("127.0.0.1:8480", true),
        ("127.9.8.7", true),
        ("[::1]:8480", true),
        ("vault.example", true),
        ("Vault.Example:9", true),
        ("", true),
        ("evil.example:8480", false),
        ("evil-localhost", false),
        ("localhost.evil.example", false),
        ("127.0.0.1.evil.example", false),
        ("localhost@evil.example", false),
        ("0.0.0.0:8480", false),
        ("192.168.1.2", false),
        ("[fe80::1]", false),
        ("two words", false),
    ] {
        for method in ["GET", "POST"] {
            // What only a page of the rebound name itself can add does not help it.
            let headers = [("host", host), ("message-vault-forwarded", "1")];
            assert_eq!(taken(&settings, method, "/streams/s/messages", &headers), good, "{host}");
            assert!(taken(&everywhere, method, "/streams/s/messages", &headers), "{host}");
        }
    }
    // HTTP/2 says it in the URI.
    assert!(!taken(&settings, "GET", "http://evil.example/streams", &[]));
    assert!(!taken(&settings, "GET", "http://evil.example/streams", &[("host", "localhost")]));
    assert!(!taken(&settings, "GET", "http://localhost/streams", &[("host", "evil.example")]));
    assert!(taken(&settings, "GET", "http://localhost:8480/streams", &[]));
}

#[tokio::test]
async fn a_rebound_name_is_refused_everywhere_but_at_the_probes() {
    let server = server().await;
    let get =
        |path: &str| Request::get(path).header("host", "evil.example:8480").body(Body::empty()).unwrap();
    for path in ["/", "/status", "/openapi.json", "/streams", "/streams/s/messages", "/no/such/route"] {
        server.send(get(path)).await.problem(403, "cross_site");
    }
    for path in ["/livez", "/readyz"] {
        server.send(get(path)).await.is(200);
    }
    let internal = crate::http::internal_router(Arc::clone(&server.app));
    let answer = internal.oneshot(get("/status")).await.unwrap();
    assert_eq!(answer.status(), 200);
}
