//! The API's server side.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hotpair_abi::Slot;
use hyper::body::{Body as _, Incoming};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use tokio::net::UnixListener;

use super::door::{self, Bounds};
use super::types::{Done, Flows, Record, Refusal, Show, Status};
use crate::pair::Request;

/// Makes `api.sock` in the run directory, readable and writable by its owner and group alone.
///
/// A socket that a dead controller left is replaced; the run directory's lock says that it is dead.
///
/// # Errors
/// When the socket cannot be made.
pub fn bind(run_dir: &Path) -> std::io::Result<UnixListener> {
    // Under another name until its mode is right: between two system calls nobody else gets in.
    let (path, new) = (run_dir.join("api.sock"), run_dir.join("api.sock.new"));
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o660))?;
    std::fs::rename(&new, &path)?;
    Ok(listener)
}

/// Who knows the answers: the controller, or a test.
pub trait Answers: Clone + Send + Sync + 'static {
    /// How everything is.
    fn status(&self) -> impl Future<Output = Result<Status, Refusal>> + Send;
    /// One pair; `None` when there is no such pair.
    fn show(&self, pair: &str) -> impl Future<Output = Result<Option<Show>, Refusal>> + Send;
    /// A pair's TCP connections, at most so many one by one; `None` when there is no such pair.
    fn flows(&self, pair: &str, limit: usize) -> impl Future<Output = Result<Option<Flows>, Refusal>> + Send;
    /// The metrics' text.
    fn metrics(&self) -> impl Future<Output = Result<String, Refusal>> + Send;
    /// Grants or refuses; nothing has changed after a refusal.
    fn request(&self, pair: &str, request: Request) -> impl Future<Output = Result<Done, Refusal>> + Send;
    /// What happened, newest first.
    fn history(&self, pair: Option<&str>, limit: usize) -> Vec<Record>;
    /// Whether there is a pair of that name.
    fn knows(&self, pair: &str) -> bool;
}

/// A verb's client sends at once and waits for fifteen seconds. A thousand who say nothing hold the last one up for less.
pub const BOUNDS: Bounds = Bounds { places: 256, ask: Duration::from_secs(2), all: Duration::from_secs(14) };

/// Serves until it is aborted; a controller within [`BOUNDS`].
pub async fn serve(listener: UnixListener, bounds: Bounds, answers: impl Answers) {
    let router = router(answers);
    door::keep(listener, bounds, move |request| ask(router.clone(), request)).await;
}

/// One request's way through the router.
pub async fn ask(router: Router, request: axum::http::Request<Incoming>) -> Response {
    let Ok(response) = TowerToHyperService::new(router).call(request).await;
    response
}

/// What is asked, by path and method.
pub fn router<A: Answers>(answers: A) -> Router {
    Router::new()
        .route("/v1/status", get(status::<A>))
        .route("/v1/metrics", get(metrics::<A>))
        .route("/v1/pairs/{pair}", get(show::<A>))
        .route("/v1/pairs/{pair}/flows", get(flows::<A>))
        .route("/v1/history", get(history::<A>))
        .route("/v1/pairs/{pair}/{verb}", post(request::<A>))
        .fallback(|| async { Failed::bad("request", "there is no such path", "see docs/cli.md for the API") })
        .method_not_allowed_fallback(|| async {
            let way_out = "GET looks, POST asks for something to be done: see docs/cli.md for the API";
            refused(StatusCode::METHOD_NOT_ALLOWED, "request", "this path has another method", way_out)
        })
        .layer(from_fn(no_body))
        .with_state(answers)
}

/// What is in a body would be taken for asked and not be done.
async fn no_body(request: axum::extract::Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let way_out = "say everything in path and query: see docs/cli.md for the API";
    Failed::bad("request", "it has a body, which nobody reads", way_out).into_response()
}

struct Failed(StatusCode, Refusal);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

fn refused(status: StatusCode, what: &str, why: &str, way_out: &str) -> Failed {
    Failed(status, Refusal { what: what.into(), why: why.into(), way_out: way_out.into() })
}

impl Failed {
    /// A request that makes no sense.
    fn bad(what: &str, why: &str, way_out: &str) -> Failed {
        refused(StatusCode::BAD_REQUEST, what, why, way_out)
    }
}

fn not_text(error: &PathRejection) -> Failed {
    let why = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    Failed::bad("request", &why, "a path is UTF-8, percent-encoded: `hotpair status` lists the pairs")
}

fn unknown(pair: &str) -> Failed {
    let why = format!("there is no pair `{pair}` on this host");
    refused(StatusCode::NOT_FOUND, "pair", &why, "`hotpair status` lists the pairs")
}

async fn status<A: Answers>(State(answers): State<A>) -> Result<Response, Failed> {
    let status = answers.status().await.map_err(unavailable)?;
    Ok(Json(status).into_response())
}

async fn metrics<A: Answers>(State(answers): State<A>) -> Result<Response, Failed> {
    let text = answers.metrics().await.map_err(unavailable)?;
    Ok(([(CONTENT_TYPE, crate::controller::OPEN_METRICS)], text).into_response())
}

fn unavailable(refusal: Refusal) -> Failed {
    Failed(StatusCode::SERVICE_UNAVAILABLE, refusal)
}

async fn show<A: Answers>(
    State(answers): State<A>,
    path: Result<UrlPath<String>, PathRejection>,
) -> Result<Response, Failed> {
    let UrlPath(pair) = path.map_err(|error| not_text(&error))?;
    match answers.show(&pair).await.map_err(unavailable)? {
        Some(show) => Ok(Json(show).into_response()),
        None => Err(unknown(&pair)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlowsQuery {
    limit: Option<usize>,
}

async fn flows<A: Answers>(
    State(answers): State<A>,
    path: Result<UrlPath<String>, PathRejection>,
    query: Result<Query<FlowsQuery>, QueryRejection>,
) -> Result<Response, Failed> {
    let UrlPath(pair) = path.map_err(|error| not_text(&error))?;
    let Query(query) =
        query.map_err(|error| Failed::bad("flows", &error.to_string(), "known: limit=NUMBER"))?;
    match answers.flows(&pair, query.limit.unwrap_or(usize::MAX)).await.map_err(unavailable)? {
        Some(flows) => Ok(Json(flows).into_response()),
        None => Err(unknown(&pair)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    pair: Option<String>,
    limit: Option<usize>,
}

async fn history<A: Answers>(
    State(answers): State<A>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Response, Failed> {
    let Query(query) = query
        .map_err(|error| Failed::bad("history", &error.to_string(), "known: pair=NAME, limit=NUMBER"))?;
    if let Some(pair) = &query.pair
        && !answers.knows(pair)
    {
        return Err(unknown(pair));
    }
    Ok(Json(answers.history(query.pair.as_deref(), query.limit.unwrap_or(100))).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplaceQuery {
    slot: Option<u8>,
}

async fn request<A: Answers>(
    State(answers): State<A>,
    path: Result<UrlPath<(String, String)>, PathRejection>,
    query: Result<Query<ReplaceQuery>, QueryRejection>,
) -> Result<Response, Failed> {
    let UrlPath((pair, verb)) = path.map_err(|error| not_text(&error))?;
    let Query(query) = query
        .map_err(|error| Failed::bad(&verb, &error.to_string(), "known: slot=0 or slot=1, with replace"))?;
    let slot = match query.slot {
        None => None,
        Some(slot @ (0 | 1)) if verb == "replace" => Some(Slot::from_bit(u64::from(slot))),
        Some(_) => {
            return Err(Failed::bad(
                &verb,
                "this slot makes no sense here",
                "slot=0 or slot=1, with replace alone",
            ));
        }
    };
    let request = match verb.as_str() {
        "switchover" => Request::Switchover,
        "failover" => Request::Failover,
        "pause" => Request::Pause,
        "resume" => Request::Resume,
        "replace" => Request::Replace(slot),
        _ => {
            return Err(Failed::bad(
                &verb,
                "there is no such request",
                "switchover, failover, pause, resume or replace",
            ));
        }
    };
    if !answers.knows(&pair) {
        return Err(unknown(&pair));
    }
    match answers.request(&pair, request).await {
        Ok(done) => Ok(Json(done).into_response()),
        Err(refusal) => Err(Failed(StatusCode::CONFLICT, refusal)),
    }
}
