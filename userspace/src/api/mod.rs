//! HTTP + JSON on a Unix socket: what the verbs ask the controller.
