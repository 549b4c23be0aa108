//! Rules of source files: sizes, words, names of modules.

use anyhow::Result;

use crate::tree::Tree;

/// Lines of a file that fits in a head; lists of cases may be longer.
const FILE_LINES: usize = 700;
const TEST_FILE_LINES: usize = 1000;
/// Lines of a function, and of a test's list of cases.
const FUNCTION_LINES: usize = 100;
const TEST_FUNCTION_LINES: usize = 300;

/// Words of a vocabulary that had to be translated, and what to say instead.
const WORDS: &[(&str, &str)] = &[
    ("foresee", "prefetch"),
    ("parcel", "lent or borrowed segment"),
    ("abroad", "lent"),
    ("let_go", "drain"),
    ("come_round", "heartbeat"),
    ("Whom", "origin"),
];

/// This program has the words it looks for.
const OWN: &str = "ci/tidy.d/";

fn is_code(path: &str) -> bool {
    [".rs", ".c", ".h"].iter().any(|end| path.ends_with(end))
}

fn is_test(path: &str) -> bool {
    path.split('/')
        .any(|name| matches!(name, "test" | "tests" | "test.rs" | "tests.rs"))
}

pub fn sizes(tree: &Tree) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for (path, text) in &tree.files {
        if !is_code(path) && !path.starts_with("ci/") {
            continue;
        }
        let most = match is_test(path) {
            true => TEST_FILE_LINES,
            false => FILE_LINES,
        };
        let lines = text.lines().count();
        if lines > most {
            broken.push(format!("{path} has {lines} lines: find its seam"));
        }
    }
    Ok(broken)
}

pub fn functions(tree: &Tree) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for (path, text) in tree.with(&["rs"]) {
        let most = match is_test(path) {
            true => TEST_FUNCTION_LINES,
            false => FUNCTION_LINES,
        };
        for (line, name, lines) in functions_of(text) {
            if lines > most {
                broken.push(format!("{path}:{line}: {name} has {lines} lines"));
            }
        }
    }
    Ok(broken)
}

/// Functions of a file as rustfmt leaves it: first line, name, number of lines.
fn functions_of(text: &str) -> Vec<(usize, &str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = format!("{indent}}}");
        // A declaration without a body, or one that ends where it begins.
        let is_short = |line: &str| line.ends_with(';') || line.ends_with('}');
        let is_declared = |line: &str| {
            line.strip_prefix(indent)
                .is_some_and(|rest| rest.starts_with(')') || rest.starts_with("-> "))
                && line.ends_with(';')
        };
        if is_short(line) {
            continue;
        }
        let mut rest = lines[at..].iter().take_while(|line| !is_declared(line));
        if let Some(length) = rest.position(|line| *line == end) {
            found.push((at + 1, name, length + 1));
        }
    }
    found
}

/// The name of the function that a line begins.
pub fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    loop {
        if let Some(signature) = rest.strip_prefix("fn ") {
            let end = signature.find(|c: char| !c.is_alphanumeric() && c != '_')?;
            return Some(&signature[..end]);
        }
        let (word, after) = rest.split_once(' ')?;
        let is_qualifier = matches!(word, "const" | "async" | "unsafe" | "extern" | "\"C\"");
        if !is_qualifier && !word.starts_with("pub") {
            return None;
        }
        rest = after;
    }
}

/// Nothing half done, nothing left for later in a comment.
pub fn half_done(tree: &Tree) -> Result<Vec<String>> {
    let marks = ["TODO", "FIXME", "XXX", "HACK"];
    let calls = ["todo!(", "unimplemented!("];
    let of_interest = |path: &str| {
        (is_code(path) || path.ends_with(".toml") || path.starts_with("ci/"))
            && !path.starts_with(OWN)
    };
    Ok(lines(tree, of_interest, |line| {
        marks.iter().any(|mark| has_word(line, mark))
            || calls.iter().any(|call| line.contains(call))
    }))
}

/// The build script of both -sys crates is the only one.
pub fn build_scripts(tree: &Tree) -> Result<Vec<String>> {
    let others = tree.files.keys().filter(|path| {
        path.ends_with("/build.rs") && !path.contains("/src/") && !path.starts_with("src/")
    });
    Ok(others
        .map(|path| format!("{path}: the build script is the root's build.rs"))
        .collect())
}

/// A module with children is `name.rs` beside `name/`.
pub fn modules(tree: &Tree) -> Result<Vec<String>> {
    let named_mod = tree.files.keys().filter(|path| {
        path.ends_with("/mod.rs") && (path.starts_with("src/") || path.contains("/src/"))
    });
    Ok(named_mod
        .map(|path| format!("{path}: name it after its folder, beside it"))
        .collect())
}

/// Words that a reader would have to translate.
pub fn words(tree: &Tree) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for (word, instead) in WORDS {
        let of_interest = |path: &str| !path.starts_with(OWN) && !path.ends_with(".svg");
        let found = lines(tree, of_interest, |line| {
            match word.starts_with(char::is_uppercase) {
                true => has_word(line, word),
                false => line.to_lowercase().contains(word),
            }
        });
        broken.extend(found.iter().map(|line| format!("{line} [{instead}]")));
    }
    Ok(broken)
}

/// Lines of files that are bad, with their places.
fn lines(tree: &Tree, file: impl Fn(&str) -> bool, bad: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.files.iter().filter(|(path, _)| file(path)) {
        for (at, line) in text.lines().enumerate().filter(|(_, line)| bad(line)) {
            found.push(format!("{path}:{}: {}", at + 1, line.trim()));
        }
    }
    found
}

/// Whether `word` stands in `line` by itself.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|other| other == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_to_their_closing_brace() {
        let text = "\
fn one() {}
pub(crate) const unsafe extern \"C\" fn two(
    a: u8,
) -> u8 {
    if a > 0 {
    }
}
trait T {
    fn declared(
        &self,
    );
    fn returns(&self)
    -> u8;
    fn short(&self);
    fn three(&self) {
    }
}
// fn none
";
        let found = functions_of(text);
        assert_eq!(found, [(2, "two", 6), (15, "three", 2)]);
    }

    #[test]
    fn long_files_and_functions_are_found() {
        let body = |lines| format!("fn f() {{\n{}}}\n", "    x();\n".repeat(lines));
        let found = |path: &str, lines| {
            let tree = Tree::of(&[(path, &body(lines))]);
            (sizes(&tree).unwrap().len(), functions(&tree).unwrap().len())
        };
        assert_eq!(found("src/a.rs", 98), (0, 0));
        assert_eq!(found("src/a.rs", 99), (0, 1));
        assert_eq!(found("src/a.rs", 699), (1, 1));
        assert_eq!(found("tests/a.rs", 298), (0, 0));
        assert_eq!(found("a/tests/a.rs", 999), (1, 1));
        assert_eq!(found("docs/a.md", 2000), (0, 0));
    }

    #[test]
    fn marks_are_words() {
        let tree = Tree::of(&[("a.rs", "// TODO: x\nlet todos = XXXL;\ntodo!()\n")]);
        let found = half_done(&tree).unwrap();
        assert_eq!(found, ["a.rs:1: // TODO: x", "a.rs:3: todo!()"]);
    }

    #[test]
    fn modules_build_scripts_and_words_are_found() {
        let tree = Tree::of(&[
            ("src/a/mod.rs", "struct Parcel;"),
            ("a/tests/common/mod.rs", "Whomever, foreseen"),
            ("a/build.rs", "enum Whom {}"),
            ("a/src/build.rs", ""),
            ("build.rs", ""),
        ]);
        let ends = |found: Vec<String>, ends: &[&str]| {
            assert_eq!(found.len(), ends.len(), "{found:?}");
            for (found, end) in found.iter().zip(ends) {
                assert!(found.starts_with(end), "{found}");
            }
        };
        ends(modules(&tree).unwrap(), &["src/a/mod.rs"]);
        ends(build_scripts(&tree).unwrap(), &["a/build.rs"]);
        ends(
            words(&tree).unwrap(),
            &["a/tests/common/mod.rs:1", "src/a/mod.rs:1", "a/build.rs:1"],
        );
    }
}
