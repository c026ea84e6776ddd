//! The picture of a run: a bar for each figure, as long as its median, with a line from the least to the greatest.

use std::fmt::Write as _;

use super::sheet::plain;
use super::{Figure, Sheet};

const WIDTH: f64 = 1100.0;
const NAMES: f64 = 400.0;
const RIGHT: f64 = 220.0;
const ROW: f64 = 24.0;
const TOP: f64 = 64.0;

/// A part of the picture for each unit: only what has the same unit has the same scale.
pub(super) fn draw(sheet: &Sheet) -> String {
    let mut units: Vec<&str> = Vec::new();
    for figure in &sheet.figures {
        if !units.contains(&figure.unit.as_str()) {
            units.push(&figure.unit);
        }
    }
    let mut body = String::new();
    let mut y = TOP;
    for unit in units {
        let mut rows: Vec<&Figure> = sheet.figures.iter().filter(|figure| figure.unit == unit).collect();
        rows.dedup_by(|next, first| next.name == first.name);
        let greatest = rows.iter().map(|figure| figure.max).fold(f64::MIN_POSITIVE, f64::max);
        let _ =
            write!(body, "<text x=\"20\" y=\"{}\" font-weight=\"bold\">{}</text>", y + 14.0, escaped(unit));
        y += ROW;
        for figure in rows {
            bar(&mut body, figure, y, greatest);
            y += ROW;
        }
        y += ROW / 2.0;
    }
    let about = sheet.figures.first().map_or(String::new(), |figure| {
        format!("revision {}, kernel {}, {}", figure.revision, figure.kernel, figure.cpu)
    });
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" font-family=\"sans-serif\" font-size=\"13\">\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
         <text x=\"20\" y=\"26\" font-size=\"18\" font-weight=\"bold\">{}</text>\
         <text x=\"20\" y=\"46\" fill=\"#555\">{}</text>{body}</svg>\n",
        escaped(&sheet.title),
        escaped(&about),
    )
}

fn bar(svg: &mut String, figure: &Figure, y: f64, greatest: f64) {
    let x = |value: f64| NAMES + (value / greatest).max(0.0) * (WIDTH - NAMES - RIGHT);
    let ratio = match (figure.ratio, &figure.ratio_to) {
        (Some(ratio), Some(to)) => format!(" ({ratio:.2} x {to})"),
        _ => String::new(),
    };
    let (least, most) = (x(figure.min), x(figure.max));
    let _ = write!(
        svg,
        "<text x=\"{label}\" y=\"{line}\" text-anchor=\"end\">{name}</text>\
         <rect x=\"{NAMES}\" y=\"{top}\" width=\"{width:.1}\" height=\"14\" fill=\"#2266cc\" fill-opacity=\"0.75\"/>\
         <path d=\"M{least:.1} {middle}H{most:.1}M{least:.1} {tick}v8M{most:.1} {tick}v8\" stroke=\"#222\"/>\
         <text x=\"{value:.1}\" y=\"{line}\">{text}</text>",
        label = NAMES - 10.0,
        line = y + 14.0,
        name = escaped(&figure.name),
        top = y + 3.0,
        width = x(figure.median) - NAMES,
        middle = y + 10.0,
        tick = y + 6.0,
        value = most + 8.0,
        text = escaped(&format!("{}{ratio}", plain(figure.median))),
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
