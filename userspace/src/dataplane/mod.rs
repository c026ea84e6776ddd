//! Loads, pins, adopts and talks to the eBPF programs. Knows maps and links; decides nothing.
