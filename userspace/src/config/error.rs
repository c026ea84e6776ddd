//! What is wrong with a configuration, said so that it can be put right without looking anything up.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Line, from 1; 0 if the file could not be read at all.
    pub line: usize,
    /// Column in characters, from 1; 0 if the file could not be read at all.
    pub column: usize,
    /// Full path of the key, like `pair.web.heartbeat.timeout`; empty if it is about the file.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub way_out: String,
    /// The line and the number of characters that are meant.
    excerpt: Option<(String, usize)>,
}

impl std::error::Error for ConfigError {}

/// On one line: `file:line:column: key: what; way out`.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}; {}", self.what, self.way_out)
    }
}

/// Everything that is wrong with a configuration, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
}

impl ConfigErrors {
    /// At least one error; `None` for an empty list.
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Option<ConfigErrors> {
        errors.sort_by_key(|error| (error.line, error.column));
        (!errors.is_empty()).then_some(ConfigErrors { errors })
    }

    /// The errors, in the order of the file; at least one.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> ConfigErrors {
        let way_out = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "write one (packaging/hotpair.toml is an example) or name it with --config"
            }
            std::io::ErrorKind::PermissionDenied => "run as root, or let this user read it",
            _ => "make it a readable file",
        };
        ConfigErrors::about_the_file(path, format!("cannot be read: {error}"), way_out)
    }

    pub(super) fn not_text(path: &Path, error: &std::string::FromUtf8Error) -> ConfigErrors {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        let what = format!("is not UTF-8 text: line {line} has another encoding");
        ConfigErrors::about_the_file(path, what, "save it as UTF-8")
    }

    fn about_the_file(path: &Path, what: String, way_out: &str) -> ConfigErrors {
        ConfigErrors {
            errors: vec![ConfigError {
                file: path.to_owned(),
                line: 0,
                column: 0,
                key: String::new(),
                what,
                way_out: way_out.to_owned(),
                excerpt: None,
            }],
        }
    }
}

impl std::error::Error for ConfigErrors {}

/// For people: each error with the line it is about.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            write!(f, "{}", error.file.display())?;
            if error.line > 0 {
                write!(f, ":{}:{}", error.line, error.column)?;
            }
            if !error.key.is_empty() {
                write!(f, ": {}", error.key)?;
            }
            writeln!(f, ": {}", error.what)?;
            if let Some((line, width)) = &error.excerpt {
                let number = error.line.to_string();
                let margin = " ".repeat(number.len());
                let before = " ".repeat(error.column - 1);
                let marks = "^".repeat(*width);
                writeln!(f, " {number} | {line}")?;
                writeln!(f, " {margin} | {before}{marks}")?;
            }
            writeln!(f, "    {}", error.way_out)?;
        }
        match self.errors.len() {
            1 => write!(f, "The configuration has an error."),
            n => write!(f, "The configuration has {n} errors."),
        }
    }
}

/// Finds lines and columns in a text.
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn new(text: &'t str) -> Lines<'t> {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Lines { text, starts: std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect() }
    }

    /// Line from 1 of a byte offset.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// An error about these bytes of the text.
    pub(super) fn error(
        &self,
        file: &Path,
        span: Range<usize>,
        key: String,
        what: String,
        way_out: String,
    ) -> ConfigError {
        // A parser may point behind the end, or between the bytes of a character.
        let mut start = span.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let line = self.line(start);
        let line_start = self.starts[line - 1];
        let excerpt = self.text[line_start..].lines().next().unwrap_or_default();
        let column = self.text[line_start..start].chars().count() + 1;
        let end = span.end.clamp(start, line_start + excerpt.len().max(start - line_start));
        let width = self.text.get(start..end).map_or(1, |meant| meant.trim_end().chars().count()).max(1);
        // A tab is one column here, and is shown as one.
        let excerpt = excerpt.replace(|c: char| c.is_control(), " ");
        ConfigError {
            file: file.to_owned(),
            line,
            column,
            key,
            what,
            way_out,
            excerpt: Some((excerpt, width)),
        }
    }
}
