//! Values that are longer than one message: they travel as several, and come back as one.
//!
//! ```text
//! offset     attributes     header mv-part            value
//!   70       10xx xxx0      0/5/5000000               the first 1 MiB     \
//!   71       10xx xxx0      1/5/5000000               the next            |  one request, one run of offsets
//!   72       ...                                                          /
//!   73                                                a message of another producer
//!   74       10xx xxx0      2/5/5000000@70            ...                    the next request
//!   75       11xx xxx0      4/5/5000000@70            the rest: the value's own offset is this one
//! ```
//!
//! The header says which part of how many this is, counted from 0, how long the whole value is, and, from the second
//! request on, at which offset the first part stands; in the first request that follows from the offset. The key stands
//! on every part, the application's headers on the last one, whose offset and timestamp are those of the whole. So who
//! begins to read in the middle, or has forgotten the parts meanwhile, finds them again.

use std::collections::BTreeMap;
use std::fmt;

use bytes::{Bytes, BytesMut};
use vault_format::ids::Offset;

use crate::message::Received;

/// The attribute bit of a part.
pub const PART: u8 = 0x80;

/// The attribute bit of the last part, beside [`PART`].
pub const LAST_PART: u8 = 0x40;

/// Both.
pub(crate) const PART_BITS: u8 = PART | LAST_PART;

/// The message header that tells parts apart.
pub const PART_HEADER: &str = "mv-part";

/// What a part's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    pub(crate) index: u32,
    pub(crate) count: u32,
    /// How long the whole value is.
    pub(crate) bytes: u64,
    /// Where the first part stands; `None` in the request that begins with it.
    pub(crate) first: Option<Offset>,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, count, bytes, .. } = self;
        write!(f, "{index}/{count}/{bytes}")?;
        self.first.map_or(Ok(()), |first| write!(f, "@{first}"))
    }
}

impl Part {
    fn parse(text: &str) -> Option<Self> {
        let (numbers, first) = match text.split_once('@') {
            Some((numbers, first)) => (numbers, Some(Offset(first.parse().ok()?))),
            None => (text, None),
        };
        let mut numbers = numbers.split('/');
        let part = Self {
            index: numbers.next()?.parse().ok()?,
            count: numbers.next()?.parse().ok()?,
            bytes: numbers.next()?.parse().ok()?,
            first,
        };
        (numbers.next().is_none() && part.index < part.count).then_some(part)
    }

    /// The part that a message is, and the offset of the first one. `None` where it is a message like others.
    fn of(message: &Received) -> Option<(Self, Offset)> {
        if message.attributes() & PART == 0 {
            return None;
        }
        let part = Self::parse(message.header(PART_HEADER)?)?;
        let first = match part.first {
            Some(first) => first,
            None => Offset(message.offset().0.checked_sub(part.index.into())?),
        };
        let last = message.attributes() & LAST_PART != 0;
        // Each part takes an offset of its own, and the first one stands where it says.
        let behind = message.offset().0.checked_sub(first.0)?;
        let placed = behind >= part.index.into() && (part.index > 0 || behind == 0);
        (placed && last == (part.index + 1 == part.count)).then_some((part, first))
    }
}

/// What a value counts that is being put together, besides its bytes: many that never become whole are bounded too.
const PENDING_BYTES: usize = 128;

/// What comes of a message.
#[derive(Debug)]
pub(crate) enum Joined {
    /// A message, or a value put together.
    Message(Received),
    /// A part that others follow.
    Pending,
    /// The last part of a value whose others are not at hand: they stand from `first` on.
    Incomplete { first: Offset, last: Received },
    /// The last part of a value that is longer than is taken, of so many bytes.
    TooLong { bytes: u64 },
}

#[derive(Debug)]
struct Pending {
    next: u32,
    value: BytesMut,
}

/// Puts the parts of values together that come along, mixed with other messages.
///
/// It holds about as many bytes as the longest value may have. Where several values come at once and that is not enough, the
/// oldest is forgotten, and comes out as [`Joined::Incomplete`].
#[derive(Debug)]
pub(crate) struct Joiner {
    max_bytes: usize,
    held_bytes: usize,
    pending: BTreeMap<Offset, Pending>,
}

impl Joiner {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, held_bytes: 0, pending: BTreeMap::new() }
    }

    pub(crate) fn take(&mut self, message: Received) -> Joined {
        let Some((part, first)) = Part::of(&message) else { return Joined::Message(message) };
        let last = part.index + 1 == part.count;
        if part.bytes > self.max_bytes as u64 {
            return if last { Joined::TooLong { bytes: part.bytes } } else { Joined::Pending };
        }
        if part.index == 0 {
            self.forget(first);
            self.pending.insert(first, Pending { next: 0, value: BytesMut::new() });
            self.held_bytes += PENDING_BYTES;
        }
        if let Some(pending) = self.pending.get_mut(&first) {
            let goes_on = pending.next == part.index
                && (pending.value.len() + message.value().len()) as u64 <= part.bytes;
            if goes_on {
                pending.value.extend_from_slice(message.value());
                pending.next += 1;
                self.held_bytes += message.value().len();
            } else {
                self.forget(first);
            }
        }
        if !last {
            self.make_room(first);
            return Joined::Pending;
        }
        match self.forget(first) {
            Some(pending) if pending.next == part.count && pending.value.len() as u64 == part.bytes => {
                Joined::Message(message.joined(pending.value.freeze()))
            }
            _ => Joined::Incomplete { first, last: message },
        }
    }

    fn forget(&mut self, first: Offset) -> Option<Pending> {
        let pending = self.pending.remove(&first)?;
        self.held_bytes -= pending.value.len() + PENDING_BYTES;
        Some(pending)
    }

    /// Forgets the oldest values but for the one that has just grown.
    fn make_room(&mut self, grown: Offset) {
        while self.held_bytes > self.max_bytes {
            let Some(oldest) = self.pending.keys().find(|first| **first != grown).copied() else { return };
            self.forget(oldest);
        }
    }
}

/// How a value is cut: pieces of `part_bytes`, the last one shorter, shared and not copied.
pub(crate) fn pieces(value: &Bytes, part_bytes: usize) -> impl ExactSizeIterator<Item = Bytes> {
    let count = value.len().div_ceil(part_bytes);
    (0..count).map(move |index| {
        let start = index * part_bytes;
        value.slice(start..value.len().min(start + part_bytes))
    })
}

/// Whether a message is a part of the value whose first part stands at `first`.
pub(crate) fn belongs(message: &Received, first: Offset) -> bool {
    Part::of(message).is_some_and(|(_, its_first)| its_first == first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vault_format::ids::{StreamId, Timestamp};
    use vault_format::record;

    use super::*;

    /// A message as it is read.
    fn received(offset: u64, attributes: u8, header: Option<&str>, value: &[u8]) -> Received {
        let headers: Vec<_> =
            [("own", "yes")].into_iter().chain(header.map(|text| (PART_HEADER, text))).collect();
        let mut bytes = Vec::new();
        record::Message { attributes, key: b"k", headers: &headers, value }.encode(0, &mut bytes);
        Received::take(&bytes.into(), &mut 0, StreamId([7; 16]), Offset(offset), Timestamp(9)).unwrap()
    }

    fn part(offset: u64, part: &str, last: bool, value: &[u8]) -> Received {
        received(offset, if last { PART_BITS } else { PART }, Some(part), value)
    }

    /// Values cut into parts and mixed: what stands where, and which values stand at which offsets in the end.
    fn mixed(values: &[(usize, usize, usize)], order: &[usize]) -> (Vec<Received>, Vec<(u64, Vec<u8>)>) {
        struct Left {
            value: Bytes,
            pieces: Vec<Bytes>,
            at_once: usize,
            sent: usize,
            first: Option<u64>,
        }
        let mut left: Vec<_> = values
            .iter()
            .zip(0_u8..)
            .map(|(&(bytes, cut, at_once), fill)| {
                let value = Bytes::from(vec![fill; bytes]);
                Left { pieces: pieces(&value, cut).collect(), value, at_once, sent: 0, first: None }
            })
            .collect();
        let (mut log, mut whole) = (Vec::new(), Vec::new());
        // Whose turn it is, and once all turns are over, whoever has something left.
        for turn in order.iter().copied().chain((0..values.len()).flat_map(|n| vec![n; 100])) {
            let count = left.len();
            let Left { value, pieces, at_once, sent, first } = &mut left[turn % count];
            let first_request = *sent == 0;
            for _ in 0..*at_once {
                if *sent >= pieces.len().max(1) {
                    break;
                }
                let offset = log.len() as u64;
                let here = *first.get_or_insert(offset);
                if pieces.len() < 2 {
                    log.push(received(offset, 0, None, value));
                } else {
                    let index = u32::try_from(*sent).unwrap();
                    let header = Part {
                        index,
                        count: u32::try_from(pieces.len()).unwrap(),
                        bytes: value.len() as u64,
                        first: (!first_request).then_some(Offset(here)),
                    };
                    log.push(part(offset, &header.to_string(), *sent + 1 == pieces.len(), &pieces[*sent]));
                }
                *sent += 1;
                if *sent >= pieces.len().max(1) {
                    whole.push((offset, value.to_vec()));
                }
            }
        }
        (log, whole)
    }

    proptest! {
        #[test]
        fn values_come_back_as_they_went_whatever_stands_between(
            values in proptest::collection::vec((0_usize..200, 1_usize..60, 1_usize..5), 1..6),
            order in proptest::collection::vec(0_usize..6, 0..40),
            begin in 0_usize..20,
            room in 0_usize..500,
        ) {
            let (log, whole) = mixed(&values, &order);
            let begin = begin.min(log.len());
            let mut joiner = Joiner::new(room);
            let mut found = Vec::new();
            for message in &log[begin..] {
                let offset = message.offset().0;
                match joiner.take(message.clone()) {
                    Joined::Pending => {}
                    Joined::Message(message) => {
                        assert_eq!((message.attributes() & PART_BITS, message.headers().count()), (0, 1));
                        found.push((offset, message.value().to_vec()));
                    }
                    Joined::TooLong { bytes } => {
                        assert!(bytes > room as u64);
                        found.push((offset, vec![]));
                    }
                    Joined::Incomplete { first, last } => {
                        // Its parts stand where they are looked for.
                        let mut again = Joiner::new(room);
                        for part in &log[usize::try_from(first.0).unwrap()..usize::try_from(offset).unwrap()] {
                            if belongs(part, first) {
                                again.take(part.clone());
                            }
                        }
                        let Joined::Message(message) = again.take(last) else { panic!("all parts are there") };
                        found.push((offset, message.value().to_vec()));
                    }
                }
                let held: usize = joiner.pending.values().map(|it| it.value.len() + PENDING_BYTES).sum();
                assert_eq!(held, joiner.held_bytes);
                assert!(held <= room + 200 + PENDING_BYTES, "no more than it may, and the one that grows");
            }
            let expected: Vec<_> = whole
                .into_iter()
                .filter(|(offset, _)| *offset >= begin as u64)
                .map(|(offset, value)| {
                    let cut = log[usize::try_from(offset).unwrap()].attributes() & PART != 0;
                    (offset, if cut && value.len() > room { vec![] } else { value })
                })
                .collect();
            assert_eq!(found, expected);
        }

        #[test]
        fn what_a_header_says_comes_back(index in 0_u32..9, more in 1_u32..9, bytes: u64, first: Option<u64>) {
            let part = Part { index, count: index + more, bytes, first: first.map(Offset) };
            assert_eq!(Part::parse(&part.to_string()), Some(part));
        }

        #[test]
        fn no_header_does_harm(text in ".{0,30}", numbers in "[0-9/@]{0,20}", attributes: u8, offset in 0_u64..10) {
            for text in [text, numbers] {
                Joiner::new(100).take(received(offset, attributes & !1, Some(&text), b"v"));
            }
        }
    }

    #[test]
    fn what_is_no_part_is_a_message_like_others() {
        for (header, last) in [
            ("", false),
            ("0/2", false),
            ("0/2/10/3", false),
            ("2/2/10", true),
            ("0/2/-1", false),
            ("0/2/10", true),
            ("1/2/10", false),
            ("1/2/10@", true),
            ("1/2/10@6", true),
            // The first part stands elsewhere, or there is no room for those between.
            ("0/2/10@4", false),
            ("1/2/10@5", true),
            ("3/4/10@3", true),
            ("9/10/10", true),
        ] {
            let message = part(5, header, last, b"v");
            assert!(matches!(Joiner::new(100).take(message), Joined::Message(_)), "{header}");
        }
        let unmarked = received(5, 2, Some("0/2/10"), b"v");
        assert!(matches!(Joiner::new(100).take(unmarked), Joined::Message(_)));
        assert!(matches!(Joiner::new(100).take(received(5, PART, None, b"v")), Joined::Message(_)));
    }

    #[test]
    fn parts_that_do_not_add_up_make_no_value() {
        for parts in [
            // One is missing, comes twice, or is too long or too short.
            vec![part(0, "0/3/6", false, b"ab"), part(2, "2/3/6@0", true, b"ef")],
            vec![
                part(0, "0/2/4", false, b"ab"),
                part(1, "0/2/4@0", false, b"ab"),
                part(2, "1/2/4@0", true, b"c"),
            ],
            vec![
                part(0, "0/4/8", false, b"ab"),
                part(5, "2/4/8@0", false, b"ef"),
                part(6, "1/4/8@0", false, b"cd"),
                part(7, "3/4/8@0", true, b"gh"),
            ],
            vec![part(0, "0/2/4", false, b"abcde"), part(1, "1/2/4", true, b"c")],
            vec![part(0, "0/2/4", false, b"ab"), part(1, "1/2/4", true, b"c")],
        ] {
            let mut joiner = Joiner::new(100);
            let last = parts.into_iter().map(|part| joiner.take(part)).last().unwrap();
            assert!(matches!(last, Joined::Incomplete { first: Offset(0), .. }), "{last:?}");
            assert_eq!(joiner.held_bytes, 0);
        }
    }

    #[test]
    fn values_that_never_end_take_no_room_for_ever() {
        let mut joiner = Joiner::new(10_000);
        for offset in 0..10_000 {
            joiner.take(part(offset, "0/2/4", false, b""));
            assert!(joiner.pending.len() <= 10_000 / PENDING_BYTES + 1);
        }
    }
}
