//! The listener that Prometheus scrapes: `GET /metrics` over HTTP on `host.metrics`, and nothing else.
//!
//! It is the one door of the controller that strangers may knock at, so everything about it is bounded: how many come at
//! once, how much of a request is read, and how long one may take. It can change nothing.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;

use super::Controller;
use crate::api::door::{self, Bounds};
use crate::api::server::Answers;

/// What the metrics are written in: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A scraper comes every few seconds, and alone.
const BOUNDS: Bounds = Bounds { places: 8, ask: Duration::from_secs(5), all: Duration::from_secs(15) };

/// Listens. Called before anything else is done: an address that cannot be had is a reason not to begin.
pub(super) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until it is aborted.
pub(super) async fn serve(listener: TcpListener, controller: Controller) {
    door::keep(listener, BOUNDS, move |request| answer(request, controller.clone())).await;
}

async fn answer(request: Request<Incoming>, controller: Controller) -> Response<Full<Bytes>> {
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
