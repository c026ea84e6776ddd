//! The listener that Prometheus scrapes: `GET /metrics` over HTTP on `host.metrics`, and nothing else.
//!
//! It is the one door of the controller that strangers may knock at, so everything about it is bounded: how many come at
//! once, how much of a request is read, and how long one may take. It can change nothing.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Controller;

/// What the metrics are written in: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 8;
/// How long a connection may last, whatever it does.
const LONGEST: Duration = Duration::from_secs(15);
/// How long it may take to say what it wants.
const HEADERS: Duration = Duration::from_secs(5);
/// Bytes of a request that are read at most.
const LARGEST_HEADERS: usize = 16 << 10;

/// Listens. Called before anything else is done: an address that cannot be had is a reason not to begin.
pub(super) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until it is aborted.
pub(super) async fn serve(listener: TcpListener, controller: Controller) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let controller = controller.clone();
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(LONGEST, talk(stream, controller)).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: trying again at once would only heat the room.
                tracing::warn!("nobody can be told the metrics: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn talk(stream: TcpStream, controller: Controller) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let controller = controller.clone();
        async move { Ok::<_, Infallible>(answer(&request, &controller).await) }
    });
    // A scraper comes every few seconds: a connection that stays open would only hold a place.
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(LARGEST_HEADERS)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = connection.await {
        tracing::debug!("a scrape ended early: {error}");
    }
}

async fn answer(request: &Request<Incoming>, controller: &Controller) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match controller.metrics().await {
            Ok(text) => reply(StatusCode::OK, OPEN_METRICS, text),
            Err(refusal) => reply(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{refusal}\n")),
        },
        (&Method::GET, _) => reply(StatusCode::NOT_FOUND, PLAIN, "the metrics are at /metrics\n".to_owned()),
        _ => {
            let mut refused =
                reply(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "this can only be read\n".to_owned());
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            refused
        }
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

fn reply(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
