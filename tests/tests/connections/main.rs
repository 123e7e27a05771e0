//! Connections: TLS, HTTP/2, the internal listener, and clients that flood or stall.

mod floods;
mod http2;
mod internal;
mod tls;
