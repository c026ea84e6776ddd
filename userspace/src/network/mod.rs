//! The host's links and the announcements on its uplink: taps, addresses, routes, GARP and unsolicited NA.
