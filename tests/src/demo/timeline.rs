//! The picture of a round: latency of every request over time, what failed, when held connections got on, and what happened.

use std::fmt::Write as _;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};

use super::Round;
use crate::held::{Kind, Story};
use crate::load::Report;

const WIDTH: f64 = 1100.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const PANEL: f64 = 190.0;
const TOP: f64 = 78.0;
/// Below a panel: its axis, and a lane for each held connection that works.
const BETWEEN: f64 = 122.0;
const LANES: [(Kind, &str); 3] =
    [(Kind::Download, "download"), (Kind::Upload, "upload"), (Kind::KeyValue, "key-value")];
const LANE: f64 = 14.0;

/// A stretch of time, in milliseconds since the fault, and where it is drawn.
struct Panel {
    title: String,
    from: f64,
    to: f64,
    top: f64,
    unit: (&'static str, f64),
}

/// Two panels: the failover in milliseconds, and the whole round in seconds.
pub(super) fn write(path: &Path, round: &Round, loads: &[Report], stories: &[Story]) -> Result<()> {
    let end = loads
        .iter()
        .map(|load| began(load) + load.duration.as_secs_f64() * 1e3 - round.fault_at_ms)
        .fold(1000.0, f64::max);
    let start = loads.iter().map(|load| began(load) - round.fault_at_ms).fold(0.0, f64::min);
    let around = (round.failover_gap_ms * 4.0).clamp(60.0, 4000.0);
    let panels = [
        Panel {
            title: format!(
                "The failover: the client waited {:.1} ms; {} of {} open connections went on",
                round.failover_gap_ms, round.kept.connections.survived, round.kept.connections.open
            ),
            from: -around / 2.0,
            to: around * 1.5,
            top: TOP,
            unit: ("ms", 1.0),
        },
        Panel {
            title: format!("The whole round: protected again after {:.1} s", round.replaced_after_s),
            from: start,
            to: end,
            top: TOP + PANEL + BETWEEN,
            unit: ("s", 1000.0),
        },
    ];
    let height = TOP + 2.0 * (PANEL + BETWEEN) - 14.0;
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
         <text x=\"{LEFT}\" y=\"26\" font-size=\"18\" font-weight=\"bold\">hotpair: fault `{}`, detected by {} after {:.1} ms, flip {:.1} us</text>\
         <circle cx=\"{}\" cy=\"44\" r=\"3\" fill=\"#2266cc\"/><text x=\"{}\" y=\"48\">UDP answered</text>\
         <circle cx=\"{}\" cy=\"44\" r=\"3\" fill=\"#119944\"/><text x=\"{}\" y=\"48\">HTTP answered</text>\
         <path d=\"M{} 40l8 8m0 -8l-8 8\" stroke=\"#cc2222\" stroke-width=\"2\"/><text x=\"{}\" y=\"48\">no answer</text>\
         <path d=\"M{} 38v12m4 0v-12\" stroke=\"#7733aa\"/><text x=\"{}\" y=\"48\">a held connection got on</text>",
        round.fault,
        round.detected_by,
        round.detect_ms,
        round.flip_us,
        LEFT + 4.0,
        LEFT + 12.0,
        LEFT + 114.0,
        LEFT + 122.0,
        LEFT + 226.0,
        LEFT + 240.0,
        LEFT + 328.0,
        LEFT + 340.0,
    );
    for panel in &panels {
        draw(&mut svg, panel, round, loads);
        lanes(&mut svg, panel, round, stories);
    }
    svg.push_str("</svg>\n");
    std::fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))
}

fn began(load: &Report) -> f64 {
    load.began_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}

impl Panel {
    /// Where a moment is drawn.
    fn x(&self, at: f64) -> f64 {
        LEFT + (at - self.from) / (self.to - self.from) * (WIDTH - LEFT - RIGHT)
    }
}

/// Where a held connection got on: a tick each time that something came.
fn lanes(svg: &mut String, panel: &Panel, round: &Round, stories: &[Story]) {
    for (lane, (kind, name)) in LANES.into_iter().enumerate() {
        let Some(story) = stories.iter().find(|story| story.kind == kind) else { continue };
        let top = panel.top + PANEL + 28.0 + lane as f64 * (LANE + 3.0);
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text><path stroke=\"#7733aa\" d=\"",
            LEFT - 6.0,
            top + LANE - 3.0,
        );
        let mut last = f64::MIN;
        for wait in story.account.waits() {
            let at = wait.to - round.fault_at_ms;
            // As fine as a picture is.
            if at >= panel.from && at <= panel.to && panel.x(at) - last >= 0.5 {
                last = panel.x(at);
                let _ = write!(svg, "M{last:.1} {top}v{LANE}");
            }
        }
        svg.push_str("\"/>");
    }
}

fn draw(svg: &mut String, panel: &Panel, round: &Round, loads: &[Report]) {
    let bottom = panel.top + PANEL;
    let x = |at: f64| panel.x(at);
    let inside = |at: f64| at >= panel.from && at <= panel.to;
    let mut points = Vec::new();
    for load in loads {
        for request in &load.requests {
            let at = began(load) + request.sent_at.as_secs_f64() * 1e3 - round.fault_at_ms;
            if inside(at) {
                let took = request
                    .answered_at
                    .map(|answered| (answered.saturating_sub(request.sent_at)).as_secs_f64() * 1e3);
                points.push((load.kind, at, took));
            }
        }
    }
    let slowest = points.iter().filter_map(|(_, _, took)| *took).fold(1.0, f64::max);
    // Logarithmic: a millisecond and a second are both to be seen.
    let y = |took: f64| bottom - (took.max(0.1).log10() + 1.0) / (slowest.log10() + 1.0) * (PANEL - 12.0);
    let _ = write!(
        svg,
        "<text x=\"{LEFT}\" y=\"{}\" font-size=\"14\" font-weight=\"bold\">{}</text>\
         <rect x=\"{LEFT}\" y=\"{}\" width=\"{}\" height=\"{PANEL}\" fill=\"#fafafa\" stroke=\"#888\"/>",
        panel.top - 8.0,
        panel.title,
        panel.top,
        WIDTH - LEFT - RIGHT,
    );
    let mut decade = 0.1;
    while decade <= slowest {
        let _ = write!(
            svg,
            "<path d=\"M{LEFT} {y:.1}H{}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{decade} ms</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y(decade) + 4.0,
            y = y(decade),
        );
        decade *= 10.0;
    }
    for step in 0..=8 {
        let at = panel.from + (panel.to - panel.from) * f64::from(step) / 8.0;
        let _ = write!(
            svg,
            "<path d=\"M{0:.1} {bottom}v5\" stroke=\"#888\"/><text x=\"{0:.1}\" y=\"{1}\" text-anchor=\"middle\">{2:.1} {3}</text>",
            x(at),
            bottom + 18.0,
            at / panel.unit.1,
            panel.unit.0,
        );
    }
    for (kind, at, took) in points {
        let x = x(at);
        let _ = match took {
            Some(took) => {
                let colour = if kind == "udp" { "#2266cc" } else { "#119944" };
                write!(
                    svg,
                    "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"1.6\" fill=\"{colour}\" fill-opacity=\"0.6\"/>",
                    y(took)
                )
            }
            None => {
                let y = bottom - 6.0;
                write!(svg, "<path d=\"M{:.1} {:.1}l6 6m0 -6l-6 6\" stroke=\"#cc2222\"/>", x - 3.0, y - 3.0)
            }
        };
    }
    let fault = [(0.0, "fault".to_owned())];
    let moments =
        round.moments.iter().map(|moment| (moment.at_ms as f64 - round.fault_at_ms, moment.what.clone()));
    let told = fault.into_iter().chain(moments).filter(|(at, _)| inside(*at));
    for (row, (at, what)) in told.enumerate() {
        let colour = if what == "fault" { "#cc2222" } else { "#aa6600" };
        let line = panel.top + 14.0 + (row % 5) as f64 * 15.0;
        let (anchor, dx) = if x(at) > WIDTH - 160.0 { ("end", -4.0) } else { ("start", 4.0) };
        let _ = write!(
            svg,
            "<path d=\"M{0:.1} {1}V{bottom}\" stroke=\"{colour}\" stroke-dasharray=\"4 3\"/>\
             <text x=\"{2:.1}\" y=\"{line}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{what}</text>",
            x(at),
            panel.top,
            x(at) + dx,
        );
    }
}
