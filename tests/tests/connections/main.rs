//! Connections: TLS, HTTP/2, the internal listener, and clients that flood or stall.
#![expect(clippy::unwrap_used, reason = "a test that finds what it needs missing has failed")]

mod documented;
mod floods;
mod frames;
mod http2;
mod http2_floods;
mod internal;
mod most;
mod smuggling;
mod tls;
