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
//! Anything but 2xx carries a [`types::Refusal`]: 400 for a request that makes no sense, 404 for an unknown pair,
//! 409 for a request that cannot be granted now.

pub mod client;
pub mod server;
pub mod types;
