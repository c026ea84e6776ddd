//! The figures of a run.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::Machine;

/// What was measured for one thing, turn by turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What was measured.
    pub name: String,
    /// In what.
    pub unit: &'static str,
    /// One for each turn; a turn has the same place in every series of a run.
    pub values: Vec<f64>,
}

impl Series {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(name: impl Into<String>, unit: &'static str) -> Series {
        Series { name: name.into(), unit, values: Vec::new() }
    }
}

/// One element of `target/bench/NAME.json`.
///
/// What is compared with two things stands there twice, with the same figures and another ratio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// In what.
    pub unit: String,
    /// Of the runs.
    pub median: f64,
    /// The least of the runs.
    pub min: f64,
    /// The greatest of the runs.
    pub max: f64,
    /// Of the runs, where there are a hundred or more: 99 of 100 were at most this.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub p99: Option<f64>,
    /// How many.
    pub runs: usize,
    /// Median of the ratios to `ratio_to` in the same turn (of the medians, if that one had another number of turns).
    pub ratio: Option<f64>,
    /// The name of the figure that this one is compared with.
    pub ratio_to: Option<String>,
    /// What was measured: the source's revision.
    pub revision: String,
    /// On which kernel.
    pub kernel: String,
    /// On which processors.
    pub cpu: String,
}

/// All figures of a benchmark.
#[derive(Clone, Debug)]
pub struct Sheet {
    /// The benchmark: `packets` writes `packets.json`.
    pub name: &'static str,
    /// What it is about, in a line.
    pub title: String,
    /// Everything measured, in the order of the table.
    pub figures: Vec<Figure>,
    machine: Machine,
}

impl Sheet {
    /// An empty one.
    #[must_use]
    pub fn new(name: &'static str, title: impl Into<String>, machine: Machine) -> Sheet {
        Sheet { name, title: title.into(), figures: Vec::new(), machine }
    }

    /// Takes a series in, compared with others, or with nothing.
    ///
    /// # Errors
    /// When nothing was measured, or what was measured is no number.
    pub fn add(&mut self, series: &Series, compared: &[&Series]) -> Result<()> {
        ensure!(
            !series.values.is_empty() && series.values.iter().all(|value| value.is_finite()),
            "{}: measured were {:?}",
            series.name,
            series.values
        );
        let figure = Figure {
            name: series.name.clone(),
            unit: series.unit.to_owned(),
            median: quantile(&series.values, 0.5),
            min: quantile(&series.values, 0.0),
            max: quantile(&series.values, 1.0),
            p99: (series.values.len() >= 100).then(|| quantile(&series.values, 0.99)),
            runs: series.values.len(),
            ratio: None,
            ratio_to: None,
            revision: self.machine.revision.clone(),
            kernel: self.machine.kernel.clone(),
            cpu: self.machine.cpu.clone(),
        };
        for other in compared {
            let ratio = Some(ratio(series, other)).filter(|ratio| ratio.is_finite());
            self.figures.push(Figure { ratio, ratio_to: Some(other.name.clone()), ..figure.clone() });
        }
        if compared.is_empty() {
            self.figures.push(figure);
        }
        Ok(())
    }

    /// For people: a line for each thing measured, its ratios beside each other.
    #[must_use]
    pub fn table(&self) -> String {
        let mut rows = vec![["", "median", "min", "max", "p99", "unit", "runs", "ratio"].map(str::to_owned)];
        let mut last = None;
        for figure in &self.figures {
            let ratio = figure.ratio.zip(figure.ratio_to.as_deref());
            let ratio = ratio.map(|(ratio, to)| format!("{ratio:.3} x {to}")).unwrap_or_default();
            if last == Some((&figure.name, &figure.unit)) {
                let cell = &mut rows.last_mut().expect("there is a last one")[7];
                let _ = write!(cell, ", {ratio}");
                continue;
            }
            last = Some((&figure.name, &figure.unit));
            rows.push([
                figure.name.clone(),
                plain(figure.median),
                plain(figure.min),
                plain(figure.max),
                figure.p99.map(plain).unwrap_or_default(),
                figure.unit.clone(),
                figure.runs.to_string(),
                ratio,
            ]);
        }
        let mut text = format!(
            "{}\nrevision {}, kernel {}, {}\n\n",
            self.title, self.machine.revision, self.machine.kernel, self.machine.cpu
        );
        let widths: Vec<usize> = (0..8)
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        for row in &rows {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                // No p99 anywhere: no column for it.
                if width == 0 || column == 4 && rows[1..].iter().all(|row| row[4].is_empty()) {
                    continue;
                }
                let _ = match column {
                    0 | 5 | 7 => write!(line, "{cell:<width$}  "),
                    _ => write!(line, "{cell:>width$}  "),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// Writes `NAME.json` and `NAME.svg` into a directory, and the table to standard output.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn publish(&self, out: &Path) -> Result<()> {
        fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let (json, svg) =
            (out.join(self.name).with_extension("json"), out.join(self.name).with_extension("svg"));
        let text = serde_json::to_string_pretty(&self.figures)?;
        fs::write(&json, text + "\n").with_context(|| format!("cannot write {}", json.display()))?;
        fs::write(&svg, super::chart::draw(self))
            .with_context(|| format!("cannot write {}", svg.display()))?;
        print!("{}", self.table());
        super::say(format_args!("{} and {}", json.display(), svg.display()));
        Ok(())
    }
}

/// Three digits that matter, and never an exponent.
pub(super) fn plain(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// By nearest rank: a value that was measured, never one between two.
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn ratio(this: &Series, other: &Series) -> f64 {
    if this.values.len() != other.values.len() {
        return quantile(&this.values, 0.5) / quantile(&other.values, 0.5);
    }
    let ratios: Vec<f64> = this.values.iter().zip(&other.values).map(|(this, other)| this / other).collect();
    quantile(&ratios, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, values: &[f64]) -> Series {
        Series { values: values.to_vec(), ..Series::new(name, "Mpps") }
    }

    fn sheet() -> Sheet {
        let machine = Machine { revision: "abc".into(), kernel: "6.18".into(), cpu: "2 x <CPU>".into() };
        let (bare, ours) = (series("bare", &[4.0, 2.0, 1.0]), series("ours & theirs", &[3.0, 1.8, 0.9]));
        let mut sheet = Sheet::new("packets", "Packets", machine);
        sheet.add(&bare, &[]).expect("a figure");
        sheet.add(&ours, &[&bare, &series("slow", &[1.0])]).expect("a figure");
        sheet
    }

    #[test]
    fn a_ratio_is_that_of_the_turns_and_not_of_the_medians() {
        let sheet = sheet();
        let figure = &sheet.figures[1];
        assert_eq!((figure.median, figure.min, figure.max, figure.runs), (1.8, 0.9, 3.0, 3));
        assert_eq!((figure.ratio, figure.ratio_to.as_deref()), (Some(0.9), Some("bare")));
        assert_eq!(sheet.figures[2].ratio, Some(1.8), "another number of turns: by the medians");
    }

    #[test]
    fn what_is_compared_twice_is_one_line_for_people_and_two_figures_for_programs() {
        let sheet = sheet();
        assert_eq!(sheet.figures.len(), 3);
        let table = sheet.table();
        assert_eq!(table.matches("ours & theirs").count(), 1, "{table}");
        assert!(table.contains("0.900 x bare, 1.800 x slow"), "{table}");
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|part| quantile(&hundred, part)), [1.0, 50.0, 99.0, 100.0]);
        assert_eq!(quantile(&[7.0], 0.5), 7.0);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let mut sheet = sheet();
        for values in [&[][..], &[f64::NAN], &[1.0, f64::INFINITY]] {
            assert!(sheet.add(&series("broken", values), &[]).is_err(), "{values:?}");
        }
    }

    #[test]
    fn files_can_be_read_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let sheet = sheet();
        sheet.publish(dir.path()).expect("written");
        let json = std::fs::read_to_string(dir.path().join("packets.json")).expect("JSON");
        let read: Vec<Figure> = serde_json::from_str(&json).expect("an array of figures");
        assert_eq!(read, sheet.figures);
        let svg = std::fs::read_to_string(dir.path().join("packets.svg")).expect("SVG");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("ours &amp; theirs") && !svg.contains("<CPU>"), "text is escaped: {svg}");
    }
}
