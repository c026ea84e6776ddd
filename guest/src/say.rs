//! Lines for the journal: standard error, with the priority in front when systemd reads it.

use std::sync::LazyLock;

/// How much a line matters; the numbers are syslog's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something does not work and hotpair may act on it.
    Warning = 4,
    /// Something changed that matters to the pair.
    Notice = 5,
    /// What one reads when looking for something else.
    Info = 6,
}

/// Whether standard error goes to the journal, which reads `<5>` as a priority (sd-daemon(3)).
static JOURNAL: LazyLock<bool> = LazyLock::new(|| std::env::var_os("JOURNAL_STREAM").is_some());

/// Writes one line. A broken pipe must not stop a heartbeat, so nothing is made of a failure.
pub fn line(level: Level, text: &std::fmt::Arguments<'_>) {
    use std::io::Write;
    let mut out = std::io::stderr().lock();
    let _ = if *JOURNAL {
        writeln!(out, "<{}>{text}", level as u8)
    } else {
        writeln!(out, "hotpair-guest: {text}")
    };
}

/// Says something of [`Level::Warning`].
#[macro_export]
macro_rules! warning {
    ($($arg:tt)*) => { $crate::say::line($crate::say::Level::Warning, &format_args!($($arg)*)) };
}

/// Says something of [`Level::Notice`].
#[macro_export]
macro_rules! notice {
    ($($arg:tt)*) => { $crate::say::line($crate::say::Level::Notice, &format_args!($($arg)*)) };
}

/// Says something of [`Level::Info`].
#[macro_export]
macro_rules! info {
    ($($arg:tt)*) => { $crate::say::line($crate::say::Level::Info, &format_args!($($arg)*)) };
}
