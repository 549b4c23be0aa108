//! The files of the repository, read once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What git has, or would take: paths from the root, and their text.
pub struct Tree {
    pub root: PathBuf,
    pub files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the tree that the current directory belongs to.
    pub fn load() -> Result<Self> {
        let root = PathBuf::from(run("git", &["rev-parse", "--show-toplevel"])?.trim());
        std::env::set_current_dir(&root).context("the root of the tree")?;
        let list = run(
            "git",
            &[
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ],
        )?;
        let mut files = BTreeMap::new();
        for path in list.split('\0').filter(|path| !path.is_empty()) {
            // Deleted and not committed yet, or a link: nothing to read.
            if let Ok(bytes) = std::fs::read(root.join(path)) {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                files.insert(path.to_owned(), text);
            }
        }
        Ok(Self { root, files })
    }

    /// The text of a file that must be there.
    pub fn text(&self, path: &str) -> Result<&str> {
        let text = self.files.get(path).map(String::as_str);
        text.with_context(|| format!("{path} is missing"))
    }

    /// Whether a file or a folder ends with `path`, whole names only.
    pub fn has(&self, path: &str) -> bool {
        let (folder, path) = match path.strip_suffix('/') {
            Some(path) => (true, path),
            None => (false, path),
        };
        let inside = format!("/{path}/");
        let end = format!("/{path}");
        self.files.keys().any(|file| {
            let file = format!("/{file}");
            (!folder && file.ends_with(&end)) || file.contains(&inside)
        })
    }

    /// The files of these extensions.
    pub fn with<'a>(&'a self, extensions: &'a [&str]) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files.iter().filter_map(move |(path, text)| {
            let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
            extensions
                .contains(&extension)
                .then_some((path.as_str(), text.as_str()))
        })
    }

    /// A tree of these files, for tests.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|&(path, text)| (path.to_owned(), text.to_owned()));
        Self {
            root: PathBuf::new(),
            files: files.collect(),
        }
    }
}

/// What a program prints, if it succeeds.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let what = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(what)?;
    ensure!(
        output.status.success(),
        "{}: {}",
        what(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::Tree;

    #[test]
    fn a_path_is_found_by_whole_names_at_its_end() {
        let tree = Tree::of(&[("dataplane/net/src/tcp/input.rs", "")]);
        for there in [
            "tcp/input.rs",
            "input.rs",
            "net/src/tcp/",
            "dataplane",
            "tcp",
        ] {
            assert!(tree.has(there), "{there}");
        }
        for missing in ["put.rs", "cp/", "tcp/input.rs/", "udp/input.rs"] {
            assert!(!tree.has(missing), "{missing}");
        }
    }
}
