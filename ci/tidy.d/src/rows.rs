//! Rows: what docs/rows.md lists, what names them, what proves them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use anyhow::{Context, Result};

use crate::source::function_name;
use crate::tree::Tree;

const TABLE: &str = "docs/rows.md";
const LETTERS: &str = "KZORCS";
/// What a row says that no test proves yet.
const NOT_BEGUN: &str = "Not begun.";
/// Where lists of tests are wrapped, in characters.
const WIDTH: usize = 120;

/// A row, such as Z12.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row(char, u8);

impl Row {
    /// The row that `text` begins with, in capitals, and what follows.
    fn parse(text: &str) -> Option<(Self, &str)> {
        let letter = text.chars().next().filter(|&c| LETTERS.contains(c))?;
        let rest = &text[1..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number = rest[..digits].parse().ok()?;
        Some((Self(letter, number), &rest[digits..]))
    }

    /// The rows that a test is named after: `z11_z12_pages_of_…`.
    fn of_name(name: &str) -> Vec<Self> {
        let mut rows = Vec::new();
        for part in name.split(['_', '-']) {
            let upper = part.to_uppercase();
            match Self::parse(&upper) {
                Some((row, "")) if part.len() == 3 && !part.starts_with(char::is_uppercase) => {
                    rows.push(row);
                }
                _ => break,
            }
        }
        rows
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0, self.1)
    }
}

/// Tests by file; a file that is a test itself has its name.
type Tests = BTreeMap<String, BTreeSet<String>>;

/// A row's part of the table.
#[derive(Default)]
struct Section {
    tests: Tests,
    is_begun: bool,
}

pub fn check(tree: &Tree) -> Result<Vec<String>> {
    let table = tree.text(TABLE)?;
    let sections = sections(table)?;
    let proofs = proofs(tree);
    let mut broken = Vec::new();
    for (row, section) in &sections {
        let none = Tests::new();
        let there = proofs.get(row).unwrap_or(&none);
        for (file, names) in &section.tests {
            for name in names {
                if !there.get(file).is_some_and(|names| names.contains(name)) {
                    broken.push(format!(
                        "{TABLE}: {row}: no test {name} in {file}: ci/tidy --rows writes the lists anew"
                    ));
                }
            }
        }
        let is_listed = !section.tests.is_empty();
        if is_listed != section.is_begun || is_listed == there.is_empty() {
            broken.push(format!(
                "{TABLE}: {row} has either tests or \"{NOT_BEGUN}\": ci/tidy --rows writes the lists anew"
            ));
        }
    }
    for (row, tests) in &proofs {
        if !sections.contains_key(row) {
            broken.push(format!(
                "{TABLE} has no row {row}, after which tests are named: {tests:?}"
            ));
        }
    }
    for (path, text) in &tree.files {
        for (line, what) in strange_references(path, text, &sections, table) {
            broken.push(format!("{path}:{line}: {TABLE} has no {what}"));
        }
    }
    Ok(broken)
}

/// Writes the lists of tests anew.
pub fn write(tree: &Tree) -> Result<()> {
    let text = rewritten(tree.text(TABLE)?, &proofs(tree))?;
    std::fs::write(tree.root.join(TABLE), text).context(TABLE)
}

/// The row that a line is the heading of.
fn heading(line: &str) -> Result<Option<Row>> {
    let Some(name) = line.strip_prefix("### ") else {
        return Ok(None);
    };
    match Row::parse(name) {
        Some((row, "")) => Ok(Some(row)),
        _ => anyhow::bail!("{TABLE}: {name} is not the name of a row"),
    }
}

fn sections(table: &str) -> Result<BTreeMap<Row, Section>> {
    let mut sections = BTreeMap::new();
    let mut current = None;
    let mut file = String::new();
    for line in table.lines() {
        if line.starts_with('#') {
            current = heading(line)?;
            if let Some(row) = current {
                let section = Section {
                    is_begun: true,
                    ..Section::default()
                };
                let twice = sections.insert(row, section).is_some();
                anyhow::ensure!(!twice, "{TABLE} has {row} twice");
            }
            continue;
        }
        let Some(section) = current.and_then(|row| sections.get_mut(&row)) else {
            continue;
        };
        section.is_begun &= line != NOT_BEGUN;
        let quoted = line.split('`').skip(1).step_by(2);
        if line.starts_with("* `") {
            file = quoted.clone().next().unwrap_or_default().to_owned();
            let names = quoted.skip(1).map(str::to_owned);
            section.tests.entry(file.clone()).or_default().extend(names);
        } else if line.starts_with("  `") {
            let names = quoted.map(str::to_owned);
            section.tests.entry(file.clone()).or_default().extend(names);
        }
    }
    Ok(sections)
}

/// Every test that is named after a row.
fn proofs(tree: &Tree) -> BTreeMap<Row, Tests> {
    let mut proofs: BTreeMap<Row, Tests> = BTreeMap::new();
    let mut add = |path: &str, name: &str| {
        for row in Row::of_name(name) {
            let tests = proofs.entry(row).or_default();
            tests
                .entry(path.to_owned())
                .or_default()
                .insert(name.to_owned());
        }
    };
    for (path, text) in &tree.files {
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        if path.ends_with(".rs") {
            text.lines()
                .filter_map(function_name)
                .for_each(|name| add(path, name));
        } else if path.starts_with("ci/") {
            if folder.ends_with("/scenarios") {
                add(path, file.trim_end_matches(".sh"));
            }
            let functions = text.lines().filter_map(|line| line.split_once("() {"));
            functions.for_each(|(name, _)| add(path, name));
        }
    }
    proofs
}

/// The table with these lists.
fn rewritten(table: &str, proofs: &BTreeMap<Row, Tests>) -> Result<String> {
    let mut out = String::new();
    let mut current = None;
    for line in table.lines() {
        if line.starts_with('#') {
            if let Some(row) = current {
                list(&mut out, proofs.get(&row))?;
            }
            current = heading(line)?;
        } else if current.is_some()
            && (line == NOT_BEGUN || line.starts_with("* `") || line.starts_with("  `"))
        {
            continue;
        }
        out.push_str(line);
        out.push('\n');
    }
    if let Some(row) = current {
        list(&mut out, proofs.get(&row))?;
    }
    Ok(out.trim_end().to_owned() + "\n")
}

/// Adds a row's list in place of the empty lines at the end of `out`.
fn list(out: &mut String, tests: Option<&Tests>) -> Result<()> {
    out.truncate(out.trim_end().len());
    out.push_str("\n\n");
    for (file, names) in tests.into_iter().flatten() {
        let mut line = format!("* `{file}`:");
        for (at, name) in names.iter().enumerate() {
            let separator = if at + 1 < names.len() { "," } else { "" };
            if line.len() + name.len() + 4 > WIDTH {
                writeln!(out, "{line}")?;
                line = " ".into();
            }
            write!(line, " `{name}`{separator}")?;
        }
        writeln!(out, "{line}")?;
    }
    if tests.is_none() {
        writeln!(out, "{NOT_BEGUN}")?;
    }
    out.push('\n');
    Ok(())
}

/// Rows and figures that a file names and the table does not have.
fn strange_references(
    path: &str,
    text: &str,
    sections: &BTreeMap<Row, Section>,
    table: &str,
) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // This program's own examples are none.
    if path == TABLE || path.starts_with("ci/tidy.d/") {
        return found;
    }
    for (at, line) in text.lines().enumerate() {
        let strange = named_rows(line)
            .into_iter()
            .filter(|row| !sections.contains_key(row));
        found.extend(strange.map(|row| (at + 1, format!("row {row}"))));
        for mark in ["FIG. ", "FIGS. "] {
            for (from, _) in line.match_indices(mark) {
                let rest = &line[from + mark.len()..];
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric());
                let figure = format!("FIG. {}", &rest[..end.unwrap_or(rest.len())]);
                let is_known = rest.starts_with(|c: char| c.is_ascii_digit())
                    && table.match_indices(&figure).any(|(at, _)| {
                        !table[at + figure.len()..].starts_with(|c: char| c.is_ascii_digit())
                    });
                if !is_known {
                    found.push((at + 1, figure));
                }
            }
        }
    }
    found
}

/// Rows that a line names: "row Z1", "rows Z9, C1", "Rows C1–C8".
fn named_rows(line: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (at, mark) in line.match_indices("ow") {
        let is_word = line[..at]
            .strip_suffix(['r', 'R'])
            .is_some_and(|before| !before.ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        let mut rest = line[at + mark.len()..].trim_start_matches('s');
        if !is_word {
            continue;
        }
        loop {
            rest = [" and ", ", ", "–", "-", " "]
                .iter()
                .find_map(|between| rest.strip_prefix(between))
                .unwrap_or("");
            let Some((row, after)) = Row::parse(rest) else {
                break;
            };
            rows.push(row);
            rest = after;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "\
# Rows

* `not a list`, since this is no row

## Z. Zero-copy

### Z1

Pages. FIG. 3B has two.

* `a/tests/a.rs`: `z01_a`,
  `z01_z02_b`

### Z2

Structures.
* `a/tests/a.rs`: `z01_z02_b`

## O. One shot

### O1

Sends.

Not begun.
";

    fn tree<'a>(rows: &'a str, test: &'a str) -> Tree {
        Tree::of(&[(TABLE, rows), ("a/tests/a.rs", test)])
    }

    const TESTS: &str = "fn z01_a() {\n}\nfn z01_z02_b() {\n}\n";

    #[test]
    fn a_table_that_is_true_breaks_nothing() {
        assert_eq!(check(&tree(ROWS, TESTS)).unwrap(), [""; 0]);
    }

    #[test]
    fn a_table_that_is_not_is_told_why() {
        let found = |rows: &str, test: &str| check(&tree(rows, test)).unwrap().join("\n");
        let moved = found(&ROWS.replace("a/tests/a.rs", "a/tests/b.rs"), TESTS);
        assert!(
            moved.contains("Z1: no test z01_a in a/tests/b.rs"),
            "{moved}"
        );
        let renamed = found(ROWS, &TESTS.replace("z01_a", "z01_c"));
        assert!(renamed.contains("Z1: no test z01_a"), "{renamed}");
        let begun = found(ROWS, &format!("{TESTS}fn o01_sends() {{}}\n"));
        assert!(begun.contains("O1 has either"), "{begun}");
        let unknown = found(ROWS, &format!("{TESTS}fn z03_x() {{}}\n"));
        assert!(unknown.contains("no row Z3, after which"), "{unknown}");
        let named = found(
            ROWS,
            &format!("{TESTS}// (rows Z1–Z4, FIG. 3B, FIGS. 7A–7D)\n"),
        );
        assert!(
            named.contains("a/tests/a.rs:5: docs/rows.md has no row Z4"),
            "{named}"
        );
        assert!(
            named.contains("has no FIG. 7A") && !named.contains("FIG. 3B"),
            "{named}"
        );
    }

    #[test]
    fn lists_are_written_anew_and_then_true() {
        let test = format!("{TESTS}fn o01_sends() {{}}\n").replace("z01_a", "z01_c");
        let scenario = "ci/vm.d/scenarios/z02-machine.sh";
        let lab = "z02_in_the_lab() {\n}\n";
        let files = |rows| {
            Tree::of(&[
                (TABLE, rows),
                ("a/tests/a.rs", &test),
                (scenario, ""),
                ("ci/lab/test", lab),
            ])
        };
        let written = rewritten(ROWS, &proofs(&files(ROWS))).unwrap();
        assert_eq!(check(&files(&written)).unwrap(), [""; 0], "{written}");
        for part in [
            "`z02-machine`",
            "`z02_in_the_lab`",
            "`o01_sends`",
            "`not a list`",
        ] {
            assert!(written.contains(part), "{written}");
        }
        assert!(!written.contains("Not begun") && !written.contains("`z01_a`"));
        let again = rewritten(&written, &proofs(&files(&written))).unwrap();
        assert_eq!(again, written);
    }

    #[test]
    fn names_and_references_are_understood() {
        assert_eq!(
            Row::of_name("z11_z12_z13_x"),
            [Row('Z', 11), Row('Z', 12), Row('Z', 13)]
        );
        assert_eq!(Row::of_name("k06-iommu"), [Row('K', 6)]);
        assert_eq!(Row::of_name("z1_x"), []);
        assert_eq!(Row::of_name("read_z01"), []);
        assert_eq!(
            named_rows("(rows Z9, C1), arrow K1, row K5: Row S2"),
            [Row('Z', 9), Row('C', 1), Row('K', 5), Row('S', 2)]
        );
        assert_eq!(named_rows("rows of a table, row Kx"), []);
    }
}
