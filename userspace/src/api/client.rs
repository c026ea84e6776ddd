//! The API's client side: what the verbs ask with.
//!
//! One request a connection; the socket is on this host, so nothing is worth keeping open. It must never wait for ever,
//! and it says for each way to fail what a person can do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::types::{API_VERSION, Done, Flows, Record, Refusal, Show, Status};

/// How long an answer may take. The controller itself gives up on its engine after ten seconds.
const PATIENCE: Duration = Duration::from_secs(15);
/// The most that is read of an answer.
const LARGEST: usize = 64 << 20;

/// Why a request brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket, or nobody behind it.
    #[error(
        "the controller is not running: nobody listens on {}. Start it with `systemctl start hotpair` or `hotpair run`, or name \
         another socket with --socket",
        socket.display()
    )]
    NotRunning {
        /// Where was asked.
        socket: PathBuf,
    },
    /// The socket belongs to others.
    #[error(
        "this user may not talk to the controller on {}: its owner and group may. Use sudo, or join that group",
        socket.display()
    )]
    NotAllowed {
        /// Where was asked.
        socket: PathBuf,
    },
    /// Another trouble with the connection.
    #[error("cannot talk to the controller on {}: {why}. `journalctl -u hotpair` may say more", socket.display())]
    Broken {
        /// Where was asked.
        socket: PathBuf,
        /// What happened.
        why: String,
    },
    /// Silence.
    #[error(
        "the controller on {} has not answered within {} s. It hangs: look at `journalctl -u hotpair`, then restart it \
         (the data plane goes on meanwhile)",
        socket.display(),
        PATIENCE.as_secs()
    )]
    Silent {
        /// Where was asked.
        socket: PathBuf,
    },
    /// It speaks another version.
    #[error(
        "the controller speaks API version {theirs} and this hotpair version {API_VERSION}: restart the controller after an \
         upgrade, or use the hotpair it was started from"
    )]
    OtherVersion {
        /// Their version.
        theirs: u64,
    },
    /// Something answers that is no controller of any known version.
    #[error("what answers on {} is not understood: {why}. Is it a hotpair controller of this version?", socket.display())]
    NotUnderstood {
        /// Where was asked.
        socket: PathBuf,
        /// What is wrong with the answer.
        why: String,
    },
    /// It said no, and has changed nothing.
    #[error("{refusal}")]
    Refused {
        /// HTTP status: 400 and 404 for a wrong question, others for one that cannot be granted now.
        status: u16,
        /// Its reasons.
        refusal: Refusal,
    },
}

/// Asks a controller.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Asks the controller that listens here.
    #[must_use]
    pub fn new(socket: &Path) -> Client {
        Client { socket: socket.to_owned() }
    }

    /// How everything is.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.ask(Method::GET, "/v1/status").await
    }

    /// One pair.
    ///
    /// # Errors
    /// See [`ClientError`]; an unknown pair is refused with 404.
    pub async fn show(&self, pair: &str) -> Result<Show, ClientError> {
        self.ask(Method::GET, &format!("/v1/pairs/{}", encoded(pair))).await
    }

    /// A pair's TCP connections, at most `limit` one by one.
    ///
    /// # Errors
    /// See [`ClientError`]; an unknown pair is refused with 404.
    pub async fn flows(&self, pair: &str, limit: usize) -> Result<Flows, ClientError> {
        self.ask(Method::GET, &format!("/v1/pairs/{}/flows?limit={limit}", encoded(pair))).await
    }

    /// What happened, newest first, at most `limit` records.
    ///
    /// # Errors
    /// See [`ClientError`]; an unknown pair is refused with 404.
    pub async fn history(&self, pair: Option<&str>, limit: usize) -> Result<Vec<Record>, ClientError> {
        let pair = pair.map(|pair| format!("&pair={}", encoded(pair))).unwrap_or_default();
        self.ask(Method::GET, &format!("/v1/history?limit={limit}{pair}")).await
    }

    /// Asks for something to be done: `switchover`, `failover`, `pause`, `resume`, `replace` (which may name a slot).
    ///
    /// # Errors
    /// See [`ClientError`]. When the controller refuses, nothing has changed.
    pub async fn request(&self, pair: &str, what: &str, slot: Option<u8>) -> Result<Done, ClientError> {
        let slot = slot.map(|slot| format!("?slot={slot}")).unwrap_or_default();
        self.ask(Method::POST, &format!("/v1/pairs/{}/{what}{slot}", encoded(pair))).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, ClientError> {
        let answer = tokio::time::timeout(PATIENCE, self.exchange(method, path)).await;
        let (status, body) = answer.map_err(|_| ClientError::Silent { socket: self.socket.clone() })??;
        if status.is_success() {
            // A newer controller may have changed anything but this field.
            if let Some(theirs) = version(&body).filter(|theirs| *theirs != u64::from(API_VERSION)) {
                return Err(ClientError::OtherVersion { theirs });
            }
            return serde_json::from_slice(&body).map_err(|error| self.not_understood(&error.to_string()));
        }
        match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => Err(ClientError::Refused { status: status.as_u16(), refusal }),
            Err(_) => Err(self.not_understood(&format!("it answers {status} without a reason"))),
        }
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), ClientError> {
        let broken = |why: String| ClientError::Broken { socket: self.socket.clone(), why };
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            // A socket file without a listener refuses the connection.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { socket: self.socket.clone() }
            }
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed { socket: self.socket.clone() },
            _ => broken(error.to_string()),
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(error.to_string()))?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "hotpair")
            .body(Empty::<Bytes>::new())
            .map_err(|error| broken(error.to_string()))?;
        let answer = sender.send_request(request).await.map_err(|error| {
            if error.is_parse() {
                self.not_understood("it does not answer in HTTP")
            } else {
                broken(format!("the connection broke: {error}"))
            }
        })?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LARGEST)
            .collect()
            .await
            .map_err(|error| broken(format!("the answer broke off: {error}")))?;
        connection.abort();
        Ok((head.status, body.to_bytes()))
    }

    fn not_understood(&self, why: &str) -> ClientError {
        ClientError::NotUnderstood { socket: self.socket.clone(), why: why.to_owned() }
    }
}

fn version(body: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Version {
        api: u64,
    }
    serde_json::from_slice::<Version>(body).ok().map(|version| version.api)
}

/// A pair's name as part of a path or query: whatever a person typed must reach the controller as one name.
fn encoded(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn a_name_stays_one_name_whatever_is_in_it() {
        assert_eq!(encoded("web-1"), "web-1");
        assert_eq!(encoded("../status?x=ü"), "%2E%2E%2Fstatus%3Fx%3D%C3%BC");
    }
}
