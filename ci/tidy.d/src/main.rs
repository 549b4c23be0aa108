//! The house rules that a machine can check: `ci/tidy`.

mod commits;
mod crates;
mod documents;
mod rows;
mod source;
mod tree;

use std::process::ExitCode;

use anyhow::{Result, bail};

use tree::Tree;

/// A rule: its name, and what it finds to be broken, a line each.
struct Rule {
    name: &'static str,
    check: fn(&Tree) -> Result<Vec<String>>,
}

const RULES: &[Rule] = &[
    Rule {
        name: "crates",
        check: crates::check,
    },
    Rule {
        name: "sizes",
        check: source::sizes,
    },
    Rule {
        name: "functions",
        check: source::functions,
    },
    Rule {
        name: "half-done",
        check: source::half_done,
    },
    Rule {
        name: "build-scripts",
        check: source::build_scripts,
    },
    Rule {
        name: "modules",
        check: source::modules,
    },
    Rule {
        name: "words",
        check: source::words,
    },
    Rule {
        name: "documents",
        check: documents::check,
    },
    Rule {
        name: "rows",
        check: rows::check,
    },
    Rule {
        name: "commits",
        check: commits::check,
    },
];

/// Rules that the tree does not keep yet: counted, and not failed. Take a name
/// out as soon as it does.
const PENDING: &[&str] = &[];

fn main() -> ExitCode {
    let argument = std::env::args().nth(1);
    let done = match argument.as_deref() {
        None => check(PENDING),
        Some("--all") => check(&[]),
        Some("--rows") => Tree::load().and_then(|tree| rows::write(&tree)),
        Some(other) => Err(anyhow::anyhow!(
            "no option {other}: it is --all, --rows or none"
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Checks every rule; those of `pending` are only counted.
fn check(pending: &[&str]) -> Result<()> {
    let tree = Tree::load()?;
    let mut broken = 0;
    for rule in RULES {
        let found = (rule.check)(&tree).unwrap_or_else(|error| vec![format!("{error:#}")]);
        if pending.contains(&rule.name) {
            eprintln!("pending: {} ({} places)", rule.name, found.len());
            continue;
        }
        broken += found.len();
        for line in found {
            println!("{}: {line}", rule.name);
        }
    }
    if broken > 0 {
        bail!("{broken} places break the house rules");
    }
    Ok(())
}
