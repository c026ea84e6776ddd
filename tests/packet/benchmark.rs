//! The benchmark of the packet path still measures: frames go every way and arrive at every member. How fast they were,
//! a test does not say.

use clap::Parser;
use hotpair_tests::bench::{Figure, Machine, packets};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: packets::Options,
}

#[test]
fn the_packet_benchmark_delivers_frames_every_way() {
    let options = Line::parse_from(["bench", "--rounds", "1", "--time", "10ms"]).options;
    let sheet = packets::run(&options, Machine::here("a test")).expect("every way delivers");
    let out = tempfile::tempdir().expect("a directory");
    sheet.publish(out.path()).expect("written");
    let json = std::fs::read_to_string(out.path().join("packets.json")).expect("JSON");
    let figures: Vec<Figure> = serde_json::from_str(&json).expect("an array of figures");
    for name in [
        "XDP_DROP",
        "bare redirect, 1 device",
        "bare broadcast, 2 devices",
        "tc mirred mirror + redirect",
        "Linux bridge, flooding",
        "hotpair steering to 1, IPv4",
        "hotpair steering to 1, IPv6",
        "hotpair duplicating to 2, IPv4",
        "hotpair duplicating to 2, IPv6",
    ] {
        let figure = figures.iter().find(|figure| figure.name == name);
        assert!(figure.is_some_and(|figure| figure.min > 0.0), "{name}: {figure:?}");
    }
}
