//! Times as people say them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, Unix milliseconds.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How long ago, in one unit: `45 s`, `3 min`, `5 h`, `12 d`. A time to come (clocks are set) is `0 s`.
pub(super) fn ago(at_ms: u64, now_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(at_ms) / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `2026-11-22 20:01:13 UTC`; with milliseconds if wanted.
pub(super) fn date(at_ms: u64, with_ms: bool) -> String {
    let Some(at) = UNIX_EPOCH.checked_add(Duration::from_millis(at_ms)) else { return "?".to_owned() };
    // The formatter knows no year after 9999.
    if at_ms >= 253_402_300_800_000 {
        return "?".to_owned();
    }
    let text = if with_ms {
        humantime::format_rfc3339_millis(at).to_string()
    } else {
        humantime::format_rfc3339_seconds(at).to_string()
    };
    text.replace('T', " ").replace('Z', " UTC")
}

/// A short time in the unit that fits: `850 µs`, `9.3 ms`, `1.25 s`.
pub(super) fn short(microseconds: f64) -> String {
    match microseconds {
        us if us < 10.0 => format!("{us:.1} µs"),
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 1_000_000.0 => format!("{:.1} ms", us / 1_000.0),
        us => format!("{:.2} s", us / 1_000_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_in_the_unit_that_fits() {
        for (seconds, shown) in
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (200_000, "2 d")]
        {
            assert_eq!(ago(0, seconds * 1000), shown);
        }
        assert_eq!(ago(5_000, 1_000), "0 s", "a clock that was set back");
        for (us, shown) in [(1.25, "1.2 µs"), (850.4, "850 µs"), (9_320.0, "9.3 ms"), (1_250_000.0, "1.25 s")]
        {
            assert_eq!(short(us), shown);
        }
        assert_eq!(date(1_795_377_673_123, true), "2026-11-22 20:01:13.123 UTC");
        assert_eq!(date(1_795_377_673_123, false), "2026-11-22 20:01:13 UTC");
        assert_eq!(date(u64::MAX, false), "?");
    }
}
