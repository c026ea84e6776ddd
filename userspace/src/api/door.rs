//! A bounded conversation in HTTP: what the API's socket and the metrics' port have in common.
//!
//! Whoever comes may be slow, silent, rude, or a thousand. One place each, one request a place, and an end to everything:
//! to how many are inside, to what is read of them, and to how long they may take. Nothing here knows what is asked.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::serve::Listener;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Bytes of a request's head that are read at most; more is answered with 431.
const LARGEST_HEAD: usize = 16 << 10;
/// What is still taken of somebody who has his answer and sends on, so that the answer is not lost with it.
const LARGEST_REST: u64 = 1 << 20;
/// How long that, and a last word to somebody who was too slow, may take.
const LAST_WORD: Duration = Duration::from_millis(100);

/// What one who comes in may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How many at a time; more wait in the kernel's queue.
    pub places: usize,
    /// How long it may take to say what is wanted.
    pub ask: Duration,
    /// How long all of it may take.
    pub all: Duration,
}

/// Lets them in until it is aborted.
pub(crate) async fn keep<L, B, A, R>(mut listener: L, bounds: Bounds, answer: A)
where
    L: Listener<Io: 'static>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>, Data: Send> + Send + 'static,
    A: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<B>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(bounds.places));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        // Waits a second when there are no descriptors left.
        let (stream, _) = listener.accept().await;
        let answer = answer.clone();
        tokio::spawn(async move {
            talk(stream, bounds, answer).await;
            drop(place);
        });
    }
}

/// Hears one request and answers it, within the bounds.
pub async fn talk<I, B, A, R>(stream: I, bounds: Bounds, answer: A)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>, Data: Send> + Send + 'static,
    A: Fn(Request<Incoming>) -> R + Send + Sync,
    R: Future<Output = Response<B>> + Send,
{
    let asked = AtomicBool::new(false);
    let service = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        let answer = answer(request);
        Box::pin(async move { Ok::<_, Infallible>(answer.await) })
    });
    // One request each: a connection that stays open would only hold a place. Who has asked may close its sending half.
    let mut connection = http1::Builder::new()
        .keep_alive(false)
        .half_close(true)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut whole = std::pin::pin!(std::future::poll_fn(|context| connection.poll_without_shutdown(context)));
    let mut done = timeout(bounds.ask.min(bounds.all), &mut whole).await.ok();
    let in_time = done.is_some() || asked.load(Ordering::Relaxed);
    if done.is_none() && in_time {
        done = timeout(bounds.all.saturating_sub(bounds.ask), whole).await.ok();
    }
    if let Some(Err(error)) = &done {
        tracing::debug!("a request ended early: {error}");
    }
    let mut stream = connection.into_parts().io.into_inner();
    let last = async {
        if !in_time {
            stream.write_all(TOO_SLOW).await?;
        }
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LARGEST_REST), &mut tokio::io::sink()).await
    };
    let _ = timeout(LAST_WORD, last).await;
}

/// For whoever has not asked in time.
const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\
    {\"what\":\"request\",\"why\":\"it did not arrive in time\",\"way_out\":\"send it whole, at once\"}";
