//! Times with units.

use std::time::Duration;

/// Reads a time. `Err` holds what is wrong and what to write instead.
pub(super) fn parse(text: &str) -> Result<Duration, (String, String)> {
    let trimmed = text.trim();
    if !trimmed.is_empty() && trimmed.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err((
            format!("{text:?} has no unit"),
            format!("write the unit with it: \"{trimmed}ms\" or \"{trimmed}s\""),
        ));
    }
    humantime::parse_duration(trimmed).map_err(|error| {
        let what = match error {
            humantime::DurationError::UnknownUnit { unit, .. } => format!("{unit:?} is no unit of time"),
            _ => format!("{text:?} is not a time"),
        };
        (what, "write a number and its unit (us, ms, s, min, h): \"8ms\", \"1s 500ms\"".to_owned())
    })
}

/// A time as it would be written in the file.
pub(super) fn show(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}
