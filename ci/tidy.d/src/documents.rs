//! What documents point at is there: paths, links, headings.

use anyhow::Result;

use crate::tree::Tree;

/// Extensions of files that only the tree can have.
const OURS: [&str; 6] = ["rs", "c", "h", "sh", "md", "jq"];

pub fn check(tree: &Tree) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for (path, text) in tree.with(&["md"]) {
        let mut fenced = false;
        for (at, line) in text.lines().enumerate() {
            let mut bad = |what: String| broken.push(format!("{path}:{}: {what}", at + 1));
            if line.starts_with("```") {
                fenced = !fenced;
                continue;
            }
            let words: Vec<&str> = match fenced {
                true => line.split_whitespace().collect(),
                false => line
                    .split('`')
                    .skip(1)
                    .step_by(2)
                    .flat_map(str::split_whitespace)
                    .collect(),
            };
            for word in words {
                if let Some(named) = named_path(tree, word, fenced)
                    && !tree.has(named)
                {
                    bad(format!("there is no {named}"));
                }
            }
            if !fenced {
                for link in links(line) {
                    if let Some(what) = broken_link(tree, path, link) {
                        bad(what);
                    }
                }
            }
        }
    }
    Ok(broken)
}

/// The path of the tree that a word is, if it is one.
fn named_path<'a>(tree: &Tree, word: &'a str, fenced: bool) -> Option<&'a str> {
    let path = word
        .trim_start_matches("./")
        .trim_end_matches([',', ';', ':']);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    if path.starts_with('/') || path.starts_with("target/") || !path.chars().all(is_plain) {
        return None;
    }
    let (first, _) = path.split_once('/').unwrap_or((path, ""));
    let has_top = path.contains('/')
        && !first.is_empty()
        && tree
            .files
            .keys()
            .any(|file| file.split_once('/').is_some_and(|(top, _)| top == first));
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    let has_extension = path.len() > extension.len() + 1 && OURS.contains(&extension);
    let is_folder = path.ends_with('/') && path.len() > 1;
    // In a session at a terminal other programs' files have their place too.
    (has_top || (!fenced && (has_extension || is_folder))).then_some(path)
}

/// Targets of a line's links.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

fn broken_link(tree: &Tree, from: &str, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, heading) = match link.split_once('#') {
        Some((file, heading)) => (file, Some(heading)),
        None => (link, None),
    };
    let path = match file {
        "" => from.to_owned(),
        file => beside(from, file),
    };
    if !tree.files.contains_key(&path) {
        let inside = format!("{}/", path.trim_end_matches('/'));
        let is_folder = tree.files.keys().any(|file| file.starts_with(&inside));
        return (!is_folder).then(|| format!("a link to {path}, which is not there"));
    }
    let heading = heading?;
    let mut headings = tree.files[&path]
        .lines()
        .filter(|line| line.starts_with('#'));
    let there = headings.any(|line| slug(line) == heading);
    (!there).then(|| format!("{path} has no heading #{heading}"))
}

/// `link` as seen from the file `from`.
fn beside(from: &str, link: &str) -> String {
    let mut names: Vec<&str> = from.split('/').collect();
    names.pop();
    for name in link.split('/') {
        match name {
            "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

/// The name by which a heading is linked to.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let tree = Tree::of(&[
            ("docs/a.md", text),
            ("docs/b.md", "## What is *there*, now\n"),
            ("ci/test", ""),
            ("dataplane/net/src/tcp/input.rs", ""),
        ]);
        check(&tree).unwrap()
    }

    #[test]
    fn what_is_there_breaks_nothing() {
        let good = "\
Run `ci/test --fast`, read `tcp/input.rs` and `net/src/tcp/`, [b](b.md#what-is-there-now),
[up](../ci/test), [all](../ci), [out](https://example.com/x.md); `/proc/x.rs`, `target/x/`, `a/b`, `*.rs`, `.rs`.
```console
# ./ci/test
# scp there.rs host:/tmp/
```
";
        assert_eq!(found(good), [""; 0]);
    }

    #[test]
    fn what_is_not_there_is_named_with_its_line() {
        for (text, line, what) in [
            ("x\n`ci/tset`", 2, "ci/tset"),
            ("`tcp/output.rs`", 1, "tcp/output.rs"),
            ("`net/src/udp/`", 1, "net/src/udp/"),
            ("```\n./ci/lab/x\n```", 2, "ci/lab/x"),
            ("[b](c.md)", 1, "docs/c.md"),
            ("[b](b.md#gone)", 1, "#gone"),
            ("[b](#gone)", 1, "#gone"),
        ] {
            let found = found(text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(
                found[0].starts_with(&format!("docs/a.md:{line}: ")),
                "{found:?}"
            );
            assert!(found[0].contains(what), "{found:?}");
        }
    }
}
