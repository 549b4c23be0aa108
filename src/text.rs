//! Numbers and tables for people.

use std::time::{SystemTime, UNIX_EPOCH};

/// A table of text: first column to the left, the others to the right.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    indent: usize,
    left: Vec<usize>,
}

impl Table {
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Self {
        let rows = vec![header.map(str::to_owned).to_vec()];
        Self {
            rows,
            indent: 2,
            left: vec![0],
        }
    }

    /// A table whose columns are known at run time only.
    pub(crate) fn with_header(header: Vec<String>) -> Self {
        Self {
            rows: vec![header],
            indent: 2,
            left: vec![0],
        }
    }

    /// Columns that are words too.
    pub(crate) fn left(mut self, columns: &[usize]) -> Self {
        self.left.extend_from_slice(columns);
        self
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            for (column, cell) in row.iter().enumerate() {
                let gap = " ".repeat(widths[column] - cell.chars().count());
                if column > 0 {
                    line += "  ";
                }
                if self.left.contains(&column) {
                    line += &(cell.clone() + &gap);
                } else {
                    line += &(gap + cell);
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes with the unit that leaves one to four digits.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (0..UNITS.len() - 1)
        .take_while(|unit| number >> (10 * (unit + 1)) > 0)
        .count();
    if unit == 0 {
        return format!("{number} B");
    }
    let value = number as f64 / (1u64 << (10 * unit)) as f64;
    let decimals = if number.trailing_zeros() >= 10 * unit as u32 {
        0
    } else {
        1
    };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// Nanoseconds with the unit that leaves one to three digits.
pub(crate) fn nanoseconds(number: u64) -> String {
    let (unit, name) = match number {
        0..1_000 => return format!("{number} ns"),
        1_000..1_000_000 => (1e3, "µs"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let value = number as f64 / unit;
    let decimals = if value < 100.0 { 1 } else { 0 };
    format!("{value:.decimals$} {name}")
}

/// Parts of a whole, `-` when there is none.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        "-".into()
    } else {
        format!("{:.1} %", part as f64 * 100.0 / whole as f64)
    }
}

/// A quotient with so many decimals, `-` when there is nothing to divide by.
pub(crate) fn quotient(part: u64, whole: u64, decimals: usize) -> String {
    if whole == 0 {
        "-".into()
    } else {
        format!("{:.decimals$}", part as f64 / whole as f64)
    }
}

/// A bar of at most `width` characters.
pub(crate) fn bar(part: u64, whole: u64, width: usize) -> String {
    if whole == 0 {
        return String::new();
    }
    let length = (part as f64 / whole as f64 * width as f64).ceil() as usize;
    "█".repeat(length.min(width))
}

/// RFC 3339, in UTC: `2026-03-01T02:03:04.567Z`.
pub(crate) fn time_text(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86400, since.as_secs() % 86400);
    // Years begin in March, so that a leap day is the last one of its year; 400 of them have 146097 days.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            [grouped(0), grouped(999), grouped(1000)].join(" "),
            "0 999 1,000"
        );
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1024)].join(" "),
            "0 B 1023 B 1 KiB"
        );
        assert_eq!(
            [bytes(1536), bytes(64 << 20), bytes(u64::MAX)].join(" "),
            "1.5 KiB 64 MiB 16777216.0 TiB"
        );
        assert_eq!(
            [0, 999, 1_500, 250_499, 12_340_000, 7_000_000_000]
                .map(nanoseconds)
                .join(" "),
            "0 ns 999 ns 1.5 µs 250 µs 12.3 ms 7.0 s"
        );
        assert_eq!(
            [percent(1, 0), percent(1, 8), quotient(1, 3, 2)].join(" "),
            "- 12.5 % 0.33"
        );
        assert_eq!(
            [bar(1, 1000, 4), bar(0, 3, 4), bar(9, 3, 4)].join("|"),
            "█||████"
        );
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["what", "n", "why"]).left(&[2]);
        table.row(vec!["élan".into(), "10".into(), "a".into()]);
        assert_eq!(table.to_string(), "  what   n  why\n  élan  10  a\n");
    }
}
