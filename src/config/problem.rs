//! What is wrong with a configuration file, shown where it stands.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One thing that is wrong: where, what, and what to write instead.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// Bytes of the file it is about.
    pub(crate) span: Range<usize>,
    /// What is wrong.
    pub(crate) message: String,
    /// What to write instead.
    pub(crate) help: String,
}

/// Everything that is wrong with one file, in the order it stands there.
#[derive(Clone, Debug)]
pub(crate) struct Problems {
    file: PathBuf,
    text: String,
    list: Vec<Problem>,
}

impl Problems {
    pub(crate) fn new(file: &Path, text: &str, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| (problem.span.start, problem.span.end));
        Self {
            file: file.to_owned(),
            text: text.to_owned(),
            list,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            show(f, &self.file, &self.text, problem)?;
        }
        Ok(())
    }
}

/// Characters of a line shown before and after the place; longer lines are cut.
const CONTEXT: usize = 60;

/// `file:line:column: message`, the line itself, and the place in it underlined.
fn show(f: &mut fmt::Formatter<'_>, file: &Path, text: &str, problem: &Problem) -> fmt::Result {
    let place = Place::find(text, &problem.span);
    writeln!(
        f,
        "{}:{}:{}: {}",
        file.display(),
        place.line,
        place.column,
        problem.message
    )?;
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    writeln!(f, " {margin} |")?;
    writeln!(
        f,
        " {number} | {}{}{}",
        place.before, place.marked, place.after
    )?;
    // Tabs stay tabs under the line, so that the marks stand where the text does.
    let indent: String = place
        .before
        .chars()
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    let marks = "^".repeat(place.marked.chars().count().max(1));
    let gap = if problem.help.is_empty() { "" } else { " " };
    writeln!(f, " {margin} | {indent}{marks}{gap}{}", problem.help)
}

/// Where a span stands: line and column from 1, and its line in three parts.
struct Place {
    line: usize,
    column: usize,
    before: String,
    marked: String,
    after: String,
}

impl Place {
    fn find(text: &str, span: &Range<usize>) -> Self {
        let start = floor(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = floor(text, span.end).clamp(start, line_end);
        let before = &text[line_start..start];
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: before.chars().count() + 1,
            before: keep_last(before, CONTEXT),
            marked: keep_first(&text[start..end], CONTEXT),
            after: keep_first(text[end..line_end].trim_end_matches('\r'), CONTEXT),
        }
    }
}

/// The character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

fn keep_first(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => printable(&text[..at]) + "…",
        None => printable(text),
    }
}

fn keep_last(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return printable(text);
    }
    let kept: String = text.chars().skip(count - most).collect();
    "…".to_owned() + &printable(&kept)
}

/// Control characters would move the terminal's cursor; one question mark for each.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\t' { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Range<usize>) -> String {
        let problem = Problem {
            span,
            message: "bad".into(),
            help: "write 1".into(),
        };
        Problems::new(Path::new("a.toml"), text, vec![problem]).to_string()
    }

    #[test]
    fn k06_a_problem_is_shown_where_it_stands() {
        assert_eq!(
            shown("x = 1\n\ty = é2\r\nz = 3\n", 7..8),
            "a.toml:2:2: bad\n   |\n 2 | \ty = é2\n   | \t^ write 1\n"
        );
    }

    #[test]
    fn k06_a_place_past_the_end_or_inside_a_character_is_still_shown() {
        assert!(shown("é", 1..9).starts_with("a.toml:1:1: bad\n   |\n 1 | é\n"));
        assert!(shown("", 5..9).starts_with("a.toml:1:1: bad"));
    }

    #[test]
    fn k06_a_very_long_line_is_cut_around_the_place() {
        let text = format!("{} = {}\n", "k".repeat(500), "v".repeat(500));
        let shown = shown(&text, 503..1003);
        assert!(
            shown.lines().all(|line| line.chars().count() < 150),
            "{shown}"
        );
        assert!(shown.starts_with("a.toml:1:504: bad"));
    }
}
