//! HTTP + JSON on a Unix socket: what the verbs ask the controller.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/status` | [`types::Status`] |
//! | `GET /v1/pairs/NAME` | [`types::Show`] |
//! | `GET /v1/history?pair=NAME&limit=N` | array of [`types::Record`], newest first |
//! | `GET /v1/metrics` | OpenMetrics text |
//! | `POST /v1/pairs/NAME/switchover` | [`types::Done`] |
//! | `POST /v1/pairs/NAME/failover` | [`types::Done`] |
//! | `POST /v1/pairs/NAME/pause`, `/resume` | [`types::Done`] |
//! | `POST /v1/pairs/NAME/replace?slot=0` | [`types::Done`] |
//!
//! A request is its method, path and query, and nothing else: one with a body is refused. One request a connection.
//! `door.rs` bounds how many come at once and how long each may take.
//!
//! Anything but 2xx carries a [`types::Refusal`]: 400 for a request that makes no sense, 404 for an unknown pair,
//! 405 for another method, 409 for a request that cannot be granted now. What is no HTTP at all, or has a head of more than
//! 16 KiB, is answered with a bare 400 or 431.

pub mod client;
pub mod door;
pub mod server;
pub mod types;
