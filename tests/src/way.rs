//! What stands between programs and the services that they use: a proxy for other names, one that refuses, one that
//! spreads connections, and a way on which news comes late.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What programs are given as `HTTPS_PROXY` or `ALL_PROXY`: connections to hosts whose names end with `suffix` lead to `port` of this
/// machine, others where they are meant to. Answers the proxy's own port.
///
/// # Panics
///
/// Where the machine has no free port.
#[must_use]
pub fn tunnel(suffix: &str, port: u16) -> u16 {
    let suffix = suffix.to_owned();
    listen(move |client| {
        let mut reader = BufReader::new(client.try_clone()?);
        let head = read_head(&mut reader)?;
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let host = target.split(':').next().unwrap_or_default();
        let server = if host.ends_with(&suffix) {
            TcpStream::connect(("127.0.0.1", port))?
        } else {
            TcpStream::connect(target)?
        };
        let mut client = client;
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        hand_on(reader, client, server)
    })
}

/// An HTTP server that hands requests on to `port` of this machine, each on a connection of its own. What `refuse` has an
/// answer for, given the request's line, is answered so instead: the status' line, further headers with an end of line
/// each, and the body. Answers the port.
///
/// # Panics
///
/// Where the machine has no free port.
#[must_use]
pub fn refusing(port: u16, refuse: impl Fn(&str) -> Option<[String; 3]> + Clone + Send + 'static) -> u16 {
    listen(move |mut client| {
        let mut reader = BufReader::new(client.try_clone()?);
        let head = read_head(&mut reader)?;
        let (line, headers) = head.split_once("\r\n").unwrap_or_default();
        if let Some([status, headers, body]) = refuse(line) {
            let length = body.len();
            return write!(
                client,
                "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
        }
        let mut server = TcpStream::connect(("127.0.0.1", port))?;
        write!(server, "{line}\r\nconnection: close\r\n{headers}")?;
        hand_on(reader, client, server)
    })
}

/// What a Service's address leads to: each connection goes to the next of the addresses that `backends` has then.
///
/// # Panics
///
/// Where the machine has no free port.
#[must_use]
pub fn balance(backends: impl Fn() -> Vec<SocketAddr> + Clone + Send + 'static) -> u16 {
    let turn = Arc::new(AtomicUsize::new(0));
    listen(move |client| {
        let all = backends();
        let next = turn.fetch_add(1, Ordering::Relaxed) % all.len().max(1);
        let Some(address) = all.get(next) else { return Ok(()) };
        let server = TcpStream::connect(address)?;
        hand_on(client.try_clone()?, client, server)
    })
}

/// An answer that comes later than this after the last request's bytes was not asked for by that request.
const UNASKED: Duration = Duration::from_millis(300);

/// A way to `port` of this machine on which what is not the answer to a request, such as what a watch tells, comes so
/// much later. Answers the way's own port.
///
/// # Panics
///
/// Where the machine has no free port.
#[must_use]
pub fn late_news(port: u16, late: Duration) -> u16 {
    listen(move |client| {
        let server = TcpStream::connect(("127.0.0.1", port))?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let asked = Arc::new(Mutex::new(Instant::now()));
        let (from_client, to_server, asking) = (client.try_clone()?, server.try_clone()?, asked.clone());
        std::thread::spawn(move || {
            pass(from_client, to_server, || *asking.lock().expect("nobody panics") = Instant::now());
        });
        pass(server, client, || {
            if asked.lock().expect("nobody panics").elapsed() > UNASKED {
                std::thread::sleep(late);
            }
        });
        Ok(())
    })
}

/// Hands bytes on one way, each piece once `before` lets it, until either side ends; then both do.
pub(crate) fn pass(mut from: TcpStream, mut to: TcpStream, before: impl Fn()) {
    let mut piece = [0; 1 << 14];
    loop {
        let read = from.read(&mut piece).unwrap_or(0);
        before();
        if read == 0 || to.write_all(&piece[..read]).is_err() {
            // The other side may be gone as well.
            let _ = to.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn listen(serve: impl Fn(TcpStream) -> std::io::Result<()> + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let own = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            // A connection that breaks is no concern of the others.
            std::thread::spawn(move || serve(client));
        }
    });
    own
}

fn read_head(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

/// Both ways, until the server has said all.
fn hand_on(
    mut from_client: impl Read + Send + 'static,
    mut client: TcpStream,
    server: TcpStream,
) -> std::io::Result<()> {
    let mut to_server = server.try_clone()?;
    std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
    // Short answers would be held back for tens of milliseconds otherwise.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut server = server;
    let copied = std::io::copy(&mut server, &mut client);
    client.shutdown(std::net::Shutdown::Both)?;
    copied.map(|_| ())
}
