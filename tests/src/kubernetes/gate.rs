//! A way to the API server that can be shut: connections stay, new ones come about, and nothing goes through.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// A port that leads to another one of this machine. Its threads end with the test's process.
pub struct Gate {
    port: u16,
    shut: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    /// Leads to `port`.
    #[must_use]
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let own = listener.local_addr().expect("it is bound").port();
        let shut = Arc::new((Mutex::new(false), Condvar::new()));
        let waits = Arc::clone(&shut);
        thread::spawn(move || {
            for from in listener.incoming().flatten() {
                let Ok(to) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
                let (Ok(back), Ok(forth)) = (to.try_clone(), from.try_clone()) else { continue };
                for (from, to) in [(from, to), (back, forth)] {
                    let waits = Arc::clone(&waits);
                    thread::spawn(move || carry(from, to, &waits));
                }
            }
        });
        Self { port: own, shut }
    }

    /// Where it is entered.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets nothing through any more.
    pub fn shut(&self) {
        self.set(true);
    }

    /// Lets everything through again, also what came meanwhile.
    pub fn open(&self) {
        self.set(false);
    }

    fn set(&self, shut: bool) {
        *self.shut.0.lock().unwrap_or_else(PoisonError::into_inner) = shut;
        self.shut.1.notify_all();
    }
}

/// Carries bytes one way while the gate is open.
fn carry(mut from: TcpStream, mut to: TcpStream, shut: &(Mutex<bool>, Condvar)) {
    let mut bytes = [0; 1 << 14];
    loop {
        let read = from.read(&mut bytes).unwrap_or(0);
        let is_shut = shut.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(shut.1.wait_while(is_shut, |shut| *shut).unwrap_or_else(PoisonError::into_inner));
        if read == 0 || to.write_all(&bytes[..read]).is_err() {
            // The other side may be gone as well.
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}
