//! A redis client: many writes at once, and every answer looked at. A number that is answered twice, out of order or not
//! at all shows at once, because each INCR must answer with the next one.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::{Book, Broken};

/// An INCR and a SET each, sent before the first is answered.
const PIPELINED: u64 = 16;
/// Keys that are set, one after the other and again.
const KEYS: u64 = 64;

/// What has been answered.
pub(super) struct Written {
    counter: String,
    keys: Vec<String>,
    /// INCRs answered.
    incremented: u64,
    /// SETs answered; the n-th one sets key `n % KEYS` to n.
    set: u64,
}

impl Written {
    /// Nothing, to keys whose names begin so.
    pub(super) fn new(prefix: &str) -> Written {
        let keys = (0..KEYS).map(|key| format!("{prefix}:{key}")).collect();
        Written { counter: format!("{prefix}:counter"), keys, incremented: 0, set: 0 }
    }

    /// Writes that were answered.
    pub(super) fn acknowledged(&self) -> u64 {
        self.incremented + self.set
    }

    /// How many writes were answered and are not there, as the redis at this connection says.
    pub(super) fn missing(&self, stream: &TcpStream) -> Result<u64, Broken> {
        let mut replies = BufReader::new(stream);
        let keys: Vec<&str> = self.keys.iter().map(String::as_str).collect();
        ask(stream, &command(&[&["GET", &self.counter]]))?;
        let mut lost = self.incremented.saturating_sub(bulk(&mut replies)?);
        ask(stream, &command(&[&[&["MGET"], &keys[..]].concat()]))?;
        let count = line(&mut replies)?;
        if count != format!("*{KEYS}") {
            return Err(Broken::Wrong(format!("answer {count:?} to MGET")));
        }
        for key in 0..KEYS {
            let there = bulk(&mut replies)?;
            // The last n up to `set` that this key was set to.
            let last = self.set.saturating_sub((self.set + KEYS - key) % KEYS);
            lost += u64::from(there < last);
        }
        Ok(lost)
    }
}

/// Writes until it is told to stop.
pub(super) fn run(
    stream: &TcpStream,
    every: Duration,
    written: &mut Written,
    book: &Book,
    stop: &AtomicBool,
) -> Result<(), Broken> {
    let mut replies = BufReader::new(stream);
    while !stop.load(Ordering::Relaxed) {
        let since = Instant::now();
        let done = burst(stream, &mut replies, written);
        if done.is_ok() {
            book.came(since, written.acknowledged());
        } else {
            book.gave_up(since);
        }
        done?;
        std::thread::sleep(every);
    }
    Ok(())
}

fn burst(
    stream: &TcpStream,
    replies: &mut BufReader<&TcpStream>,
    written: &mut Written,
) -> Result<(), Broken> {
    let mut request = String::new();
    for number in written.set + 1..=written.set + PIPELINED {
        let key = &written.keys[(number % KEYS) as usize];
        request += &command(&[&["INCR", &written.counter], &["SET", key, &number.to_string()]]);
    }
    ask(stream, &request)?;
    for _ in 0..PIPELINED {
        expect(replies, &format!(":{}", written.incremented + 1))?;
        written.incremented += 1;
        expect(replies, "+OK")?;
        written.set += 1;
    }
    Ok(())
}

/// One question and its answer.
pub(super) fn ping(stream: &TcpStream) -> Result<(), Broken> {
    ask(stream, &command(&[&["PING"]]))?;
    expect(&mut BufReader::new(stream), "+PONG")
}

/// Commands in redis's protocol.
fn command(commands: &[&[&str]]) -> String {
    commands.iter().fold(String::new(), |mut text, words| {
        let _ = write!(text, "*{}\r\n", words.len());
        for word in *words {
            let _ = write!(text, "${}\r\n{word}\r\n", word.len());
        }
        text
    })
}

fn ask(mut stream: &TcpStream, request: &str) -> Result<(), Broken> {
    Ok(stream.write_all(request.as_bytes()).context("asking")?)
}

fn line(replies: &mut BufReader<&TcpStream>) -> Result<String, Broken> {
    let mut line = String::new();
    let read = replies.read_line(&mut line).context("waiting for an answer")?;
    if read == 0 {
        return Err(anyhow!("closed before the answer").into());
    }
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(Broken::Wrong(format!("half an answer: {line:?}"))),
    }
}

fn expect(replies: &mut BufReader<&TcpStream>, answer: &str) -> Result<(), Broken> {
    let line = line(replies)?;
    if line == answer { Ok(()) } else { Err(Broken::Wrong(format!("answer {line:?} instead of {answer:?}"))) }
}

/// A number in a bulk string; 0 for none.
fn bulk(replies: &mut BufReader<&TcpStream>) -> Result<u64, Broken> {
    let head = line(replies)?;
    if head == "$-1" {
        return Ok(0);
    }
    let value = line(replies)?;
    value.parse().map_err(|_| Broken::Wrong(format!("answer {head:?} {value:?} instead of a number")))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A connection whose other end has said this and closed.
    fn said(text: &'static str) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (mut other, _) = listener.accept().expect("connected");
        other.write_all(text.as_bytes()).expect("room");
        // Closed in order: what was asked is read first, else the kernel resets.
        std::thread::spawn(move || {
            let _ = other.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut other, &mut std::io::sink());
        });
        stream
    }

    fn replies(counter: u64, keys: impl Fn(u64) -> u64) -> &'static str {
        let bulk = |number: u64| format!("${}\r\n{number}\r\n", number.to_string().len());
        let keys: String = (0..KEYS).map(|key| bulk(keys(key))).collect();
        format!("{}*{KEYS}\r\n{keys}", bulk(counter)).leak()
    }

    #[test]
    fn a_write_that_was_answered_and_is_not_there_is_missed() {
        // 64 * 2 and two more: keys 1 and 2 have been set three times.
        let written = Written { incremented: 130, set: 130, ..Written::new("x") };
        let there = |key| match key {
            0 => 128,
            1 | 2 => 128 + key,
            _ => 64 + key,
        };
        let missing = |text| written.missing(&said(text)).ok();
        assert_eq!(missing(replies(130, there)), Some(0));
        assert_eq!(missing(replies(127, there)), Some(3), "of the counter");
        assert_eq!(
            missing(replies(131, |key| if key == 2 { 66 } else { there(key) })),
            Some(1),
            "of the last key"
        );
        assert_eq!(missing(replies(130, |_| 0)), Some(64), "everything");
        assert_eq!(missing("$-1\r\n*1\r\n"), None, "nothing that can be counted");
    }

    #[test]
    fn an_answer_that_comes_twice_is_wrong() {
        let mut written = Written::new("x");
        let stream = said(":1\r\n+OK\r\n:1\r\n+OK\r\n");
        let end = burst(&stream, &mut BufReader::new(&stream), &mut written);
        assert!(matches!(end, Err(Broken::Wrong(why)) if why.contains(":2")));
        assert_eq!(written.acknowledged(), 2);
    }
}
