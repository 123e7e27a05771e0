//! What stands in a message of the benchmark: who sent it, which one it is, when; and bytes that only that one has.

use vault_client::Received;

/// Producer, sequence, time.
pub(super) const HEAD_BYTES: usize = 4 + 8 + 8;

/// What a message says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) producer: u32,
    pub(super) sequence: u64,
    /// When it was handed over, since the benchmark began.
    pub(super) sent_ns: u64,
}

/// Writes a message of `size` bytes.
pub(super) fn make(head: Head, size: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(size + 8);
    body.extend_from_slice(&head.producer.to_le_bytes());
    body.extend_from_slice(&head.sequence.to_le_bytes());
    body.extend_from_slice(&head.sent_ns.to_le_bytes());
    let mut filler = Filler::new(head);
    while body.len() < size {
        body.extend_from_slice(&filler.next());
    }
    body.truncate(size);
    body
}

/// Reads a message, and holds every byte of it against what was written.
pub(super) fn read(message: &Received, size: usize) -> Result<Head, String> {
    let wrong = |what: &str| Err(format!("the message at offset {} {what}", message.offset()));
    let body = message.value();
    if body.len() != size {
        return wrong(&format!("has {} bytes, and {size} were written", body.len()));
    }
    let (head, rest) = body.split_at(HEAD_BYTES);
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes were cut out"));
    let head = Head {
        producer: u32::from_le_bytes(head[..4].try_into().expect("four bytes were cut out")),
        sequence: number(&head[4..12]),
        sent_ns: number(&head[12..]),
    };
    let mut filler = Filler::new(head);
    for piece in rest.chunks(8) {
        if *piece != filler.next()[..piece.len()] {
            return wrong("does not hold the bytes that were written");
        }
    }
    Ok(head)
}

/// Bytes that follow from who sent a message and which one it is, and look like chance: xorshift64*.
struct Filler(u64);

impl Filler {
    fn new(head: Head) -> Self {
        let mixed = (u64::from(head.producer) << 40 ^ head.sequence).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(mixed | 1)
    }

    fn next(&mut self) -> [u8; 8] {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_their_size_and_differ() {
        let head = Head { producer: 1, sequence: 2, sent_ns: 3 };
        for size in [HEAD_BYTES, HEAD_BYTES + 1, 1_024] {
            assert_eq!(make(head, size).len(), size);
        }
        let other = Head { sequence: 3, ..head };
        assert_ne!(make(head, 64)[HEAD_BYTES..], make(other, 64)[HEAD_BYTES..]);
    }
}
