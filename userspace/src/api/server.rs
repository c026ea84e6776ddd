//! The API's server side.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use axum::extract::{Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hotpair_abi::Slot;
use serde::Deserialize;
use tokio::net::UnixListener;

use super::types::Refusal;
use crate::controller::Controller;
use crate::pair::Request;

/// Makes `api.sock` in the run directory, readable and writable by its owner and group alone.
///
/// A socket that a dead controller left is replaced; the run directory's lock says that it is dead.
///
/// # Errors
/// When the socket cannot be made.
pub fn bind(run_dir: &Path) -> std::io::Result<UnixListener> {
    let path = run_dir.join("api.sock");
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Serves until it is aborted.
pub async fn serve(listener: UnixListener, controller: Controller) {
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/metrics", get(metrics))
        .route("/v1/pairs/{pair}", get(show))
        .route("/v1/history", get(history))
        .route("/v1/pairs/{pair}/{verb}", post(request))
        .fallback(|| async {
            refused(
                StatusCode::BAD_REQUEST,
                "request",
                "there is no such path",
                "see docs/cli.md for the API",
            )
        })
        .with_state(controller);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("the API has ended: {error}");
    }
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

fn unknown(pair: &str) -> Failed {
    let why = format!("there is no pair `{pair}` on this host");
    refused(StatusCode::NOT_FOUND, "pair", &why, "`hotpair status` lists the pairs")
}

async fn status(State(controller): State<Controller>) -> Result<Response, Failed> {
    let status = controller.status().await.map_err(unavailable)?;
    Ok(Json(status).into_response())
}

async fn metrics(State(controller): State<Controller>) -> Result<Response, Failed> {
    let text = controller.metrics().await.map_err(unavailable)?;
    Ok(([(CONTENT_TYPE, crate::controller::OPEN_METRICS)], text).into_response())
}

fn unavailable(refusal: Refusal) -> Failed {
    Failed(StatusCode::SERVICE_UNAVAILABLE, refusal)
}

async fn show(
    State(controller): State<Controller>,
    UrlPath(pair): UrlPath<String>,
) -> Result<Response, Failed> {
    match controller.show(&pair).await.map_err(unavailable)? {
        Some(show) => Ok(Json(show).into_response()),
        None => Err(unknown(&pair)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    pair: Option<String>,
    limit: Option<usize>,
}

async fn history(
    State(controller): State<Controller>,
    query: Result<Query<HistoryQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Failed> {
    let Query(query) = query.map_err(|error| {
        refused(StatusCode::BAD_REQUEST, "history", &error.to_string(), "known: pair=NAME, limit=NUMBER")
    })?;
    if let Some(pair) = &query.pair
        && !controller.knows(pair)
    {
        return Err(unknown(pair));
    }
    Ok(Json(controller.history(query.pair.as_deref(), query.limit.unwrap_or(100))).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplaceQuery {
    slot: Option<u8>,
}

async fn request(
    State(controller): State<Controller>,
    UrlPath((pair, verb)): UrlPath<(String, String)>,
    query: Result<Query<ReplaceQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Failed> {
    let Query(query) = query.map_err(|error| {
        refused(StatusCode::BAD_REQUEST, &verb, &error.to_string(), "known: slot=0 or slot=1, with replace")
    })?;
    let slot = match query.slot {
        None => None,
        Some(slot @ (0 | 1)) if verb == "replace" => Some(Slot::from_bit(u64::from(slot))),
        Some(_) => {
            return Err(refused(
                StatusCode::BAD_REQUEST,
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
            return Err(refused(
                StatusCode::BAD_REQUEST,
                &verb,
                "there is no such request",
                "switchover, failover, pause, resume or replace",
            ));
        }
    };
    if !controller.knows(&pair) {
        return Err(unknown(&pair));
    }
    match controller.request(&pair, request).await {
        Ok(done) => Ok(Json(done).into_response()),
        Err(refusal) => Err(Failed(StatusCode::CONFLICT, refusal)),
    }
}
