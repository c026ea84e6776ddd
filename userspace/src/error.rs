//! Errors as texts.

/// An error with its causes, each said once.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::chain;
    use crate::network::NetworkError;

    #[test]
    fn every_cause_is_said_once() {
        let source = std::io::Error::from_raw_os_error(libc::EBUSY);
        let busy = source.to_string();
        let error = NetworkError::Netlink { what: "list the links".into(), source };
        assert_eq!(chain(&error), format!("cannot list the links: {busy}"));
        assert_eq!(
            chain(&crate::controller::RunError::Network(error)),
            format!("cannot list the links: {busy}")
        );
    }
}
