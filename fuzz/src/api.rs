//! The API: a request's bytes through the door and the router, and an answer's bytes as the verbs read them.

use std::time::Duration;

use hotpair::api::door::{Bounds, talk};
use hotpair::api::server::{Answers, ask, router};
use hotpair::api::types::{Done, Flows, Record, Refusal, Show, Status};
use hotpair::pair::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[derive(Clone)]
struct Engine;

fn no() -> Refusal {
    Refusal { what: "fuzz".into(), why: "no".into(), way_out: "none".into() }
}

impl Answers for Engine {
    async fn status(&self) -> Result<Status, Refusal> {
        Err(no())
    }

    async fn show(&self, pair: &str) -> Result<Option<Show>, Refusal> {
        if pair == "web" { Err(no()) } else { Ok(None) }
    }

    async fn flows(&self, _pair: &str, _limit: usize) -> Result<Option<Flows>, Refusal> {
        Ok(None)
    }

    async fn metrics(&self) -> Result<String, Refusal> {
        Err(no())
    }

    async fn request(&self, pair: &str, _request: Request) -> Result<Done, Refusal> {
        assert_eq!(pair, "web", "only what is known is asked for");
        Err(no())
    }

    fn history(&self, _pair: Option<&str>, _limit: usize) -> Vec<Record> {
        Vec::new()
    }

    fn knows(&self, pair: &str) -> bool {
        pair == "web"
    }
}

/// What comes on the socket, or what comes back on it.
pub fn api(bytes: &[u8]) {
    let _ = serde_json::from_slice::<Status>(bytes);
    let _ = serde_json::from_slice::<Show>(bytes);
    let _ = serde_json::from_slice::<Vec<Record>>(bytes);
    let _ = serde_json::from_slice::<Done>(bytes);
    let _ = serde_json::from_slice::<Refusal>(bytes);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let (here, mut there) = tokio::io::duplex(1 << 20);
        there.write_all(&bytes[..bytes.len().min(1 << 19)]).await.expect("room");
        there.shutdown().await.expect("half of it");
        let bounds = Bounds { places: 1, ask: Duration::from_secs(5), all: Duration::from_secs(5) };
        let router = router(Engine);
        talk(here, bounds, move |request| ask(router.clone(), request)).await;
        let mut answer = Vec::new();
        there.read_to_end(&mut answer).await.expect("an end");
        if !answer.is_empty() {
            assert!(answer.starts_with(b"HTTP/1.1 ") || answer.starts_with(b"HTTP/1.0 "), "{answer:?}");
        }
    });
}
