//! Addresses for pods: of this machine, each for itself, so that all pods can listen on the same ports.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};

/// Whoever listens here at the last address of a block has the block. Nobody else on the machine has it then.
const CLAIM_PORT: u16 = 8479;
const LAST: u8 = 254;

/// Blocks are 127.64.0.0/24 and those behind it; what lies before is used by others.
const FIRST_BLOCK: u32 = 64 * 256;
const BLOCKS: u32 = 128 * 256;

/// A block of 253 addresses.
#[derive(Debug)]
pub(super) struct Addresses {
    block: [u8; 2],
    _claim: TcpListener,
    taken: BTreeSet<u8>,
    newest: u8,
}

impl Addresses {
    /// A block that no other value has, in whichever process.
    pub(super) fn claim() -> Self {
        let begin = std::process::id().wrapping_mul(97);
        (0..BLOCKS)
            .find_map(|step| Self::try_claim(begin.wrapping_add(step) % BLOCKS))
            .expect("a block is free")
    }

    fn try_claim(block: u32) -> Option<Self> {
        let [.., high, low] = (FIRST_BLOCK + block).to_be_bytes();
        let claim = TcpListener::bind((Ipv4Addr::new(127, high, low, LAST), CLAIM_PORT)).ok()?;
        Some(Self { block: [high, low], _claim: claim, taken: BTreeSet::new(), newest: 0 })
    }

    /// An address that no pod has. One that a pod had comes last.
    pub(super) fn take(&mut self) -> Ipv4Addr {
        let behind = (1..LAST).map(|step| (self.newest + step - 1) % (LAST - 1) + 1);
        let mut behind = behind.filter(|last| !self.taken.contains(last));
        self.newest = behind.next().expect("there are not that many pods at a time");
        self.taken.insert(self.newest);
        let [high, low] = self.block;
        Ipv4Addr::new(127, high, low, self.newest)
    }

    /// Gives an address back.
    pub(super) fn release(&mut self, address: Ipv4Addr) {
        let [.., last] = address.octets();
        self.taken.remove(&last);
    }
}

#[cfg(test)]
mod tests {
    use super::Addresses;

    #[test]
    fn no_two_pods_have_the_same_address() {
        let (mut one, mut other) = (Addresses::claim(), Addresses::claim());
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            assert!(seen.insert(one.take()) && seen.insert(other.take()));
        }
        let first = *seen.first().expect("some were taken");
        one.release(first);
        other.release(first);
        assert!((0..100).all(|_| seen.insert(one.take())), "what was given back comes last");
    }
}
