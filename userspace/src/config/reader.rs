//! Walks the document, takes every key once, and remembers what is wrong on the way.
//!
//! The rule that makes all errors appear at once: a method that returns `None` has said why, and its caller goes on with
//! the next key.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors, Lines};
use super::schema::{self, Key};
use super::time;

/// The file and what is wrong with it.
pub(super) struct Reader<'t> {
    text: &'t str,
    path: &'t Path,
    lines: Lines<'t>,
    errors: RefCell<Vec<ConfigError>>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str, path: &'t Path) -> Reader<'t> {
        Reader { text, path, lines: Lines::new(text), errors: RefCell::default() }
    }

    /// The document. What is no TOML is all that is said then: what the rest means cannot be known.
    pub(super) fn document(&self) -> Option<Spanned<DeTable<'t>>> {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            return Some(document);
        }
        let mut last_line = 0;
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            // What follows on the same line is mostly a consequence.
            let line = self.lines.line(span.start.min(self.text.len()));
            if line != last_line {
                last_line = line;
                let way_out = "write TOML: name = \"value\", sections as [host] and [[pair]]";
                self.say(span, String::new(), error.message().to_owned(), way_out.to_owned());
            }
        }
        None
    }

    /// A table as a section of the schema.
    pub(super) fn section<'r>(
        &'r self,
        table: &'r Spanned<DeTable<'t>>,
        name: &'static str,
    ) -> Section<'r, 't> {
        Section {
            reader: self,
            schema: name,
            path: name.to_owned(),
            table: table.get_ref(),
            span: table.span(),
            taken: Vec::new(),
        }
    }

    fn say(&self, span: Range<usize>, key: String, what: String, way_out: String) {
        self.errors.borrow_mut().push(self.lines.error(self.path, span, key, what, way_out));
    }

    pub(super) fn into_errors(self) -> Option<ConfigErrors> {
        ConfigErrors::new(self.errors.into_inner())
    }
}

/// A table of which keys are taken.
pub(super) struct Section<'r, 't> {
    reader: &'r Reader<'t>,
    schema: &'static str,
    path: String,
    table: &'r DeTable<'t>,
    span: Range<usize>,
    taken: Vec<&'static str>,
}

impl<'r, 't> Section<'r, 't> {
    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The value of a key, if it is written.
    pub(super) fn get(&mut self, name: &'static str) -> Option<Value<'r, 't>> {
        let key = schema::find(self.schema, name);
        self.taken.push(name);
        let value = self.table.get(name)?;
        Some(Value {
            reader: self.reader,
            key,
            path: self.path_of(name),
            value: value.get_ref(),
            span: value.span(),
        })
    }

    /// The value of a key that must be written.
    pub(super) fn require(&mut self, name: &'static str) -> Option<Value<'r, 't>> {
        let value = self.get(name);
        if value.is_none() {
            let Key { form, example, .. } = schema::find(self.schema, name);
            self.missing(name, &format!("add {name} = {example} ({form})"));
        }
        value
    }

    /// Says that a key is missing from this section.
    pub(super) fn missing(&self, name: &str, way_out: &str) {
        self.reader.say(self.header(), self.path_of(name), "is missing".to_owned(), way_out.to_owned());
    }

    /// What to point at for the section as a whole: its first line.
    fn header(&self) -> Range<usize> {
        if self.path.is_empty() { 0..0 } else { self.span.clone() }
    }

    /// Every table of an array of tables, `[[name]]`.
    pub(super) fn tables(&mut self, name: &'static str) -> Vec<Section<'r, 't>> {
        let Some(value) = self.get(name) else { return Vec::new() };
        match value.value {
            DeValue::Array(array) if array.is_empty() => {
                value.refuse("is an empty list", &format!("add a section [[{name}]]"));
                Vec::new()
            }
            DeValue::Array(array) => (1..)
                .zip(array)
                .filter_map(|(number, element)| {
                    let path = format!("{name}[{number}]");
                    value.with(element, path).section()
                })
                .collect(),
            DeValue::Table(_) => {
                value.refuse(
                    "is one table, and must be a list of them",
                    &format!("write [[{name}]], with two brackets"),
                );
                value.section().into_iter().collect()
            }
            _ => {
                value.wrong_type();
                Vec::new()
            }
        }
    }

    /// Names the section by something that a person gave it instead of by its number.
    pub(super) fn rename(&mut self, path: String) {
        self.path = path;
    }

    /// Says which keys nobody has taken.
    pub(super) fn finish(self) {
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if self.taken.contains(&name) {
                continue;
            }
            let (what, way_out) = self.unknown(name);
            self.reader.say(key.span(), self.path_of(name), what, way_out);
        }
    }

    fn unknown(&self, name: &str) -> (String, String) {
        if schema::NOT_YET.contains(&(self.schema, name)) {
            return ("is not supported in this version".to_owned(), "take it out".to_owned());
        }
        let near = |candidate: &str| strsim::jaro_winkler(&name.to_lowercase(), candidate);
        let suggestion = schema::names(self.schema)
            .map(|candidate| (near(candidate), candidate))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, candidate)| format!("did you mean {candidate}? "));
        // A key at the wrong place is not a typing error.
        let elsewhere = schema::SCHEMA
            .iter()
            .find(|key| key.name == name && !key.section.is_empty())
            .map(|key| format!("it belongs to {}; ", shown(key.section)));
        let names = schema::names(self.schema).collect::<Vec<_>>().join(", ");
        (
            format!("is not a key of {}", shown(self.schema)),
            format!("{}the keys here are: {names}", elsewhere.or(suggestion).unwrap_or_default()),
        )
    }
}

/// A section as it is written in the file.
fn shown(section: &str) -> String {
    match section {
        "" => "the file's top level".to_owned(),
        "pair" => "[[pair]]".to_owned(),
        section => match section.strip_prefix("pair.") {
            Some(table) => format!("{table} of a [[pair]]"),
            None => format!("[{section}]"),
        },
    }
}

/// A value and where it is written.
pub(super) struct Value<'r, 't> {
    reader: &'r Reader<'t>,
    key: &'static Key,
    path: String,
    value: &'r DeValue<'t>,
    span: Range<usize>,
}

impl<'r, 't> Value<'r, 't> {
    fn with(&self, element: &'r Spanned<DeValue<'t>>, path: String) -> Value<'r, 't> {
        Value { reader: self.reader, key: self.key, path, value: element.get_ref(), span: element.span() }
    }

    /// Says what is wrong with it.
    pub(super) fn refuse(&self, what: &str, way_out: &str) {
        self.reader.say(self.span.clone(), self.path.clone(), what.to_owned(), way_out.to_owned());
    }

    /// Its line in the file, from 1.
    pub(super) fn line(&self) -> usize {
        self.reader.lines.line(self.span.start)
    }

    fn wrong_type(&self) {
        let Key { name, form, example, .. } = self.key;
        let is = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let way_out =
            if example.is_empty() { format!("write {form}") } else { format!("write {name} = {example}") };
        self.refuse(&format!("must be {form}, and is {is}"), &way_out);
    }

    /// What is below it, if it is a table.
    pub(super) fn section(&self) -> Option<Section<'r, 't>> {
        let DeValue::Table(table) = self.value else {
            self.wrong_type();
            return None;
        };
        let schema = if self.key.section.is_empty() { self.key.name } else { subsection(self.key) };
        Some(Section {
            reader: self.reader,
            schema,
            path: self.path.clone(),
            table,
            span: self.span.clone(),
            taken: Vec::new(),
        })
    }

    /// A string that is not empty.
    pub(super) fn text(&self) -> Option<&'r str> {
        match self.value {
            DeValue::String(text) if text.trim().is_empty() => {
                let Key { name, example, .. } = self.key;
                self.refuse("is empty", &format!("write {name} = {example}"));
                None
            }
            DeValue::String(text) => Some(text),
            _ => {
                self.wrong_type();
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        if let DeValue::Boolean(value) = self.value {
            return Some(*value);
        }
        self.wrong_type();
        None
    }

    /// One of these words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let words = choices.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
            self.refuse(&format!("{text:?} is none of its words"), &format!("write {words}"));
        }
        found
    }

    /// A time within a range.
    pub(super) fn time(&self, range: &RangeInclusive<Duration>) -> Option<Duration> {
        if let DeValue::Integer(number) = self.value {
            let (Key { name, .. }, number) = (self.key, number.as_str());
            let way_out = format!("write the unit with it, as a string: {name} = \"{number}ms\"");
            self.refuse(&format!("{number} has no unit"), &way_out);
            return None;
        }
        let text = self.text()?;
        match time::parse(text) {
            Err((what, way_out)) => self.refuse(&what, &way_out),
            Ok(value) if !range.contains(&value) => {
                let (least, most) = (time::show(*range.start()), time::show(*range.end()));
                let what = if value < *range.start() { "too short" } else { "too long" };
                self.refuse(&format!("{text} is {what}"), &format!("write a time from {least} to {most}"));
            }
            Ok(value) => return Some(value),
        }
        None
    }

    /// A path; a relative one is relative to the configuration file.
    pub(super) fn file(&self) -> Option<PathBuf> {
        let text = self.text()?;
        if text.contains('\0') {
            self.refuse("contains a zero byte", "write a path");
            return None;
        }
        Some(self.reader.path.parent().unwrap_or(Path::new("")).join(text))
    }

    /// A list, each element with its own place; at least one.
    pub(super) fn list(&self) -> Option<Vec<Value<'r, 't>>> {
        let DeValue::Array(array) = self.value else {
            self.wrong_type();
            return None;
        };
        if array.is_empty() {
            let Key { name, example, .. } = self.key;
            self.refuse("is an empty list", &format!("write {name} = {example}"));
            return None;
        }
        Some(array.iter().map(|element| self.with(element, self.path.clone())).collect())
    }

    /// Program and arguments. A program given by a relative path is relative to the configuration file.
    pub(super) fn program(&self) -> Option<Vec<String>> {
        let elements = self.list()?;
        let mut words = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            let DeValue::String(word) = element.value else {
                element.refuse("every argument must be a string", "put it into quotes");
                continue;
            };
            if word.contains('\0') || (index == 0 && word.trim().is_empty()) {
                element.refuse("is not something that can be run", "write the program's path");
                continue;
            }
            words.push(if index == 0 && word.contains('/') {
                self.reader
                    .path
                    .parent()
                    .unwrap_or(Path::new(""))
                    .join(&**word)
                    .to_string_lossy()
                    .into_owned()
            } else {
                word.to_string()
            });
        }
        (words.len() == elements.len()).then_some(words)
    }

    /// An address of this host and a port, both in numbers.
    pub(super) fn socket_address(&self) -> Option<SocketAddr> {
        let text = self.text()?;
        let way_out = "write an address of this host and a port: \"127.0.0.1:9477\", \"[::1]:9477\"";
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => return Some(address),
            Ok(_) => self.refuse("port 0 is none that can be asked", way_out),
            Err(_) if text.parse::<IpAddr>().is_ok() => {
                self.refuse(&format!("{text:?} has no port"), way_out);
            }
            Err(_) => self.refuse(&format!("{text:?} is not an IP address and a port"), way_out),
        }
        None
    }

    /// An IP address; an IPv4 address written as IPv6 is the IPv4 address.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        let DeValue::String(text) = self.value else {
            self.refuse("every address must be a string", "put it into quotes: \"203.0.113.10\"");
            return None;
        };
        let parsed = text.parse::<IpAddr>().map(|ip| ip.to_canonical());
        if parsed.is_err() {
            let way_out = match text.split_once('/') {
                Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
                    format!("write the address without the prefix length: {address:?}")
                }
                _ => "write an IPv4 or IPv6 address, no name: \"203.0.113.10\", \"2001:db8::10\"".to_owned(),
            };
            self.refuse(&format!("{text:?} is not an IP address"), &way_out);
        }
        parsed.ok()
    }
}

/// The schema's section below a key.
fn subsection(key: &Key) -> &'static str {
    schema::SCHEMA
        .iter()
        .map(|candidate| candidate.section)
        .find(|section| {
            section.strip_prefix(key.section).and_then(|rest| rest.strip_prefix('.')) == Some(key.name)
        })
        .expect("a key that holds a table has its own keys in the schema")
}

/// The value, or the default unless something was wrong with what is written.
pub(super) fn or_default<'r, 't, T>(
    value: Option<Value<'r, 't>>,
    read: impl FnOnce(&Value<'r, 't>) -> Option<T>,
    default: T,
) -> Option<T> {
    match value {
        None => Some(default),
        Some(value) => read(&value),
    }
}
