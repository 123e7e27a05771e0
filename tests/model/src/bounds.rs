//! How much of everything there is. Each set of bounds looks at one part of the protocol; all of it at once has too many
//! states.

/// The bounds of one check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// What it looks at.
    pub name: &'static str,
    /// How many terms are given out, to two servers together.
    pub terms: u8,
    /// How many messages are appended.
    pub messages: u8,
    /// Whether a message may take two pages.
    pub long: bool,
    /// The pages of a segment: one for the snapshot, the last one for the seal.
    pub pages: u8,
    /// How many puts of a leader are in flight.
    pub in_flight: usize,
    /// How many requests time out: from then on nobody waits for them, and they arrive whenever they like.
    pub time_outs: u8,
    /// How many puts are stored in part while their server crashes.
    pub tears: u8,
    /// How many stored pages are damaged.
    pub damages: u8,
    /// Whether commits are written.
    pub commits: bool,
    /// Whether a message whose outcome is unknown is sent again by its idempotent producer.
    pub retries: bool,
    /// Whether a leader answers strong reads.
    pub strong: bool,
    /// Whether a follower reads.
    pub reader: bool,
    /// Whether retention seals segments early and deletes the oldest.
    pub retention: bool,
    /// Whether a server may crash at any moment; else it only ends where it is deposed.
    pub crashes: bool,
}

impl Bounds {
    const NONE: Self = Self {
        name: "",
        terms: 2,
        messages: 2,
        long: false,
        pages: 4,
        in_flight: 2,
        time_outs: 0,
        tears: 0,
        damages: 0,
        commits: false,
        retries: false,
        strong: false,
        reader: false,
        retention: false,
        crashes: false,
    };

    /// Puts in flight, lost and late, through changes of leader, in one segment.
    pub const APPENDING: Self =
        Self { name: "appending", pages: 5, time_outs: 1, retries: true, ..Self::NONE };

    /// Three leaders one after the other, and what the first two leave behind.
    pub const TAKEOVERS: Self = Self {
        name: "takeovers",
        terms: 3,
        messages: 3,
        pages: 4,
        reader: true,
        crashes: true,
        ..Self::NONE
    };

    /// Long puts that are stored in part, what recovery makes of them, and a follower that reads them.
    pub const TORN: Self = Self { name: "torn", long: true, pages: 5, tears: 1, reader: true, ..Self::NONE };

    /// Segments that are sealed and made, by leaders that are deposed meanwhile.
    pub const SEGMENTS: Self = Self { name: "segments", pages: 3, time_outs: 1, ..Self::NONE };

    /// Reads of a follower, and strong ones of leaders, while leaders change.
    pub const READS: Self =
        Self { name: "reads", pages: 3, in_flight: 1, strong: true, reader: true, ..Self::NONE };

    /// Deletion of the oldest segments, on its way while leaders change, and a follower that is overtaken.
    pub const RETENTION: Self = Self {
        name: "retention",
        pages: 4,
        in_flight: 1,
        commits: true,
        retries: true,
        reader: true,
        retention: true,
        ..Self::NONE
    };

    /// A stored page that is damaged.
    pub const DAMAGE: Self =
        Self { name: "damage", long: true, pages: 5, damages: 1, commits: true, crashes: true, ..Self::NONE };

    /// A seal that is damaged while the segment behind it is taken for a leftover.
    pub const LEFTOVERS: Self = Self { name: "leftovers", pages: 3, in_flight: 1, damages: 1, ..Self::NONE };

    /// What follower and strong reads make of segments that are deleted and made again by late requests.
    pub const LATE: Self =
        Self { name: "late", messages: 1, strong: true, retries: false, ..Self::RETENTION };

    /// Segments that are made again, or claimed, by a request that was sent twice, when retention has deleted them.
    pub const TWICE: Self =
        Self { name: "twice", time_outs: 1, retries: false, reader: false, ..Self::RETENTION };

    /// All of them.
    pub const ALL: &[Self] = &[
        Self::APPENDING,
        Self::TAKEOVERS,
        Self::TORN,
        Self::SEGMENTS,
        Self::READS,
        Self::RETENTION,
        Self::DAMAGE,
        Self::LEFTOVERS,
        Self::LATE,
        Self::TWICE,
    ];
}
