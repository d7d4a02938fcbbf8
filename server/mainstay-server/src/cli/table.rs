//! Aligned columns.

use super::words::clean;

/// Rows under a heading. A column whose name begins with `#` is one of numbers, and aligned to the right.
pub(crate) struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heading: &[&'static str]) -> Self {
        Self { heading: heading.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; its cells are made safe for a terminal.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| clean(&cell)).collect());
    }

    pub(crate) fn render(&self) -> String {
        let heading: Vec<String> =
            self.heading.iter().map(|name| name.trim_start_matches('#').to_owned()).collect();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.chain(heading.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.heading.len()).map(width).collect();
        let mut out = String::new();
        for row in std::iter::once(&heading).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), name) in row.iter().zip(&widths).zip(&self.heading) {
                let pad = " ".repeat(width - cell.chars().count());
                line +=
                    &if name.starts_with('#') { format!("{pad}{cell}  ") } else { format!("{cell}{pad}  ") };
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }
}

/// `name: value` lines with the values in one column; empty values are left out.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let shown = || facts.iter().filter(|(_, value)| !value.is_empty());
    let width = shown().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    let line = |(name, value): &(&str, String)| format!("{:width$} {}\n", format!("{name}:"), clean(value));
    shown().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_to_the_right() {
        let mut table = Table::new(&["NAME", "#DEPTH", "NOTE"]);
        table.row(["mail".into(), "7".into(), "paused".into()]);
        table.row(["é".into(), "12345678".into(), String::new()]);
        assert_eq!(table.render(), "NAME     DEPTH  NOTE\nmail         7  paused\né     12345678\n");
    }

    #[test]
    fn facts_without_a_value_are_left_out() {
        let text = facts(&[("id", "1".into()), ("nothing", String::new()), ("state", "dead".into())]);
        assert_eq!(text, "id:    1\nstate: dead\n");
    }
}
