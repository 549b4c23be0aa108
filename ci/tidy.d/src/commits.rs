//! Commit subjects fit a line.

use std::process::Command;

use anyhow::{Context, Result};

use crate::tree::{Tree, run};

/// The last commit before the rule: it and its ancestors are exempt.
const BASE: &str = "a6dc8f9b8ba011918d4fae01e977fd079f8d1a4f";
/// Since then, but before the rule was checked.
const EXEMPT: [&str; 2] = [
    "23f704faa49c9c44a8b058cc51280bd61e19b281",
    "f38b238e9fe1874e9ca16d96ace44a743121870b",
];
/// The longest subject, in characters.
const LONGEST: usize = 72;

pub fn check(_: &Tree) -> Result<Vec<String>> {
    let in_history = Command::new("git")
        .args(["merge-base", "--is-ancestor", BASE, "HEAD"])
        .output()
        .context("git merge-base")?;
    if !in_history.status.success() {
        eprintln!(
            "SKIPPED commits: {} is not in this history (a shallow clone?), so no subject was checked",
            &BASE[..7]
        );
        return Ok(Vec::new());
    }
    let range = format!("{BASE}..HEAD");
    let log = run("git", &["log", "--no-merges", "--format=%H %s", &range])?;
    Ok(too_long(&log))
}

/// What breaks the rule in lines of a hash and a subject.
fn too_long(log: &str) -> Vec<String> {
    log.lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(hash, _)| !EXEMPT.contains(hash))
        .filter_map(|(hash, subject)| {
            let length = subject.chars().count();
            (length > LONGEST).then(|| {
                let hash = hash.get(..7).unwrap_or(hash);
                format!("{hash}: a subject of {length} characters, {LONGEST} at most: {subject}")
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{EXEMPT, LONGEST, too_long};

    #[test]
    fn a_subject_is_counted_in_characters() {
        let fits = format!("0123abc {}", "ä".repeat(LONGEST));
        assert!(too_long(&fits).is_empty());
        let long = format!("{fits}\n0123abd {}", "a".repeat(LONGEST + 1));
        assert_eq!(too_long(&long).len(), 1);
        assert!(too_long(&long)[0].starts_with("0123abd: "));
        assert!(too_long(&format!("{} {}", EXEMPT[0], "a".repeat(99))).is_empty());
    }
}
