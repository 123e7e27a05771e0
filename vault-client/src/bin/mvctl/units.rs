//! Sizes and times, as they are written on the command line and as they are shown.

use std::fmt::Write;
use std::time::Duration;

use vault_client::Timestamp;

const SIZES: [(&str, u64); 12] = [
    ("", 1),
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("PB", 1_000_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
];

const TIMES_MS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

/// A whole number and a unit that is one of these.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A size in bytes: a whole number, with a unit such as `KiB` or `MB` where wanted.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    parse(text, &SIZES)
        .ok_or_else(|| "give a whole number of bytes, or one with a unit, such as 64MiB or 8GiB".to_owned())
}

/// A size of something that is held in memory.
pub(crate) fn memory_size(text: &str) -> Result<usize, String> {
    let bytes = size(text)?;
    let most = 1 << 30;
    usize::try_from(bytes).ok().filter(|bytes| (1..=most).contains(bytes)).ok_or("give 1 byte to 1GiB".into())
}

/// A duration: a whole number and a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let ms = parse(text, &TIMES_MS);
    ms.map(Duration::from_millis)
        .ok_or_else(|| "give a whole number and a unit, such as 500ms, 30s, 2m, 12h or 30d".to_owned())
}

/// A number that may be taken away: `none`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limit(pub(crate) Option<u64>);

/// A size, or `none`.
pub(crate) fn size_limit(text: &str) -> Result<Limit, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    size(text).map(|bytes| Limit(Some(bytes))).map_err(|error| format!("{error}, or `none`"))
}

/// A time in seconds, or `none`: a number alone is one of seconds.
pub(crate) fn seconds_limit(text: &str) -> Result<Limit, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    if let Ok(seconds) = text.parse() {
        return Ok(Limit(Some(seconds)));
    }
    let duration = duration(text).map_err(|error| format!("{error}, or seconds, or `none`"))?;
    if duration.subsec_millis() > 0 {
        return Err("give whole seconds".to_owned());
    }
    Ok(Limit(Some(duration.as_secs())))
}

/// A point in time, or so long ago.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    At(Timestamp),
    Ago(Duration),
}

impl When {
    /// The point in time, by this machine's clock.
    pub(crate) fn timestamp(self) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(duration) => {
                let now = u64::try_from(now().as_millisecond()).unwrap_or_default();
                Timestamp(now.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
            }
        }
    }
}

/// RFC 3339, ms since 1970, or a duration back from now.
pub(crate) fn when(text: &str) -> Result<When, String> {
    if let Ok(ms) = text.parse() {
        return Ok(When::At(Timestamp(ms)));
    }
    if let Ok(ago) = duration(text) {
        return Ok(When::Ago(ago));
    }
    let time =
        text.parse::<jiff::Timestamp>().ok().and_then(|time| u64::try_from(time.as_millisecond()).ok());
    time.map(|ms| When::At(Timestamp(ms))).ok_or_else(|| {
        "give a time such as 2026-01-31T12:00:00Z, ms since 1970, or so long ago, such as 15m".to_owned()
    })
}

/// The wall clock.
pub(crate) fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// A point in time as RFC 3339, to the millisecond.
pub(crate) fn shown_time(ms: u64) -> String {
    let mut text = String::new();
    write_time(ms, &mut text);
    text
}

/// The same, behind what stands in `text`.
pub(crate) fn write_time(ms: u64, text: &mut String) {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    // Writing to a string does not fail.
    let _ = match time {
        Some(time) => write!(text, "{time:.3}"),
        None => write!(text, "{ms}"),
    };
}

/// A number of things, as people say it.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A size as people read it.
pub(crate) fn shown_size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// A size as it could be given again, where that is short; else as people read it.
pub(crate) fn shown_exact_size(bytes: u64) -> String {
    let unit = SIZES[7..].iter().rev().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    unit.map_or_else(|| format!("{bytes} B"), |(name, factor)| format!("{} {name}", bytes / factor))
}

/// A duration as people read it.
pub(crate) fn shown_seconds(seconds: u64) -> String {
    let ms = seconds.saturating_mul(1_000);
    let unit = TIMES_MS[1..5].iter().rev().find(|(_, factor)| ms >= *factor && ms.is_multiple_of(*factor));
    unit.map_or_else(|| format!("{seconds}s"), |(name, factor)| format!("{}{name}", ms / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_or_none() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4_096),
            ("8GiB", 8 << 30),
            ("8 gib", 8 << 30),
            ("1KB", 1_000),
            ("5B", 5),
            ("1PiB", 1 << 50),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "GiB", "-1", "1.5GiB", "1G1B", "1 GiB ago", "20000PiB", "99999999999999999999"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(size_limit("none"), Ok(Limit(None)));
    }

    #[test]
    fn times_are_durations_or_points() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2w"), Ok(Duration::from_secs(1_209_600)));
        assert!(duration("30").is_err() && duration("1y").is_err());
        assert_eq!(seconds_limit("30d"), Ok(Limit(Some(2_592_000))));
        assert_eq!(seconds_limit("90"), Ok(Limit(Some(90))));
        assert!(seconds_limit("1500ms").is_err());
        assert_eq!(when("1767225600000"), Ok(When::At(Timestamp(1_767_225_600_000))));
        assert_eq!(when("2026-01-01T01:00:00+01:00"), Ok(When::At(Timestamp(1_767_225_600_000))));
        assert_eq!(when("15m"), Ok(When::Ago(Duration::from_secs(900))));
        assert!(when("yesterday").is_err());
    }

    #[test]
    fn what_is_shown_can_be_read() {
        assert_eq!(shown_time(1_767_225_600_007), "2026-01-01T00:00:00.007Z");
        assert_eq!(shown_exact_size(8 << 30), "8 GiB");
        assert_eq!(shown_exact_size(1_000), "1000 B");
        assert_eq!(shown_seconds(2_592_000), "30d");
        assert_eq!(shown_seconds(90), "90s");
    }
}
