//! A way to the API server that can be shut: connections stay, new ones come about, and nothing goes through.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use crate::way::pass;

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
                    thread::spawn(move || pass(from, to, || wait(&waits)));
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

/// Waits while the gate is shut.
fn wait((shut, opens): &(Mutex<bool>, Condvar)) {
    let is_shut = shut.lock().unwrap_or_else(PoisonError::into_inner);
    drop(opens.wait_while(is_shut, |shut| *shut).unwrap_or_else(PoisonError::into_inner));
}
