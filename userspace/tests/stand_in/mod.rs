//! What stands in for a controller: answers each request as the test wants and remembers what was asked.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use crate::ran::{Ran, hotpair};

pub(crate) struct Controller {
    directory: tempfile::TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Controller {
    /// `answer` gets a request's method and path; requests may come at the same time.
    pub(crate) fn new(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Controller {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let listener = UnixListener::bind(directory.path().join("api.sock")).expect("a socket");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        Controller { directory, asked }
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory().join("api.sock")
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = hotpair();
        command.arg("--socket").arg(self.socket()).args(arguments).stdin(Stdio::null());
        command.output().expect("it runs").into()
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

fn serve(mut stream: UnixStream, log: &Mutex<Vec<String>>, answer: &dyn Fn(&str) -> String) {
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() {
        return;
    }
    let asked = line.trim_end_matches(" HTTP/1.1\r\n").to_owned();
    log.lock().expect("no panic").push(asked.clone());
    while reader.read_line(&mut line).is_ok() && !line.ends_with("\r\n\r\n") {}
    let _ = stream.write_all(answer(&asked).as_bytes());
}

/// An answer in HTTP, with JSON.
pub(crate) fn http(status: u16, body: &impl serde::Serialize) -> String {
    let body = serde_json::to_string(body).expect("JSON");
    let length = body.len();
    format!(
        "HTTP/1.1 {status} So\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}
