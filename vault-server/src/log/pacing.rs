//! How the puts of a stream follow each other, which is a matter of what the storage gains by it.

use std::time::Duration;

use crate::limits::{AZURE_PUT_INTERVAL, FILE_BESIDE_BYTES, FILE_PUTS_IN_FLIGHT, MAX_PUTS_IN_FLIGHT};

/// How the puts of a stream follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pacing {
    /// How many may be on their way at once: 1 to [`MAX_PUTS_IN_FLIGHT`].
    pub in_flight: usize,
    /// How many bytes of records must wait for a put to go out beside another one.
    pub beside_bytes: usize,
    /// The shortest time from one put to the next.
    pub interval: Duration,
}

impl Pacing {
    /// For storage that takes whatever it is sent.
    pub const UNBOUNDED: Self =
        Self { in_flight: MAX_PUTS_IN_FLIGHT, beside_bytes: 0, interval: Duration::ZERO };

    /// For files. A disk syncs one put after the other: more than one that is synced and one that is written gain
    /// nothing, and a small one does not either, which takes more along if it waits.
    pub const FILES: Self =
        Self { in_flight: FILE_PUTS_IN_FLIGHT, beside_bytes: FILE_BESIDE_BYTES, interval: Duration::ZERO };

    /// For page blobs in Azure, which take only so many requests a second.
    pub const AZURE: Self = Self { interval: AZURE_PUT_INTERVAL, ..Self::UNBOUNDED };
}
