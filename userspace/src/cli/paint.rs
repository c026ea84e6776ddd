//! Colours and columns, for people at a terminal.

use std::io::IsTerminal;

/// Colours, or none: they are for terminals, and NO_COLOR (no-color.org) turns them off there too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    on: bool,
}

/// What a colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Good,
    Warning,
    Bad,
    /// Less important than the rest.
    Faint,
    Plain,
}

impl Paint {
    pub(super) fn for_stdout() -> Paint {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Paint { on: wanted && std::io::stdout().is_terminal() }
    }

    #[cfg(test)]
    pub(super) const OFF: Paint = Paint { on: false };

    pub(super) fn paint(self, text: &str, meaning: Meaning) -> String {
        let code = match meaning {
            Meaning::Good => "1;32",
            Meaning::Warning => "1;33",
            Meaning::Bad => "1;31",
            Meaning::Faint => "2",
            Meaning::Plain => return text.to_owned(),
        };
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Lines of cells, in columns as wide as they need. The first line is the heading.
    pub(super) fn table(self, rows: &[Vec<(String, Meaning)>]) -> String {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|(text, _)| text.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in rows {
            for (column, (text, meaning)) in row.iter().enumerate() {
                out.push_str(&self.paint(text, *meaning));
                if column + 1 < row.len() {
                    // Padding stands outside the colour, so that its codes do not count as width.
                    out.extend(std::iter::repeat_n(' ', widths[column] - text.chars().count() + 2));
                }
            }
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(text: &str) -> (String, Meaning) {
        (text.to_owned(), Meaning::Bad)
    }

    #[test]
    fn columns_line_up_with_and_without_colour() {
        let rows = [vec![cell("A"), cell("B")], vec![cell("long"), cell("x")]];
        assert_eq!(Paint::OFF.table(&rows), "A     B\nlong  x\n");
        let coloured = Paint { on: true }.table(&rows);
        assert_eq!(coloured.replace("\x1b[1;31m", "").replace("\x1b[0m", ""), "A     B\nlong  x\n");
    }
}
