//! Taps, announcements, probes and news of links, in namespaces.
