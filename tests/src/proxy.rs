//! A way between two programs that can be made to fail: a TCP proxy that delays, withholds and breaks, and, knowing just
//! enough of HTTP/1.1, answers in the server's place.
//!
//! ```text
//!  client --> [ requests ] --> server
//!         <-- [ replies  ] <--
//! ```
//!
//! What was taken in before a fault began may be passed on after it has ended, whether anybody still waits for it or not:
//! as on a network, and that is what makes late writes of a leader that was deposed.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::time::sleep;

use crate::chance::Dice;

/// How much is passed on at once.
const PIECE_BYTES: usize = 64 << 10;

/// What is wrong with a way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Connections are taken, and nothing passes until the fault is over.
    Silent,
    /// Requests whose first line has this in it do not pass until the fault is over.
    SilentAbout(&'static str),
    /// Requests get through, replies only when the fault is over.
    RepliesWithheld,
    /// Connections break, and new ones do so at once.
    Broken,
    /// Each piece waits for so long.
    Late(Duration),
    /// Requests that write wait for so long before they are passed on; where their sender gives up meanwhile, they are not.
    SlowWrites(Duration),
    /// So many bytes a second, in each direction of each connection.
    Trickle(u32),
    /// So many pieces of replies in a thousand are not passed on, and their connections break.
    RepliesLost(u32),
    /// So many requests in a thousand are answered 503 here.
    Busy(u32),
    /// A connection that has passed so many bytes of requests falls silent for good, also when the fault is over: neither
    /// end hears of it. With 0 those that are open do so at once.
    FallsSilent(u64),
}

/// A proxy before one address. It ends with the value, and with it all connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A proxy on a port of its own. `seed` decides which pieces and requests are struck.
    ///
    /// # Errors
    ///
    /// Where there is no port.
    pub async fn before(target: SocketAddr, seed: u64) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (fault, seen) = watch::channel(Fault::None);
        let dice = Arc::new(std::sync::Mutex::new(Dice::from_state(seed)));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, target, seen.clone(), Arc::clone(&dice)));
            }
        });
        Ok(Self { address, fault, accepting })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes something wrong, or right again.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.fault.send_replace(Fault::Broken);
    }
}

/// All connections throw the same dice.
fn strikes(dice: &std::sync::Mutex<Dice>, times: u32) -> bool {
    dice.lock().unwrap_or_else(PoisonError::into_inner).per_mille(times.into())
}

type ToClient = Arc<Mutex<OwnedWriteHalf>>;

async fn connect(
    client: TcpStream,
    target: SocketAddr,
    fault: watch::Receiver<Fault>,
    dice: Arc<std::sync::Mutex<Dice>>,
) {
    if *fault.borrow() == Fault::Broken {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    // A delay that nobody asked for would be measured as one of the servers'.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let to_client: ToClient = Arc::new(Mutex::new(to_client));
    let passed = watch::Sender::new(0);
    let silent = silent(fault.clone(), passed.subscribe());
    let requests = requests(from_client, to_server, Arc::clone(&to_client), fault.clone(), &passed, &dice);
    let replies = replies(from_server, to_client, fault.clone(), &dice);
    let mut passing = pin!(async { tokio::join!(requests, replies) });
    tokio::select! {
        _ = &mut passing => return,
        () = broken(fault.clone()) => return,
        () = silent => {}
    }
    // Both ends stay connected, and nothing passes any more.
    broken(fault).await;
}

/// Ends when the connection is to fall silent, of which so many bytes have passed.
async fn silent(mut fault: watch::Receiver<Fault>, mut passed: watch::Receiver<u64>) {
    loop {
        let most = match *fault.borrow_and_update() {
            Fault::FallsSilent(most) => most,
            _ => u64::MAX,
        };
        if *passed.borrow_and_update() >= most {
            return;
        }
        // Where a sender is gone, so is the connection.
        tokio::select! {
            Ok(()) = fault.changed() => {}
            Ok(()) = passed.changed() => {}
            else => std::future::pending().await,
        }
    }
}

async fn broken(mut fault: watch::Receiver<Fault>) {
    // Its sender goes with the proxy, which breaks everything first.
    let _ = fault.wait_for(|fault| *fault == Fault::Broken).await;
}

/// Waits as long as nothing passes, and for what a slow way takes for so many bytes.
async fn passage(
    fault: &mut watch::Receiver<Fault>,
    is_withheld: impl Fn(&Fault) -> bool,
    bytes: usize,
) -> Fault {
    let now = match fault.wait_for(|fault| !is_withheld(fault)).await {
        Ok(fault) => *fault,
        Err(_) => return Fault::Broken,
    };
    match now {
        Fault::Late(time) => sleep(time).await,
        Fault::Trickle(rate) => {
            let time = Duration::from_secs_f64(bytes as f64 / f64::from(rate.max(1)));
            // When it is over, nobody waits for the rest.
            tokio::select! {
                () = sleep(time) => {}
                _ = fault.wait_for(|fault| !matches!(fault, Fault::Trickle(_))) => {}
            }
        }
        _ => {}
    }
    now
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    to_client: ToClient,
    mut fault: watch::Receiver<Fault>,
    passed: &watch::Sender<u64>,
    dice: &std::sync::Mutex<Dice>,
) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        let is_withheld = |fault: &Fault| match fault {
            Fault::Silent => true,
            Fault::SilentAbout(text) => asks_about(&piece[..read], text),
            _ => false,
        };
        let now = passage(&mut fault, is_withheld, read).await;
        if now == Fault::Broken {
            // What was withheld until now goes with the connection.
            return;
        }
        if let Fault::Busy(times) = now
            && begins_a_request(&piece[..read])
            && strikes(dice, times)
        {
            if refuse(&mut from, piece[..read].to_vec(), &to_client).await.is_err() {
                return;
            }
            continue;
        }
        if let Fault::SlowWrites(time) = now
            && piece.starts_with(b"PUT /")
        {
            let Some(request) = held_back(&mut from, piece[..read].to_vec(), time).await else { return };
            if to.write_all(&request).await.is_err() {
                return;
            }
            passed.send_modify(|passed| *passed += request.len() as u64);
            continue;
        }
        if to.write_all(&piece[..read]).await.is_err() {
            return;
        }
        passed.send_modify(|passed| *passed += read as u64);
    }
    let _ = to.shutdown().await;
}

async fn replies(
    mut from: OwnedReadHalf,
    to_client: ToClient,
    mut fault: watch::Receiver<Fault>,
    dice: &std::sync::Mutex<Dice>,
) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        let is_withheld = |fault: &Fault| matches!(fault, Fault::Silent | Fault::RepliesWithheld);
        let now = passage(&mut fault, is_withheld, read).await;
        if let Fault::RepliesLost(times) = now
            && strikes(dice, times)
        {
            break;
        }
        if to_client.lock().await.write_all(&piece[..read]).await.is_err() {
            break;
        }
    }
    let _ = to_client.lock().await.shutdown().await;
}

/// What has come of a request after so long; `None` where its sender has given it up.
async fn held_back(from: &mut OwnedReadHalf, mut request: Vec<u8>, time: Duration) -> Option<Vec<u8>> {
    let mut over = pin!(sleep(time));
    loop {
        tokio::select! {
            biased;
            read = from.read_buf(&mut request) => {
                if !matches!(read, Ok(1..)) {
                    return None;
                }
            }
            () = &mut over => return Some(request),
        }
    }
}

/// Nobody sends a request before the last one was answered, so that a method at the front of a piece is one.
fn begins_a_request(piece: &[u8]) -> bool {
    [&b"GET /"[..], b"HEAD /", b"PUT /", b"POST /", b"DELETE /", b"PATCH /"]
        .iter()
        .any(|method| piece.starts_with(method))
}

/// Whether a request begins here whose first line has this text in it.
fn asks_about(piece: &[u8], text: &str) -> bool {
    let line = piece.split(|byte| *byte == b'\r').next().unwrap_or_default();
    begins_a_request(piece) && String::from_utf8_lossy(line).contains(text)
}

/// Takes the whole request in and answers it as Azure does when it is busy.
async fn refuse(from: &mut OwnedReadHalf, mut request: Vec<u8>, to_client: &ToClient) -> std::io::Result<()> {
    let end = loop {
        if let Some(end) = request.windows(4).position(|end| end == b"\r\n\r\n") {
            break end + 4;
        }
        if from.read_buf(&mut request).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut missing = length.unwrap_or(0_usize).saturating_sub(request.len() - end);
    let mut piece = vec![0; PIECE_BYTES];
    while missing > 0 {
        let most = missing.min(PIECE_BYTES);
        match from.read(&mut piece[..most]).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => missing -= read,
        }
    }
    let body = "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>ServerBusy</Code><Message>The server is busy.</Message></Error>";
    let answer = format!(
        "HTTP/1.1 503 The server is busy.\r\nx-ms-error-code: ServerBusy\r\ncontent-type: application/xml\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    // A HEAD has no body, and it is the only one of whom nobody waits for it.
    let answer = if head.starts_with("head ") { answer.trim_end_matches(body) } else { &answer };
    to_client.lock().await.write_all(answer.as_bytes()).await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A server that answers each request with its own first line, and counts them.
    async fn server() -> (SocketAddr, Arc<AtomicU64>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    let mut piece = vec![0; 4096];
                    while let Ok(read @ 1..) = connection.read(&mut piece).await {
                        counted.fetch_add(1, Ordering::Relaxed);
                        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {read}\r\n\r\n");
                        connection.write_all(answer.as_bytes()).await.unwrap();
                        connection.write_all(&piece[..read]).await.unwrap();
                    }
                });
            }
        });
        (address, count)
    }

    const REQUEST: &[u8] = b"PUT /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody";

    /// What is answered within a while; `None` where nothing is, and the empty text where the connection breaks.
    async fn ask(connection: &mut TcpStream) -> Option<String> {
        connection.write_all(REQUEST).await.ok()?;
        let mut answer = vec![0; 4096];
        let read =
            tokio::time::timeout(Duration::from_millis(300), connection.read(&mut answer)).await.ok()?;
        Some(String::from_utf8_lossy(&answer[..read.unwrap_or(0)]).into_owned())
    }

    #[tokio::test]
    async fn each_fault_does_what_it_says() {
        let (address, count) = server().await;
        let proxy = Proxy::before(address, 1).await.unwrap();
        let asked = || count.load(Ordering::Relaxed);
        let connect = || TcpStream::connect(proxy.address());
        let mut connection = connect().await.unwrap();
        assert!(ask(&mut connection).await.unwrap().starts_with("HTTP/1.1 200"));

        proxy.set(Fault::Busy(1_000));
        let busy = ask(&mut connection).await.unwrap();
        assert!(busy.starts_with("HTTP/1.1 503") && busy.contains("ServerBusy"), "{busy}");
        assert_eq!(asked(), 1, "it was not passed on");

        proxy.set(Fault::Silent);
        assert_eq!(ask(&mut connection).await, None);
        assert_eq!(asked(), 1);
        // What was taken in is passed on when it is over, whoever waits.
        drop(connection);
        proxy.set(Fault::None);
        let late = async {
            while asked() < 2 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), late).await.unwrap();

        proxy.set(Fault::SilentAbout("/b"));
        assert!(ask(&mut connect().await.unwrap()).await.unwrap().starts_with("HTTP/1.1 200"));
        proxy.set(Fault::SilentAbout("/a"));
        assert_eq!(ask(&mut connect().await.unwrap()).await, None);
        let mut connection = connect().await.unwrap();
        assert_eq!(ask(&mut connection).await, None);
        // What is withheld when connections break is lost with them.
        proxy.set(Fault::Broken);
        sleep(Duration::from_millis(50)).await;
        assert_eq!(asked(), 3);

        proxy.set(Fault::None);
        let mut connection = connect().await.unwrap();
        proxy.set(Fault::RepliesWithheld);
        assert_eq!(ask(&mut connection).await, None);
        assert_eq!(asked(), 4, "the request got through");
        proxy.set(Fault::RepliesLost(1_000));
        assert_eq!(ask(&mut connect().await.unwrap()).await.as_deref(), Some(""));
        assert_eq!(asked(), 5);
        proxy.set(Fault::Broken);
        assert_eq!(ask(&mut connect().await.unwrap()).await.unwrap_or_default(), "");
        assert_eq!(asked(), 5);
        proxy.set(Fault::FallsSilent(2 * REQUEST.len() as u64));
        let mut connection = connect().await.unwrap();
        assert!(ask(&mut connection).await.unwrap().starts_with("HTTP/1.1 200"));
        ask(&mut connection).await;
        proxy.set(Fault::None);
        assert_eq!(ask(&mut connection).await, None, "it stays silent");
        let mut connection = connect().await.unwrap();
        assert!(ask(&mut connection).await.unwrap().starts_with("HTTP/1.1 200"), "others do not");
        proxy.set(Fault::FallsSilent(0));
        sleep(Duration::from_millis(20)).await;
        proxy.set(Fault::Late(Duration::from_millis(20)));
        assert_eq!(ask(&mut connection).await, None);
        assert!(ask(&mut connect().await.unwrap()).await.unwrap().starts_with("HTTP/1.1 200"));
    }
}
