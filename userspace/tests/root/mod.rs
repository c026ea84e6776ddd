//! Tests that only root can run: for namespaces, and to become somebody else.

/// Says so if it may not, because a test that was not run has not passed.
pub(crate) fn may_run() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("HOTPAIR_TESTS_MUST_RUN").is_none(), "this needs root and must run");
        eprintln!("SKIPPED: this needs root");
    }
    root
}
