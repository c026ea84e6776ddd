//! Why the data plane cannot be opened or changed, and the way out.

/// Each text says what, where and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataplaneError {
    /// This build has no data plane yet.
    #[error("this build of hotpair has no data plane yet")]
    NotBuilt,
}
