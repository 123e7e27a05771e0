//! The wall clock and chance, as far as the client needs them: for epochs, ids and pauses.

use std::time::{Duration, SystemTime};

use vault_format::ids::Timestamp;

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "the one place that asks for it")]
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// Random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

/// Between half of `duration` and all of it, so that many who wait do not come again at once.
pub(crate) fn jitter(duration: Duration) -> Duration {
    let [byte] = random();
    duration / 2 + duration * u32::from(byte) / 512
}
